"""``shotbus policy explain`` and the door: shedding, unique keys and quality gates, beside a broker and without."""

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, Broker, eventually

from shotbus import Client, RefusedError
from shotbus.broker.config_loader import load_config

CONFIG = """
[pools.idle]
adapter = "noop"
kind = "none"
seconds_per_point = 5.0
high_seconds = 4.0
low_seconds = 2.0
[shedding.full]
refuse = ["bulk"]
defer = ["experiment"]
pools = ["idle"]
retry_after_seconds = 7.0
[routing]
default = "noop"
[[routing.rules]]
name = "sure"
when = { tags = ["sure"] }
then = { pools = ["noop"], fallback = ["idle", "review"], quality = { parity = "even:0.5" } }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    (folder / "data").mkdir()
    text = f'[broker]\nurl = "sqlite:///{folder / "data"}"\n{CONFIG}'
    for place in (folder, folder / "data"):
        (place / "shotbus.toml").write_text(text)
    (folder / "bell.qasm").write_text(BELL)
    with Broker(folder / "data", "noop"):
        eventually(lambda: told(folder, "policy", "explain", "bell.qasm")["live"])
        yield folder


@pytest.fixture(scope="module")
def client(folder):
    config = load_config(folder / "shotbus.toml").config
    with Client(config.broker.url, config=config) as client:
        yield client


def door(folder, *words):
    return told(folder, "policy", "explain", "bell.qasm", *words)["door"]


def refusal_of(client, **options):
    with pytest.raises(RefusedError) as refusal:
        client.submit(BELL, shots=1, **options).result(30)
    return refusal.value.problems[0]


def test_the_job_that_has_the_unique_key_is_named_with_what_its_policy_does(folder, client):
    words = ("--unique-key", "k", "--backend", "noop")
    assert door(folder, *words)["unique"] == {"key": "k", "policy": "existing", "rival": None}
    first = client.submit(BELL, shots=1, backend="noop", unique_key="k", not_before=600)
    rival = eventually(lambda: door(folder, *words)["unique"]["rival"])
    assert (rival["job_id"], rival["phase"]) == (first.job_id, "SCHEDULED")
    reject = (*words, "--unique-policy", "reject")
    text = said(folder, "policy", "explain", "bell.qasm", *reject)
    assert text.startswith("refused by its unique key, else noop")
    assert f"job {first.job_id} has it (SCHEDULED on noop): this one is refused (SB-1115)" in text
    problem = refusal_of(client, backend="noop", unique_key="k", unique_policy="reject")
    assert problem.code == "SB-1115"
    found = door(folder, *words, "--unique-policy", "supersede")
    assert (found["verdict"], found["unique"]["rival"]) == ("", rival)
    assert door(folder, *words, "--session", "another")["unique"]["rival"] is None
    first.cancel()


def test_the_level_of_shedding_that_strikes_the_class_now_is_told_with_its_numbers(folder, client):
    words = ("--backend", "idle", "--priority", "bulk")
    (calm,) = door(folder, *words)["shedding"]
    assert (calm["name"], calm["action"], calm["engaged"]) == ("full", "refuse", False)
    waiting = [client.submit(BELL, shots=1, backend="idle", seed=seed) for seed in range(20)]
    found = eventually(lambda: _struck(door(folder, *words)))
    assert found["verdict"] == "refused by shedding"
    text = said(folder, "policy", "explain", "bell.qasm", *words)
    assert text.startswith("refused by shedding, else idle")
    assert "shedding full: refuses bulk from 4 s of work waiting for idle until 2 s" in text
    assert "come again after 7 s" in text
    # The marks of the whole pool, as they are configured: each shard goes by its part of them.
    problem = refusal_of(client, backend="idle", priority="bulk")
    assert (problem.code, problem.limit) == ("SB-1111", "4 s")
    assert door(folder, "--backend", "idle")["verdict"] == "deferred by shedding"
    assert door(folder, "--backend", "idle", "--priority", "production")["shedding"] == []
    for job in waiting:
        job.cancel()


def _struck(found):
    return found if found["verdict"] else None


def test_the_gates_of_job_and_rule_are_told_with_what_follows_a_failed_one(folder):
    words = ("--tag", "sure", "--quality", "outcomes=00,11", "--quality", "share=0.8")
    for where in ((), ("--offline",)):
        found = door(folder, *words, *where)
        assert found["quality"] == {
            "the job": {"outcomes": "00,11", "share": "0.8"},
            "rule sure": {"parity": "even:0.5"},
        }
        assert found["remedies"] == [
            "1 more on its pool with recompile=true",
            "the chain's next pool (idle)",
            "down the chain (idle, review)",
            "failed",
        ]
    text = said(folder, "policy", "explain", "bell.qasm", *words)
    assert "quality (rule sure): parity=even:0.5" in text


def test_without_a_broker_it_says_that_shedding_and_keys_are_not_looked_at(folder):
    words = ("--offline", "--unique-key", "k", "--backend", "idle", "--priority", "bulk")
    found = door(folder, *words)
    assert (found["asked"], found["shedding"], found["verdict"]) == (False, None, "")
    text = said(folder, "policy", "explain", "bell.qasm", *words)
    assert "shedding and unique keys: not looked at, only a broker knows them" in text


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (("--option", "shots_per_cal=5", "--unique-policy", "perhaps"), {"SB-1119", "SB-1108"}),
        (("--quality", "outcomes=000", "--quality", "share=0.5"), {"SB-1108"}),
        (("--quality", "max_stderr"), {"SB-2002"}),
    ],
)
def test_what_the_door_refuses_of_options_and_gates_is_refused(folder, words, codes):
    problems = told(folder, "policy", "explain", "bell.qasm", *words, code=2)["errors"]
    assert {one["code"] for one in problems} == codes
    assert invoke(folder, "submit", "bell.qasm", *words, "--json")[0] == 2
