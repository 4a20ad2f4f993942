"""``shotbus replay``: jobs of a real broker run again, bit for bit where seeds decide, and say what differs."""

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, ROTATED, Broker, eventually, on_bus, records

from shotbus import Client
from shotbus.broker.bus.base import TopicPartition
from shotbus.schemas.ids import digest

CONFIG = """
[broker]
url = "sqlite:///{folder}/data"
[pools.device]
adapter = "aer"
slots = 1
max_qubits = 2
options = {{ device_model = "generic", qubits = 2, seed = {seed} }}
[pools.pennylane]
adapter = "pennylane"
[pools.faulty]
adapter = "faulty"
[pools.costly]
adapter = "aer"
price = {{ per_task = 1.0 }}
"""
POOLS = ("aer", "vector", "pennylane", "device", "noop", "faulty")
POINTS = {"a": [0.1, 1.2], "b": [0.3, 2.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    (folder / "data").mkdir()
    configure(folder, seed=7)
    return folder


@pytest.fixture(scope="module")
def broker(folder):
    with Broker(folder / "data", *POOLS) as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


def configure(folder, seed):
    for place in (folder, folder / "data"):
        (place / "shotbus.toml").write_text(CONFIG.format(folder=folder, seed=seed))


@pytest.mark.parametrize("pool", ["aer", "vector", "pennylane"])
@pytest.mark.parametrize("observables", [None, [[("ZZ", 1.0), ("XI", 0.5)]]])
def test_a_seeded_simulators_job_replays_bit_for_bit(client, pool, observables):
    asked = {"shots": 300, "observables": observables, "backend": pool}
    first = client.submit(ROTATED, POINTS, seed=5, **asked).result(60)
    again = client.replay(first.job_id, timeout=60)
    assert (again.verdict, again.deviation, again.differences) == ("identical", 0.0, ())
    assert again.again.packed == first.packed != b""
    assert (again.again.rerun_of, again.again.outcome, again.again.answered_by) == (
        first.job_id,
        "succeeded",
        "run",
    )


def test_a_shard_that_nobody_seeded_replays_alone_with_the_seed_it_drew(client):
    sweep = client.sweep(ROTATED, {"a": [0.1, 0.2, 0.3], "b": [1, 2, 3]}, shots=50, chunk=1, backend="aer")
    shards = list(sweep)
    assert client.replay(shards[1].job_id, timeout=60).verdict == "identical"
    (versions,) = sweep.result(60).versions
    assert (versions["shards"], "qiskit-aer" in versions["versions"]) == (3, True)


def test_an_answer_from_the_cache_and_one_of_a_replay_are_run_again(folder, client):
    asked = {"shots": 40, "seed": 3, "backend": "vector"}
    first = client.submit(BELL, **asked).result(60)
    ran = {first.job_id}

    def served():
        found = client.submit(BELL, **asked).result(60)
        if found.outcome == "served_from_cache":
            return found
        # Nothing was filed yet: it ran, and may be what is.
        ran.add(found.job_id)
        return None

    cached = eventually(served)
    assert cached.provenance["reused"]["job_id"] in ran
    once = told(folder, "replay", cached.job_id)
    twice = told(folder, "replay", once["job_id"])
    assert (once["verdict"], twice["verdict"], twice["rerun_of"]) == (
        "identical",
        "identical",
        once["job_id"],
    )
    assert "identical, bit for bit" in said(folder, "replay", first.job_id)


def test_another_pool_agrees_within_chance_and_says_what_differs(folder, client):
    first = client.submit(ROTATED, POINTS, shots=2_000, seed=5, backend="aer").result(60)
    found = told(folder, "replay", first.job_id, "--pool", "vector")
    names = {one["name"]: (one["was"], one["now"]) for one in found["differences"]}
    assert found["verdict"] == "agrees"
    assert 0 < found["deviation"] <= found["allowed"] < 1
    assert names["backend"] == ("aer_simulator", "shotbus_vector")
    assert "agrees, deviation" in said(folder, "replay", first.job_id, "--pool", "vector")


def test_what_no_chance_explains_differs(folder, client):
    first = client.submit(ROTATED, POINTS, shots=2_000, seed=5, backend="aer").result(60)
    code, out, _ = invoke(
        folder, "replay", first.job_id, "--pool", "vector", "--tolerance", "0.999999", "--json"
    )
    # At this tolerance any difference that is larger than usual counts; whichever it is, the code says it.
    assert code == (0 if '"agrees"' in out else 1)
    noop = client.submit(BELL, shots=5, seed=1, backend="vector").result(60)
    found = told(folder, "replay", noop.job_id, "--pool", "noop", code=1)
    assert (found["verdict"], found["deviation"]) == ("differs", None)


def test_a_pool_that_costs_is_refused_until_it_may(folder, client):
    first = client.submit(BELL, shots=5, seed=1, backend="vector").result(60)
    (error,) = told(folder, "replay", first.job_id, "--pool", "costly", code=2)["errors"]
    assert (error["code"], error["actual"]) == ("SB-4012", "costly")
    (error,) = told(folder, "replay", first.job_id, "--pool", "nosuch", code=2)["errors"]
    assert error["code"] == "SB-1102"


def test_a_request_that_is_gone_from_the_bus_is_a_clear_refusal(folder, broker, client):
    first = client.submit(BELL, shots=5, seed=1, backend="vector", priority="bulk").result(60)
    place = TopicPartition(first.provenance["request_topic"], first.provenance["request_partition"])

    async def trim(bus, _):
        await bus.trim({place: first.provenance["request_offset"] + 1})

    on_bus(broker.url, trim)
    (error,) = told(folder, "replay", first.job_id, code=4)["errors"]
    assert (error["code"], error["actual"]) == ("SB-4011", first.job_id)
    assert told(folder, "replay", "0" * 32, code=4)["errors"][0]["code"] == "SB-4001"


def test_provenance_tells_who_asked_where_it_ran_and_what_was_compiled(client):
    result = client.submit(BELL, shots=5, backend="aer").result(60)
    found = result.provenance
    assert {"backend", "backend_version", "kind", "host", "versions", "processing", "ran_ms"} <= set(found)
    assert found["caller"].keys() == {"principal", "code_commit", "sdk_versions"}
    (facts,) = found["circuits"].values()
    assert (facts["gates"], len(facts["compiled_key"])) == ({"cx": 1, "h": 1, "measure": 2}, 64)
    assert facts["initial_layout"] == facts["layout"] == [0, 1]


def test_attempts_before_the_last_are_told_with_the_result_and_by_why(folder, client):
    job = client.submit(BELL, shots=5, backend="faulty", fallback=["noop"], options={"fault": "memory"})
    result = job.result(60)
    (one,) = result.provenance["attempts"]
    assert (result.outcome, one["pool"], one["attempt"]) == ("succeeded_by_fallback", "faulty", 1)
    assert one["error_class"] == "CONSTRAINT"
    found = eventually(lambda: told(folder, "why", job.job_id)["results"])
    assert found[0]["attempts"] == [one]


def test_a_calibration_outlives_worker_and_store_and_a_drifted_one_is_named(tmp_path):
    folder = tmp_path
    (folder / "data").mkdir()
    configure(folder, seed=7)
    (folder / "bell.qasm").write_text(BELL)
    with Broker(folder / "data", "device"):
        job = told(folder, "submit", "bell.qasm", "--shots", "500", "--seed", "1", "--backend", "device")
        first = told(folder, "result", job["job_id"])["provenance"]["calibration_id"]
        (kept,) = records(f"sqlite:///{folder}/data", "calibrations")
        assert kept.key.decode() == first
        assert told(folder, "replay", job["job_id"])["verdict"] == "identical"
        # The same again is published by nobody.
        assert len(records(f"sqlite:///{folder}/data", "calibrations")) == 1
    for lost in (folder / "data").glob("store.sqlite*"):
        lost.unlink()
    configure(folder, seed=8)
    with Broker(folder / "data", "device"):
        code, out, _ = invoke(folder, "replay", job["job_id"])
        text = said(folder, "calibration", first)
        assert told(folder, "calibration", "--job", job["job_id"])["calibration_id"] == first
        found = told(folder, "calibration", first[:12])
        missing = told(folder, "calibration", digest("none", size=32).hex(), code=4)["errors"]
    assert code in (0, 1)
    assert f"  calibration_id: {first} -> " in out
    assert (found["pool"], found["backend"], len(found["snapshot"]["qubits"])) == (
        "device",
        "generic_backend_2q",
        2,
    )
    assert first in text
    assert missing[0]["code"] == "SB-4013"
