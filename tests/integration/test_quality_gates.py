"""Remedies and quality gates on a real embedded broker: shots in increments, a bad answer on its way down the chain."""

import pytest
from cli_kit import said
from embedded_kit import BELL, Broker, eventually

from shotbus import Client, ShotbusError

CONFIG = """
[pools.ideal]
adapter = "aer"
slots = 1
[pools.narrow]
adapter = "aer"
slots = 1
options = { max_shots = 100 }
[pools.device]
adapter = "aer"
slots = 1
max_qubits = 5
options = { device_model = "generic", seed = 7 }
[retry]
base = 0.05
[[routing.rules]]
name = "strict"
when = { tags = ["strict"] }
then = { pools = ["device"], fallback = ["ideal"], quality = { outcomes = "00,11", share = 1 } }
"""
SURE = {"outcomes": ["00", "11"], "share": 1}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "data"
    folder.mkdir(parents=True)
    (folder / "shotbus.toml").write_text(CONFIG)
    with Broker(folder, "ideal", "narrow", "device") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        eventually(lambda: served(client), seconds=60)
        yield client


def served(client):
    """Tell whether every shard knows that somebody serves the device: else its jobs take their chain at the door."""
    jobs = [client.submit(BELL, shots=1, backend="device", fallback=["ideal"]) for _ in range(8)]
    return {job.result(60).executed_on for job in jobs} == {"generic_backend_5q"}


def told(job, cause):
    """The terms of a job's events with this cause, oldest first."""
    return [event["terms"] for event in job.why()["events"] if event["cause"] == cause]


def circuit_of(result):
    (told,) = result.provenance["circuits"].values()
    return told


def test_a_job_with_more_shots_than_a_call_may_have_comes_back_with_all_of_them(client):
    job = client.submit(BELL, shots=350, backend="narrow", seed=5)
    result = job.result(60)
    assert (result.outcome, len(told(job, "forward"))) == ("succeeded", 2)
    assert sum(result.counts().values()) == 350
    assert result.provenance["overrides"]["options"] == {"shots_per_call": "100"}
    assert (circuit_of(result)["shots_per_call"], circuit_of(result)["calls"]) == (100, 4)
    (retried,) = told(job, "retry after CONSTRAINT")
    assert "CONSTRAINT:shots-limit" in retried["why"]
    assert retried["overrides"] == {"shots_per_call": "100"}
    asked = client.submit(BELL, shots=350, backend="ideal", seed=5, options={"shots_per_call": "100"})
    assert asked.result(60).counts() == result.counts()


def test_estimates_and_top_ups_come_in_increments_too(client):
    values = client.submit(BELL, shots=250, observables="XX", backend="narrow").result(60)
    assert circuit_of(values)["calls"] == 3
    assert values.stds.max() < 0.1
    counts = client.submit(BELL, shots=250, top_up=True, backend="narrow").result(60)
    assert sum(counts.counts().values()) == 250


def test_an_answer_that_fails_its_gate_is_compiled_anew_then_goes_down_the_chain_and_why_says_so(
    broker, client
):
    job = client.submit(BELL, shots=20_000, backend="device", fallback=["ideal"], quality=SURE)
    result = job.result(60)
    assert (result.outcome, result.executed_on) == ("succeeded_by_fallback", "aer_simulator")
    assert set(result.counts()) == {"00", "11"}
    (retried,) = told(job, "retry after UNSTABLE")
    assert retried["overrides"] == {"recompile": "true"}
    assert retried["problems"][0]["code"] == "SB-5011"
    assert retried["problems"][0]["path"] == "$.options.quality.outcomes"
    (moved,) = told(job, "reroute")
    assert "UNSTABLE: SB-5011 $.options.quality.outcomes: 0.9" in moved["why"]
    page = said(broker.directory, "why", job.job_id, "--url", broker.url)
    assert "SB-5011 $.options.quality.outcomes: result fails its quality gate" in page
    assert "recompile" in page


def test_a_rule_demands_a_gate_of_its_jobs_and_the_trail_says_so(client):
    job = client.submit(BELL, shots=20_000, tags=["strict"])
    result = job.result(60)
    assert (result.outcome, set(result.counts())) == ("succeeded_by_fallback", {"00", "11"})
    steps = [step for terms in told(job, "accept") for step in terms["trail"] if step["step"] == "quality"]
    (step,) = steps
    assert step["demands"] == {"quality.rule.outcomes": "00,11", "quality.rule.share": "1.0"}
    assert client.submit(BELL, shots=20_000, backend="device").result(60).outcome == "succeeded"


def test_without_a_chain_it_fails_with_the_gate_its_limit_and_what_came(client):
    job = client.submit(BELL, shots=200, observables="ZI", backend="ideal", quality={"max_stderr": 0.01})
    with pytest.raises(ShotbusError) as failed:
        job.result(60).counts()
    (problem,) = [one for one in failed.value.problems if one.code == "SB-5011"]
    assert (problem.path, problem.limit) == ("$.options.quality.max_stderr", "0.01")
    assert problem.actual.endswith("at point 0 of observable 0")


def test_a_gate_without_meaning_is_refused_before_anything_is_published(client):
    with pytest.raises(ShotbusError) as refused:
        client.submit(BELL, shots=10, quality={"max_stderr": 0.1, "outcomes": "000", "parity": "even"})
    assert sorted(one.path for one in refused.value.problems) == [
        "$.options.quality.max_stderr",
        "$.options.quality.outcomes",
        "$.options.quality.parity",
        "$.options.quality.share",
    ]
