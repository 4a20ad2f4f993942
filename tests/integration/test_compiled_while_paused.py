"""A pool that stands still: its worker compiles what waits, other processes and later ones find it compiled."""

import os
import signal

import numpy as np
import pytest
from embedded_kit import Broker, eventually
from worker_kit import rotations

from shotbus import Client

FIRST, NAMES = rotations(3, 2)
SECOND, _ = rotations(4, 1)
ROWS = np.linspace(0.0, 1.0, 2 * len(NAMES)).reshape(2, len(NAMES))


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "data", "aer", environ={"SHOTBUS__POOLS__AER__SLOTS": "1"}) as broker:
        yield broker


def control(client, verb, pool="aer"):
    async def send():
        await client._client.control_pool(verb, pool)

    client._loop.run(send())


def counted(broker, name):
    _, samples = broker.metrics()
    return samples.get(f'shotbus_worker_{name}_total{{pool="aer"}}', 0)


def compiled(result):
    """How the circuits of the job's run came to be compiled."""
    return {facts["compiled"] for facts in result.provenance["circuits"].values()}


def columns(names):
    return dict(zip(names, ROWS.T, strict=False))


def test_what_waits_for_a_paused_pool_is_compiled_by_its_worker_and_run_from_there(broker):
    with Client(broker.url) as client:
        control(client, "pause")
        jobs = [client.submit(FIRST, columns(NAMES), shots=50, seed=number) for number in range(4)]
        jobs += [client.submit(SECOND, columns(rotations(4, 1)[1]), shots=50, seed=1)]
        eventually(lambda: counted(broker, "ahead_compiled") >= 2, seconds=60)
        assert counted(broker, "jobs_done") == 0
        assert counted(broker, "compiled_anew") == 2
        assert not any(job.done() for job in jobs)
        control(client, "resume")
        results = [job.result(60) for job in jobs]
    assert [result.outcome for result in results] == ["succeeded"] * 5
    assert set().union(*map(compiled, results)) <= {"memory", "disk"}
    assert counted(broker, "compiled_anew") == 2
    assert len(list((broker.directory / "compiled").glob("*.qpy"))) == 2


def test_a_killed_broker_loses_neither_the_jobs_nor_what_was_compiled(tmp_path):
    directory = tmp_path / "data"
    with Broker(directory, "aer") as broker, Client(broker.url) as client:
        control(client, "pause")
        job = client.submit(FIRST, columns(NAMES), shots=50, seed=1).job_id
        eventually(lambda: counted(broker, "ahead_compiled") >= 1, seconds=60)
        os.kill(broker.process.pid, signal.SIGKILL)
    with Broker(directory, "aer") as broker, Client(broker.url) as client:
        control(client, "resume")
        result = client.job(job).result(60)
        assert (result.outcome, compiled(result)) == ("succeeded", {"disk"})
        assert counted(broker, "compiled_anew") == 0


def test_a_damaged_entry_costs_a_compilation_and_no_job(broker):
    with Client(broker.url) as client:
        first = client.submit(FIRST, columns(NAMES), shots=50, seed=1).result(60)
        for path in (broker.directory / "compiled").glob("*.qpy"):
            path.write_bytes(path.read_bytes()[:-1])
    broker.stop()
    with Broker(broker.directory, "aer") as again, Client(again.url) as client:
        second = client.submit(FIRST, columns(NAMES), shots=50, seed=2).result(60)
        assert counted(again, "compile_cache_damaged") == 1
    assert [compiled(one) for one in (first, second)] == [{"anew"}, {"anew"}]
