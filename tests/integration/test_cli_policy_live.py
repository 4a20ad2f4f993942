"""``shotbus policy explain`` beside a broker: it says what a submission of the same then does."""

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, Broker, eventually

from shotbus import Client, JobFailedError
from shotbus.broker.config_loader import load_config

CONFIG = """
[pools.other]
adapter = "noop"
kind = "none"
[pools.broken]
adapter = "sleep"
kind = "none"
attempt_seconds = 0.3
breaker = { min_calls = 1, error_rate = 0.5, pause_seconds = 600.0, pause_cap = 600.0 }
[pools.flaky]
adapter = "faulty"
breaker = { min_calls = 1000 }
[retry]
max_attempts = 1
[flags]
new = false
[families.vqe]
[families.ans]
[routing]
default = "noop"
min_history = 3
[[routing.rules]]
name = "new way"
flag = "new"
when = { tags = ["flagged"] }
then = { pools = ["other"] }
[[routing.rules]]
name = "known to be good"
when = { families = ["vqe"] }
then = { pools = ["other", "noop"], unknown = "next" }
where = { success = "0.5.." }
[[routing.rules]]
name = "may fail"
when = { families = ["ans"], tags = ["may fail"] }
then = { pools = ["flaky"], fallback = ["noop"] }
[[routing.rules]]
name = "agrees"
when = { families = ["ans"], tags = ["agrees"] }
then = { pools = ["flaky"], unknown = "default" }
where = { deviation = "..0.01" }
[[routing.rules]]
name = "succeeds"
when = { families = ["ans"] }
then = { pools = ["flaky"], unknown = "next" }
where = { success = "0.9.." }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    (folder / "data").mkdir()
    text = f'[broker]\nurl = "sqlite:///{folder / "data"}"\n{CONFIG}'
    for place in (folder, folder / "data"):
        (place / "shotbus.toml").write_text(text)
    (folder / "bell.qasm").write_text(BELL)
    with Broker(folder / "data", "noop", "other", "broken", "flaky"):
        eventually(lambda: explained(folder)["live"])
        yield folder


@pytest.fixture(scope="module")
def client(folder):
    config = load_config(folder / "shotbus.toml").config
    with Client(config.broker.url, config=config) as client:
        yield client


def explained(folder, *words):
    return told(folder, "policy", "explain", "bell.qasm", *words)


def decided(folder, *words):
    decision = explained(folder, *words)["decision"]
    return decision["pool"], decision["rule"]


def went(client, **options):
    """Where a submission of the same really went, and by which rule."""
    job = client.submit(BELL, shots=1, **options)
    rule = job.result(30).rule
    return job.events()[-1]["pool"], rule


def test_without_history_and_with_it_it_says_where_a_job_of_the_family_goes(folder, client):
    words = ("--family", "vqe")
    assert decided(folder, *words) == went(client, family="vqe") == ("noop", "(default)")
    for _ in range(3):
        client.submit(BELL, shots=1, family="vqe", backend="other").result(30)
    found = eventually(lambda: _ruled(decided(folder, *words)))
    assert found == went(client, family="vqe") == ("other", "known to be good")
    assert decided(folder, *words, "--offline") == ("noop", "(default)")


def _ruled(found):
    return found if found[1] != "(default)" else None


def test_what_fell_back_counts_for_the_pool_that_failed_and_what_was_not_compared_is_not_known(
    folder, client
):
    plain = {"family": "ans", "tags": ["may fail"]}
    for _ in range(4):
        assert went(client, **plain) == ("flaky", "may fail")
    assert eventually(lambda: _ruled(decided(folder, "--family", "ans"))) == ("flaky", "succeeds")
    assert decided(folder, "--family", "ans", "--tag", "agrees") == ("noop", "(default)")
    for _ in range(4):
        job = client.submit(BELL, shots=1, options={"fault": "transient"}, **plain)
        assert job.result(30).fallback_from == "flaky"
    found = eventually(lambda: _rejecting(explained(folder, "--family", "ans")))
    assert found == ["success: 0.5 is not 0.9.., limit 0.9.."]


def _rejecting(found):
    return next((one["rejected"] for one in found["trail"] if one.get("pool") == "flaky"), None)


def test_a_flag_that_was_switched_counts_and_one_that_is_tried_goes_over_it(folder, client):
    words = ("--tag", "flagged")
    assert decided(folder, *words)[0] == "noop"
    said(folder, "flag", "new", "on", "--reason", "a test")
    assert decided(folder, *words) == went(client, tags=["flagged"]) == ("other", "new way")
    assert decided(folder, *words, "--flag", "new=off")[0] == "noop"
    said(folder, "flag", "new", "default", "--reason", "it is over")


def test_a_policy_that_was_applied_is_the_one_that_is_explained(folder, client):
    before = explained(folder)["decision"]["version"]
    (folder / "new.toml").write_text(
        CONFIG + '[[routing.rules]]\nname = "all"\nthen = { pools = ["other"] }\n'
    )
    version = told(folder, "policy", "apply", "new.toml", "--reason", "a test")["version"]
    found = explained(folder)
    assert found["decision"]["version"] == version != before
    assert decided(folder) == went(client) == ("other", "all")
    assert found["pools"].startswith(f"from sqlite:///{folder / 'data'}, what shard 0 decides with now")
    (folder / "old.toml").write_text(CONFIG)
    told(folder, "policy", "apply", "old.toml", "--replace", "--reason", "it is over")


@pytest.fixture
def elsewhere(folder, tmp_path):
    """A directory without a configuration: a policy is sent from there as from any other."""
    (tmp_path / "new.toml").write_text(
        '[windows.night]\ncron = "0 3 * * *"\n[pools.other]\nslots = 3\nprice.per_task = 2.0\n'
    )
    (tmp_path / "rule.toml").write_text('[[routing.rules]]\nname = "all"\nthen = { pools = ["other"] }\n')
    yield tmp_path
    (folder / "whole.toml").write_text(CONFIG)
    told(folder, "policy", "apply", "whole.toml", "--replace", "--reason", "it is over")


def test_a_policy_from_elsewhere_goes_over_the_one_in_force_and_nothing_else_changes(
    folder, elsewhere, client
):
    url = ("--url", f"sqlite:///{folder / 'data'}")
    told(elsewhere, "policy", "apply", "new.toml", "--reason", "a test", *url)
    tried = told(elsewhere, "policy", "apply", "rule.toml", "--dry-run", *url)
    assert (tried["live"], tried["applied"], decided(folder)[1]) == (True, False, "(default)")
    taken = told(elsewhere, "policy", "apply", "rule.toml", "--reason", "a test", *url)
    (change,) = taken["changes"]
    assert change.startswith("rule 'all' is new, first")
    assert (taken["changes"], taken["version"]) == (tried["changes"], tried["version"])
    assert went(client, tags=["flagged"]) == ("other", "all")
    explain = ("--family", "vqe", "--window", "night", "--flag", "new=on")
    found = explained(folder, *explain)["decision"]
    assert (found["version"], found["price"]) == (taken["version"], 2.0)
    gone = told(elsewhere, "policy", "apply", "--remove", "rules.all", "--reason", "a test", *url)
    assert gone["changes"] == ["rule 'all' is gone"]


def test_what_of_a_file_is_no_policy_is_said_and_a_mistake_changes_nothing(folder, elsewhere):
    url = ("--url", f"sqlite:///{folder / 'data'}")
    text = said(elsewhere, "policy", "apply", "new.toml", "--dry-run", *url)
    assert f"compared with what is in force on {url[1]}" in text.splitlines()[0]
    assert "the roles take it when they start: pools.other.slots" in text
    (elsewhere / "bad.toml").write_text('[windwos]\n[pools.qpu]\n[routing]\ndefault = "nowhere"\n')
    before = explained(folder)["decision"]["version"]
    for words in (["--dry-run"], ["--reason", "a test"]):
        errors = told(elsewhere, "policy", "apply", "bad.toml", *words, *url, code=2)["errors"]
        assert [one["path"] for one in errors] == ["$.windwos", "$.pools.qpu", "$.routing.default"]
    assert explained(folder)["decision"]["version"] == before


def test_a_pool_whose_breaker_is_open_is_called_so_and_waited_for(folder, client):
    words = ("--backend", "broken")
    eventually(lambda: not explained(folder, *words)["decision"]["waits"])
    for tenant in ("ada", "bob"):
        # What a job may have brought about itself counts when it happens to two tenants.
        with pytest.raises(JobFailedError):
            client.submit(BELL, shots=1, backend="broken", tenant=tenant, options={"seconds": "60"}).result(
                60
            )
    found = eventually(lambda: _waits(explained(folder, *words)))
    assert [step["state"] for step in found["trail"] if step["step"] == "candidate"] == ["breaker_open"]
    assert "breaker_open" not in said(folder, "policy", "explain", "bell.qasm", *words, "--offline")


def _waits(found):
    return found if found["decision"]["waits"] else None


def test_offline_is_said_with_the_file_in_one_line(folder):
    text = said(folder, "policy", "explain", "bell.qasm", "--offline")
    assert text.splitlines()[-1].startswith("from shotbus.toml; no broker was asked (as asked)")


@pytest.mark.parametrize(
    ("words", "code", "path"),
    [
        (("--deadline", "nan"), "SB-1108", "$.deadline"),
        (("--deadline", "inf"), "SB-1108", "$.deadline"),
        (("--deadline", "-1"), "SB-1104", "$.deadline"),
        (("--not-before", "nan"), "SB-1108", "$.not_before"),
        (("--not-before", "1e12"), "SB-1108", "$.not_before"),
        (("--value", "nan"), "SB-1108", "$.value"),
        (("--max-cost", "nan"), "SB-1108", "$.max_cost"),
        (("--confidence", "2"), "SB-1108", "$.confidence"),
        (("--shots", "-5"), "SB-1103", "$.shots"),
        (("--intent", "fun"), "SB-1108", "$.intent"),
        (("--window", "nosuch"), "SB-1108", "$.window"),
        (("--fallback", "nosuch"), "SB-1102", "$.fallback[0]"),
        (("--fallback", "defer:nosuch"), "SB-1108", "$.fallback[0]"),
        (("--flag", "new=nan"), "SB-2002", "--flag"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("where", [(), ("--offline",)])
def test_what_the_door_refuses_is_refused_without_a_traceback(folder, words, code, path, where):
    problems = told(folder, "policy", "explain", "bell.qasm", *words, *where, code=2)["errors"]
    assert [(one["code"], one["path"]) for one in problems] == [(code, path)]
    if "--flag" not in words:
        again = invoke(folder, "submit", "bell.qasm", *words, "--json")
        assert again[0] == 2
        assert code in again[2]
