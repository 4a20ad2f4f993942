"""Earlier answers on a real embedded broker: topped up, tolerated, recalled when a pool fails, or the same job."""

import pytest
from cli_kit import said, told
from embedded_kit import BELL, ROTATED, Broker, eventually, on_bus
from reuse_kit import record, sampled

from shotbus import AsyncClient, Client, RefusedError, ShotbusError
from shotbus.broker.bus.base import Outgoing
from shotbus.schemas.ids import partition_of

POLICY = """
[pools.flaky]
adapter = "faulty"
modes = ["sample", "estimate"]
attempt_seconds = 20.0
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier") / "data"
    folder.mkdir(parents=True)
    (folder / "shotbus.toml").write_text(POLICY)
    with Broker(folder, "aer", "noop", "flaky") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


def answered_by(how, ask):
    """Ask until the projector has filed what was there before."""

    def asked():
        result = ask()
        return result if result.answered_by == how else None

    return eventually(asked)


def test_only_the_missing_shots_are_run_and_enough_of_them_run_none(client):
    def ask(shots):
        return client.submit(BELL, shots=shots, top_up=True, backend="aer").result(60)

    assert ask(100).answered_by == "run"
    # Something is filed before more is asked for, else that runs in full and nothing is missing afterwards.
    answered_by("top_up", lambda: ask(50))
    more = ask(400)
    assert (more.answered_by, sum(more.counts().values())) == ("top_up", 400)
    assert 0 < more.shots <= 350
    told = more.provenance["top_up"][more.job_id]
    assert told["shots"] + more.shots == 400
    assert more.seed not in told["seeds"]
    assert more.age > 0
    enough = answered_by("top_up", lambda: ask(50))
    assert (enough.outcome, enough.shots) == ("served_from_cache", 0)
    # Some of those that ran above because nothing was filed yet had just as many.
    assert sum(enough.counts().values()) >= 50


def test_an_estimate_that_is_good_enough_is_not_made_again(client):
    asked = {"observables": "ZZ", "shots": 200, "tolerance": 0.2}

    def ask(**more):
        return client.submit(ROTATED, [0.4, 0.9], **asked | more).result(60)

    ran = {}

    def asked_again():
        result = ask()
        if result.answered_by == "run":
            ran[result.job_id] = result
        return result

    asked_again()
    again = answered_by("tolerance", asked_again)
    before = ran[again.provenance["reused"]["job_id"]]
    assert (again.evs.tolist(), again.stds.tolist()) == (before.evs.tolist(), before.stds.tolist())
    assert ask(tolerance=1e-6).answered_by == "run"


def test_a_job_whose_pool_fails_is_answered_with_an_earlier_result(client):
    def ask(fault, **more):
        return client.submit(
            BELL, shots=70, backend="flaky", options={"fault": fault}, fallback=["cache:600"], **more
        ).result(60)

    good = ask("")
    found = answered_by("cache", lambda: ask("raise"))
    assert (found.outcome, found.fallback_from) == ("succeeded_by_fallback", "flaky")
    assert 0 < found.age < 600
    assert found.job_id != good.job_id
    with pytest.raises(ShotbusError) as error:
        ask("raise", tenant="other")
    assert error.value.problems[0].code == "SB-9001"


def test_a_second_job_with_a_unique_key_is_the_first_as_long_as_that_lives(client):
    asked = {"backend": "noop", "shots": 1, "unique_key": "once"}
    first = client.submit(BELL, not_before=30, **asked)
    second = client.submit(BELL, **asked)
    assert second.job_id == first.job_id
    with pytest.raises(RefusedError) as error:
        client.submit(BELL, unique_policy="reject", **asked).result(30)
    assert error.value.problems[0].code == "SB-1115"
    newer = client.submit(BELL, unique_policy="supersede", **asked)
    assert newer.result(30).outcome == "succeeded"
    assert eventually(lambda: first.status() == "CANCELLED")


def test_what_comes_late_is_beside_the_answer(broker, client):
    job = client.submit(BELL, shots=100, seed=3, backend="aer")
    answer = job.result(60)
    assert job.late() is None
    fields = {"late": True, "payload": sampled({0: 100}), "tenant": "default", "answered_by": "shadow"}
    assert_nothing_late(broker, job)
    fields |= {"cost": 0.25, "backend_seconds": 1.5, "pool": "qpu", "executed_on": "qpu"}

    async def publish(bus, topics):
        place = partition_of(job.job_id, topics.partitions)
        value = record(job.job_id, **fields)
        await bus.publish([Outgoing(topics.name("results"), place, job.job_id.encode(), value)])

    on_bus(broker.url, publish)
    late = eventually(job.late)
    assert (late.late, late.counts()) == (True, {"00": 100})
    assert late.deviation == pytest.approx(answer.counts()["11"] / 100)
    assert client.job(job.job_id).result(10).counts() == answer.counts()
    assert client.job(job.job_id, tenant="other").late() is None
    assert_told_late(broker, job, late.deviation)
    assert_trail_tells_costs(broker, job)


def assert_nothing_late(broker, job):
    asked = (broker.directory, "result", job.job_id, "--url", broker.url)
    assert said(*asked, "--late", code=4).startswith("SB-4001 --late")
    assert said(*asked, "--late", "--timeout", "3", code=2).startswith("SB-2002")
    assert "answered by" not in said(*asked)
    assert told(*asked)["came_late"] is None


def assert_told_late(broker, job, deviation):
    asked = (broker.directory, "result", job.job_id, "--url", broker.url)
    beside = told(*asked)
    assert (beside["answered_by"], beside["late"], beside["deviation"]) == ("run", False, None)
    assert beside["came_late"]["deviation"] == pytest.approx(deviation)
    assert f"came late: shadow on qpu, deviation {deviation:.3g}; --late prints it" in said(*asked)
    late = told(*asked, "--late")
    assert (late["late"], late["counts"], late["cost"]) == (True, [{"00": 100}], 0.25)
    text = said(*asked, "--late")
    assert f"answered by: shadow (after the job had been answered), deviation {deviation:.3g}" in text
    assert "cost 0.25, 1.5 backend seconds" in text


def assert_trail_tells_costs(broker, job):
    asked = (broker.directory, "why", job.job_id, "--url", broker.url)
    run, late = told(*asked)["results"]
    assert (run["cost"], late["cost"], late["late"]) == (0.0, 0.25, True)
    assert run["backend_seconds"] > 0
    assert "qpu, cost 0.25, 1.5 backend seconds" in said(*asked)


@pytest.mark.parametrize(
    ("wishes", "path"),
    [
        ({"top_up": True, "seed": 3}, "$.top_up"),
        ({"top_up": "yes"}, "$.top_up"),
        ({"tolerance": 0.1}, "$.tolerance"),
        ({"fallback": "aer"}, "$.fallback"),
        ({"fallback": ["cache:never"]}, "$.fallback[0]"),
        ({"unique_policy": "sometimes"}, "$.unique_policy"),
        ({"confidence": 2}, "$.confidence"),
        ({"roles": [7]}, "$.roles"),
    ],
    ids=str,
)
async def test_wishes_that_are_none_are_refused_before_anything_is_published(wishes, path):
    client = AsyncClient()
    with pytest.raises(ShotbusError) as error:
        await client.check(BELL, **wishes)
    assert path in [problem.path for problem in error.value.problems]
    await client.close()
