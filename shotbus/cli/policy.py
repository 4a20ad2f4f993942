"""``policy explain``: what the routing policy would do with a request, and why, without running it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from shotbus.broker.config import Config
from shotbus.broker.policy.decision import Decision
from shotbus.cli.common import Options, command_options, emit, printable, quick_command_options
from shotbus.cli.explaining import asked_of, decide, envelope, wrong
from shotbus.cli.live import About, source_of
from shotbus.cli.policybudgets import Covering, covering
from shotbus.cli.policydoor import AtTheDoor, at_the_door
from shotbus.cli.requestfile import RequestFile, is_request_file, read_request
from shotbus.cli.steps import step_lines
from shotbus.cli.submission import submission_options
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.openqasm import CircuitFacts, CircuitLimits, inspect

# What the other submission options say does not count for routing.
_IRRELEVANT = ("max_result_age", "seed", "precision")
# These go beside the file's own, name by name.
_TABLES = ("options_", "quality_")


@click.group()
def policy() -> None:
    """Say where the routing policy would send a request, and why."""


@policy.command(short_help="Say what would become of a request.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@submission_options
@click.option("--unique-key", default="", help="Of jobs with one key only one lives at a time.")
@click.option("--unique-policy", default="", metavar="WHAT", help="existing, reject or supersede.")
@click.option("--points", type=click.IntRange(1), help="Points of its bindings [default: 1].")
@click.option("--flag", "flags", multiple=True, metavar="NAME=VALUE", help="Switch a flag: on, off, percent.")
@click.option("--at", metavar="TIME", help="As if it were then, such as 2026-12-24T22:00+01:00.")
@click.option("--offline", is_flag=True, help="Ask no broker: the configuration counts, pools are idle.")
@quick_command_options
def explain(options: Options, file: Path, **given: Any) -> None:
    """Say what would become of FILE now, without running it.

    FILE is a circuit (OpenQASM 3 or 2; - reads standard input) with the options of submit, or a request
    (.toml or .json) that says the same; options go over it. A broker that runs is asked what it decides
    with: the policy in force, flags, pools, what was measured. Without one the configuration counts and
    pools are idle, which is said. Of budgets only the limits are looked at, not what is left. It also says
    which level of shedding strikes the class, who has its unique key, and which quality gates there are.
    """
    at, offline, flags = given.pop("at"), given.pop("offline"), _flags(given.pop("flags"))
    request = _request(file, given)
    # Files of templates are named by the configuration here; a broker's may be on another host.
    request = replace(request, circuit=options.config.templates.get(request.circuit, request.circuit))
    now_ms = _moment(at)
    family = request.family.partition("@")[0]
    about = About(request.tenant, request.session, family, request.unique_key)
    source = source_of(options, about, offline=offline)
    config, problems = source.force.config, list[Problem]()
    has_circuit = bool(request.program or request.circuit)
    of_circuit = list[Problem]()
    circuit = _circuit(file, request, config, of_circuit) if has_circuit else None
    fields = envelope(request, circuit, has_circuit=has_circuit, now_ms=now_ms, problems=problems)
    problems += wrong(fields, flags, config, now_ms) + of_circuit
    if problems:
        raise ShotbusError(problems)
    asked = asked_of(fields, request, circuit, source.force)
    decision = decide(asked, fields, source.force, flags, now_ms)
    budgets = covering(config, asked, decision.pool, source.force.view(decision.pool), now_ms)
    data = {"decision": _data(decision), "trail": decision.trail, "pools": source.words, "live": source.live}
    door = at_the_door(decision, fields, source.force.door)
    data |= {"budgets": budgets.as_json(), "door": door.as_json()}
    if circuit is not None:
        data["circuit"] = _facts(circuit)
    emit(options, data, "\n".join([*_page(decision, budgets, door, now_ms), source.words]))


def _request(file: Path, given: Mapping[str, Any]) -> RequestFile:
    """Return the request: the file, and over it what the command line really says.

    Raises ShotbusError with all that is wrong.
    """
    context = click.get_current_context()
    said = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if name not in (*_IRRELEVANT, *_TABLES)
        and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if is_request_file(file):
        return _with_tables(read_request(file, said), given["options_"], given["quality_"])
    from shotbus.broker.config_parse import parse

    request = parse(RequestFile, {"circuit": str(file), **said})
    return _with_tables(request, given["options_"], given["quality_"])


def _with_tables(request: RequestFile, options: tuple[str, ...], quality: tuple[str, ...]) -> RequestFile:
    """Return a request with options of the backend and of its gate beside its own."""
    if not options and not quality:
        return request
    # Not before it is needed: it loads numpy.
    from shotbus.cli.inputs import parse_options

    told, problems = parse_options(options)
    gate, wrong_gate = parse_options(quality, "--quality")
    if problems + wrong_gate:
        raise ShotbusError(problems + wrong_gate)
    return replace(request, options=request.options | told, quality=request.quality | gate)


def _circuit(
    file: Path, request: RequestFile, config: Config, problems: list[Problem]
) -> CircuitFacts | None:
    """Inspect the circuit. What is wrong with it is added to ``problems``."""
    text = request.program or _text(file, request.circuit)
    try:
        return inspect(text, CircuitLimits(bytes=config.limits.max_circuit_bytes))
    except ShotbusError as error:
        problems += error.problems
        return None


def _text(file: Path, name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    path = file.parent / name if is_request_file(file) else Path(name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise fail("SB-2003", str(path), detail=str(error), hint="check the path") from error


def _flags(pairs: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = {"on": 100.0, "off": 0.0}[value] if value in ("on", "off") else float(value)
        except ValueError:
            raise fail("SB-2002", "--flag", limit="NAME=on, off or a percentage", actual=pair) from None
    return found


def _moment(at: str | None) -> int:
    """Return a time as wall milliseconds, now for None; without an offset it is this machine's own."""
    if at is None:
        return time.time_ns() // 1_000_000
    try:
        return int(datetime.fromisoformat(at).timestamp() * 1000)
    except ValueError:
        raise fail("SB-2002", "--at", limit="such as 2026-12-24T22:00+01:00", actual=at) from None


def _data(decision: Decision) -> dict[str, Any]:
    told = {name: value for name, value in asdict(decision).items() if name != "trail"}
    return told | {
        "problems": [problem.as_json() for problem in decision.problems],
        "fallback": [str(step) for step in decision.fallback],
        "step": str(decision.step) if decision.step else None,
    }


def _facts(circuit: CircuitFacts) -> dict[str, Any]:
    names = ("language", "qubits", "clbits", "operations", "two_qubit_gates", "depth_bound", "measurements")
    told: dict[str, Any] = {name: getattr(circuit, name) for name in names}
    return told | {"parameters": len(circuit.parameters), "gates": dict(circuit.gates)}


def _page(decision: Decision, budgets: Covering, door: AtTheDoor, now_ms: int) -> Iterator[str]:
    never = "refused by a budget, else " if budgets.problems else ""
    shut = f"{door.verdict}, else " if door.verdict and not decision.refused else ""
    yield f"{shut}{never}{_headline(decision)}  (rule {decision.rule}, policy {decision.version})"
    if decision.not_before_ms:
        yield f"  not before {(decision.not_before_ms - now_ms) / 1000:.0f} s from now"
    for name in ("priority", "shadow", "requires", "fallback", "max_queue_seconds"):
        if value := getattr(decision, name):
            told = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"  {name.replace('_', ' ')}: {printable(str(told))}"
    if decision.prescreen:
        screen = decision.prescreen
        yield f"  first on {screen.pool}, and on when {screen.quantity} is in {screen.keep}"
    yield from (f"  {printable(str(problem))}" for problem in decision.problems)
    yield from (f"  {printable(line)}" for line in (*budgets.lines(), *door.lines()))
    yield "why:"
    yield from (f"  {line}" for line in step_lines(decision.trail))


def _headline(decision: Decision) -> str:
    words = {"refuse": "refused", "cache": "an earlier result", "review": "waits for a person"}
    if decision.action != "run":
        return words[decision.action] + (f", then {decision.pool}" if decision.pool else "")
    marks = [name for name in ("canary", "explore", "waits") if getattr(decision, name)]
    return f"{decision.pool} for {decision.price:g}" + "".join(f", {mark}" for mark in marks)


@policy.command("apply", short_help="Have the broker route by a file from now on, without a restart.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--remove", multiple=True, metavar="PATH", help="Remove windows.NAME, rules.NAME or the like.")
@click.option("--replace", "whole", is_flag=True, help="FILE is the whole policy: the rest gets its default.")
@click.option("--dry-run", is_flag=True, help="Only say what would change in the policy in force.")
@click.option("--offline", is_flag=True, help="With --dry-run: ask no broker, the configuration counts.")
@click.option("--reason", default="", help="Why; kept in the audit log. It must be there, but for a dry run.")
@command_options
def apply_(
    options: Options,
    file: Path | None,
    remove: tuple[str, ...],
    *,
    whole: bool,
    dry_run: bool,
    offline: bool,
    reason: str,
) -> None:
    """Have the broker route by FILE: its [routing], [windows], [families], [flags], [latency] and pools.

    Of pools it takes device, access and price. FILE goes over the policy that is in force in the broker: what
    it does not mention stays. Tables go key by key; a rule takes the place of the one of its name, a new one
    stands behind the rule before it in FILE, else in front of all; rules = [] is none. --remove takes
    windows, families, flags, latency or rules with their .NAME, or pools.NAME.price, .access or .device.

    Every shard answers; the policy survives restarts until the roles are started with another one in their
    configuration.
    """
    if (file is None and not remove) or (whole and (remove or file is None)) or (offline and not dry_run):
        raise click.UsageError("give FILE, --remove, or FILE with --replace; --offline is for --dry-run")
    from shotbus.cli.policyapply import apply_policy, try_policy, wanted

    want = wanted(file, remove, whole=whole)
    if dry_run:
        try_policy(options, want, offline=offline)
    else:
        apply_policy(options, want, reason=reason)
