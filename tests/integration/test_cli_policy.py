"""``shotbus policy explain``: what would become of a request, without running it."""

import json
import subprocess
import sys
import time

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, Broker

CONFIG = """
[pools.qpu]
adapter = "aer"
kind = "hardware"
price.per_task = 0.5
[windows.night]
cron = "0 22 * * *"
minutes = 120
[flags]
new = false
[families.bell]
versions = ["1"]
qubits = "2"
[[routing.rules]]
name = "new way"
flag = "new"
then = { pools = ["noop"] }
[[routing.rules]]
name = "hardware"
when = { classes = ["production"], qubits = "2..20" }
then = { pools = ["qpu"], fallback = ["aer"], window = "night", require = ["approval"] }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shotbus.toml").write_text(CONFIG)
    (tmp_path / "bell.qasm").write_text(BELL)
    (tmp_path / "request.toml").write_text(
        'circuit = "bell.qasm"\npriority = "production"\nfamily = "bell@1"\n'
    )
    return tmp_path


def explained(folder, *words, **options):
    return told(folder, "policy", "explain", *words, **options)


def test_a_circuit_with_the_options_of_submit_is_explained_and_nothing_is_made(folder):
    found = explained(folder, "bell.qasm", "--priority", "production", "--at", "2026-12-24T12:00+00:00")
    decision = found["decision"]
    assert (decision["pool"], decision["rule"], decision["price"]) == ("qpu", "hardware", 0.5)
    assert (decision["requires"], decision["fallback"]) == (["approval"], ["aer"])
    assert decision["not_before_ms"] == 1_798_149_600_000  # 22:00
    assert found["circuit"]["two_qubit_gates"] == 1
    assert [step["step"] for step in found["trail"]] == ["rule", "rule", "candidate", "decided"]
    assert not found["live"]
    assert "taken to be ready and idle" in found["pools"]
    assert not (folder / ".shotbus").exists()


def test_a_request_file_says_the_same_and_options_go_over_it(folder):
    assert explained(folder, "request.toml")["decision"]["pool"] == "qpu"
    assert explained(folder, "request.toml", "--priority", "bulk")["decision"]["pool"] == "aer"
    document = {"program": BELL, "priority": "production", "points": 3}
    (folder / "request.json").write_text(json.dumps(document))
    assert explained(folder, "request.json")["decision"]["pool"] == "qpu"


def test_a_flag_can_be_tried_before_it_is_switched(folder):
    assert explained(folder, "bell.qasm")["decision"]["pool"] == "aer"
    assert explained(folder, "bell.qasm", "--flag", "new=on")["decision"]["pool"] == "noop"


def test_the_text_names_rule_price_and_every_step(folder):
    text = said(folder, "policy", "explain", "request.toml", "--at", "2026-12-24T22:30+00:00")
    assert text.startswith("qpu for 0.5  (rule hardware, policy ")
    assert "rule: rule new way, matched false, why flag new is off" in text
    assert "candidate: pool qpu, state ready, price 0.5" in text


def test_a_refusal_is_an_answer_with_its_problems(folder):
    wide = BELL.replace("[2]", "[40]")
    found = explained(folder, "-", "--backend", "qpu", text=wide)
    assert found["decision"]["action"] == "refuse"
    assert [one["code"] for one in found["decision"]["problems"]] == ["SB-1116"]
    false = explained(folder, "-", "--family", "bell@1", text=wide)
    assert [one["code"] for one in false["decision"]["problems"]] == ["SB-1150"]


def test_everything_that_is_wrong_with_a_request_is_said_at_once(folder):
    (folder / "request.toml").write_text(
        'program = "frob q;"\npriority = "prodction"\nwindow = "nihgt"\nfallback = ["cach:5"]\npoints = 0\n'
    )
    problems = explained(folder, "request.toml", "--flag", "old=on", code=2)["errors"]
    assert {one["code"] for one in problems} >= {"SB-1101", "SB-2002", "SB-1305"}
    assert {one["path"] for one in problems} >= {
        "$.priority",
        "$.window",
        "$.fallback[0]",
        "--flag",
        "$.points",
    }
    (folder / "request.toml").write_text("prioriti = 'bulk'")
    (problem,) = explained(folder, "request.toml", code=2)["errors"]
    assert (problem["code"], problem["hint"]) == ("SB-2001", "did you mean 'priority'?")


@pytest.mark.parametrize(
    "words", [["--at", "noon"], ["--flag", "new=maybe"], ["--points", "0"], ["--deadline", "x"]], ids=" ".join
)
def test_an_option_that_cannot_be_read_exits_with_2(folder, words):
    assert invoke(folder, "policy", "explain", "bell.qasm", *words)[0] == 2


def until(folder, holds, *words):
    """Ask again until the answer is as it should be: what workers advertise comes when they come to it."""
    found = explained(folder, *words)
    end = time.monotonic() + 30
    while not holds(found) and time.monotonic() < end:
        found = explained(folder, *words)
    return found


def state(found):
    return next(step["state"] for step in found["trail"] if step["step"] == "candidate")


def test_a_broker_that_runs_tells_how_its_pools_are(tmp_path):
    with Broker(tmp_path / "data", "noop") as broker:
        (tmp_path / "bell.qasm").write_text(BELL)
        words = ("bell.qasm", "--backend", "noop", "--url", broker.url)
        found = until(tmp_path, lambda one: one["live"] and not one["decision"]["waits"], *words)
        assert (found["live"], found["decision"]["waits"]) == (True, False)
        words_of_aer = ("bell.qasm", "--backend", "aer", "--url", broker.url)
        assert until(tmp_path, lambda one: one["live"], *words_of_aer)["decision"]["waits"]
        said(tmp_path, "pools", "pause", "noop", "--url", broker.url)
        # On a busy machine its worker may fall silent for a moment, and it waits for that first.
        paused = until(tmp_path, lambda one: state(one) == "paused", *words)
        assert (state(paused), paused["decision"]["waits"]) == ("paused", True)


def test_a_broker_that_cannot_be_reached_is_said_and_does_not_fail_it(folder):
    found = explained(folder, "bell.qasm", "--url", "kafka://127.0.0.1:9?store=memory")
    assert (found["live"], found["decision"]["pool"]) == (False, "aer")
    assert "cannot be asked" in found["pools"]


def test_it_imports_no_sdk_and_neither_numpy_nor_an_event_loop(folder):
    heavy = ("qiskit", "pennylane", "numpy", "aiokafka", "redis", "rich", "asyncio", "structlog", "fastavro")
    code = (
        "import sys\nfrom shotbus.cli.main import cli\n"
        "try:\n    cli(['policy', 'explain', 'bell.qasm'], prog_name='shotbus')\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=folder
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"


BUDGETS = """
[budgets.team]
tenant = "*"
limit = 3.0
period = "month"
[budgets.few]
resource = "shots"
limit = 5000.0
[budgets.other]
tenant = "bob"
limit = 1.0
"""


@pytest.fixture
def funded(folder):
    (folder / "shotbus.toml").write_text(CONFIG.replace("per_task = 0.5", "per_shot = 0.001") + BUDGETS)
    return folder


def test_the_budgets_of_a_job_are_named_and_that_their_balance_is_not_looked_at(funded):
    text = said(funded, "policy", "explain", "request.toml")
    assert "  budgets: few, team; what is left of them is not looked at: shotbus budget\n" in text
    assert text.startswith("qpu for ")
    found = explained(funded, "request.toml")["budgets"]
    assert found == {"names": ["few", "team"], "balances_checked": False, "problems": []}


def test_a_job_that_alone_exceeds_a_limit_is_refused_as_at_the_door(funded):
    words = ("request.toml", "--shots", "8000")
    found = explained(funded, *words)["budgets"]["problems"]
    told_ = [(one["code"], one["path"], one["limit"], one["actual"]) for one in found]
    assert told_ == [
        ("SB-1120", "$.budgets.few", "5000", "8000 shots wanted"),
        ("SB-1121", "$.budgets.team", "3 a month", "8 money wanted"),
    ]
    assert said(funded, "policy", "explain", *words).startswith("refused by a budget, else qpu for 8  (rule")


def test_nothing_is_said_of_budgets_where_there_are_none(folder):
    assert "budgets" not in said(folder, "policy", "explain", "request.toml")


@pytest.mark.parametrize("pool", ['adapter = "noop"', "price.per_task = 1.0", ""])
@pytest.mark.parametrize("words", [["--dry-run"], ["--dry-run", "--offline"]])
def test_a_policy_with_a_pool_that_the_roles_do_not_have_is_refused(folder, pool, words):
    (folder / "new.toml").write_text(f"{CONFIG}\n[pools.other]\n{pool}\n")
    (error,) = told(folder, "policy", "apply", "new.toml", *words, code=2)["errors"]
    assert (error["code"], error["path"]) == ("SB-1102", "$.pools.other")
    assert "a pool is added by a restart" in error["hint"]
    assert error["detail"].startswith("judged by shotbus.toml, no broker was asked (")
    assert not (folder / ".shotbus").exists(), "nothing was started"


def test_of_a_pool_that_there_is_a_policy_takes_what_routing_looks_at(folder):
    changed = CONFIG.replace("price.per_task = 0.5", "price.per_task = 0.75").replace(
        "minutes = 120", "minutes = 60"
    )
    (folder / "new.toml").write_text(changed)
    found = told(folder, "policy", "apply", "new.toml", "--dry-run")
    assert not found["applied"]
    assert len(found["changes"]) == 2
    assert not found["live"]
    assert found["against"].startswith("compared with shotbus.toml, no broker was asked (nothing runs in ")


def test_a_policy_is_taken_by_a_broker_that_runs_and_none_is_started_for_it(folder):
    (folder / "new.toml").write_text(CONFIG)
    (error,) = told(folder, "policy", "apply", "new.toml", "--reason", "more room", code=3)["errors"]
    assert error["code"] == "SB-2004"
    assert "shotbus up" in error["hint"]
    assert not (folder / ".shotbus").exists(), "nothing was started"


@pytest.mark.parametrize(
    "words", [["--dry-run"], ["new.toml", "--replace", "--remove", "flags.new"], ["new.toml", "--offline"]]
)
def test_what_is_to_change_must_be_clear(folder, words):
    (folder / "new.toml").write_text(CONFIG)
    assert "give FILE, --remove, or FILE with --replace" in said(folder, "policy", "apply", *words, code=2)
