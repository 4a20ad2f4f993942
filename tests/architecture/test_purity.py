"""What decides is pure: no clock, no randomness, no I/O, no order that depends on a hash."""

import ast

import pytest

MACHINES = [
    *(
        f"shotbus.broker.dispatcher.{name}"
        for name in (
            "admission",
            "ahead",
            "answers",
            "arbiter",
            "attempted",
            "beside",
            "breaker",
            "breakers",
            "broadcasts",
            "bundles",
            "carrying",
            "clocks",
            "companions",
            "concurrency",
            "credits",
            "done",
            "drain",
            "earlier",
            "error_window",
            "eta",
            "histories",
            "job",
            "jobbook",
            "kept",
            "keys",
            "lanes",
            "leaving",
            "stranded",
            "machine",
            "messages",
            "newcomers",
            "packedjobs",
            "packing",
            "patience",
            "peers",
            "placebook",
            "places",
            "recalling",
            "reports",
            "reuse",
            "ladders",
            "largeanswers",
            "load",
            "remedies",
            "retry",
            "retry_budget",
            "moves",
            "setback",
            "sessions",
            "shedding",
            "window",
            "slab",
            "sortedrun",
            "speculation",
            "staging",
            "standing",
            "states",
            "tallies",
            "timetable",
            "waiting",
            "hours",
            "rows",
        )
    ),
    *(
        f"shotbus.broker.policy.{name}"
        for name in (
            "candidates",
            "check",
            "choice",
            "circuits",
            "conditions",
            "config",
            "deciding",
            "decision",
            "diff",
            "doorview",
            "facts",
            "families",
            "inforce",
            "merge",
            "policy",
            "reload",
            "rulebook",
            "shares",
            "steps",
            "windows",
        )
    ),
    *(
        f"shotbus.broker.treasury.{name}"
        for name in (
            "account",
            "allowance",
            "answers",
            "budgets",
            "holding",
            "machine",
            "periods",
            "prices",
            "refusals",
            "rows",
        )
    ),
    "shotbus.broker.audit",
    "shotbus.broker.job_options",
    "shotbus.broker.quality",
    "shotbus.broker.template_names",
    "shotbus.broker.quality_judge",
    "shotbus.broker.timeouts",
    "shotbus.broker.invariants.audits",
    "shotbus.broker.invariants.purses",
    "shotbus.broker.store.ends",
    "shotbus.broker.invariants.checker",
    "shotbus.broker.machine",
    "shotbus.broker.deadletters",
    "shotbus.broker.inspection.book",
    "shotbus.broker.inspection.facts",
    "shotbus.broker.stages",
    "shotbus.broker.bus.memory_log",
    "shotbus.reducers.fold",
    "shotbus.reducers.sweep",
    "shotbus.reducers.reductions",
    "shotbus.reducers.minima",
    "shotbus.broker.bucket",
    "shotbus.workers.adapters.aer_fit",
    "shotbus.workers.compiled.entry",
    "shotbus.workers.compiled.reuse",
    "shotbus.workers.credits",
    "shotbus.workers.parts",
]
FORBIDDEN = {
    *(
        "time",
        "datetime",
        "random",
        "secrets",
        "uuid",
        "asyncio",
        "threading",
        "multiprocessing",
        "concurrent",
    ),
    *("os", "io", "socket", "select", "signal", "subprocess", "pathlib", "shutil", "tempfile", "sqlite3"),
    *("structlog", "logging", "redis", "aiokafka", "prometheus_client", "qiskit", "qiskit_aer", "pennylane"),
}
# The codec writes into a buffer in memory, and the schemas are read from the package once, at the first use.
MEMORY_ONLY = {("shotbus.schemas.codec", "io"), ("shotbus.schemas.openqasm", "io")}
CALLS = {"open", "print", "input", "exec", "eval", "hash", "id", "breakpoint", "globals"}
SETS = {"set", "frozenset"}
ORDERED = {"sorted", "len", "min", "max", "sum", "any", "all", "bool", "isinstance"}


def reached(name, modules, found=None):
    """The module and everything of ours that it imports, in turn."""
    found = {} if found is None else found
    if name not in found:
        found[name] = modules[name]
        for other, taken in modules[name].imports():
            for candidate in (other, f"{other}.{taken}"):
                if candidate in modules:
                    reached(candidate, modules, found)
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_reaches_no_clock_no_chance_and_no_io(modules, name):
    wrong = [
        f"{module.place} imports {other}"
        for reached_name, module in reached(name, modules).items()
        for other, _ in module.imports()
        if other.partition(".")[0] in FORBIDDEN and (reached_name, other) not in MEMORY_ONLY
    ]
    assert wrong == []


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_awaits_nothing_and_calls_nothing_impure(modules, name):
    tree = modules[name].tree
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Global, ast.Nonlocal)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, kinds)] == []
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and is_name(node.func)]
    assert [function for function in called if function in CALLS] == []


@pytest.mark.parametrize("name", [*MACHINES, "shotbus.broker.runner", "shotbus.broker.ledger"])
def test_no_order_comes_from_a_set(modules, name):
    wrong = [node.lineno for node in ast.walk(modules[name].tree) for one in walked(node) if is_set(one)]
    assert wrong == []


def is_name(node):
    return isinstance(node, ast.Name)


def is_set(node):
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    call = isinstance(node, ast.Call) and is_name(node.func) and node.func.id in SETS
    return call or isinstance(node, ast.Set | ast.SetComp)


def walked(node):
    """What a loop, a comprehension or a call of list, tuple, dict, join … goes through, in its own order."""
    if isinstance(node, ast.For | ast.comprehension | ast.YieldFrom):
        yield node.value if isinstance(node, ast.YieldFrom) else node.iter
    elif isinstance(node, ast.Starred):
        yield node.value
    elif isinstance(node, ast.Call) and not (is_name(node.func) and node.func.id in ORDERED | SETS):
        yield from node.args
