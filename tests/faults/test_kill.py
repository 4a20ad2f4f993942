"""SIGKILL of any one process during the H2 job: it still ends, with the very same numbers."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shotbus import Client
from shotbus.broker.bus.base import TopicPartition
from shotbus.schemas.codec import decode, identify
from shotbus.schemas.ids import keyed_partition

from .conftest import ROOT

pytestmark = pytest.mark.alone


def wait_for_progress(sweep, shards):
    """Return once some shards are done; the sweep must not be over, or nothing could be disturbed."""
    while (latest := sweep.partial()) is None or latest.done < shards:
        try:
            sweep.result(timeout=0.02)
        except TimeoutError as error:
            raise AssertionError(error) from error
        except Exception as error:
            if "SB-4006" not in str(error):
                raise
    assert not latest.final


def terminal_results(client):
    """Return (job id, attempt) of every terminal result on the bus."""

    async def read():
        session = client._client.session
        places = [TopicPartition(session.topics.name("results"), n) for n in range(session.topics.partitions)]
        ends = await session.bus.ends(places)
        reader = session.bus.reader(await session.bus.begins(places))
        found = []
        while any(reader.position(place) < end for place, end in ends.items()):
            found += await reader.poll(max_records=1000, timeout=1.0)
        await reader.close()
        results = [decode(r.value)[1] for r in found if identify(r.value).name == "circuit_result"]
        return [(result["job_id"], result["attempt"]) for result in results]

    return client._loop.run(read())


def check_once_each(client, jobs):
    results = terminal_results(client)
    assert len(results) == len({job_id for job_id, _ in results}) == jobs
    return results


def test_the_curve_survives_sigkill_of_a_worker(cluster, url, shots_sweep, same_answer):
    cluster.standard(pools=())
    with Client(url) as client:
        sweep = client.submit_plan(shots_sweep)
        wait_for_progress(sweep, 2)
        cluster.roles["aer-0"].kill()
        same_answer(sweep.result(timeout=90))
        results = check_once_each(client, len(shots_sweep.jobs))
        assert any(attempt > 1 for _, attempt in results), "the worker held nothing when it was killed"


@pytest.mark.parametrize("role", ["dispatcher", "reducer"])
def test_the_curve_survives_sigkill_of_the_process_that_holds_its_shard(
    cluster, url, role, shots_sweep, same_answer
):
    cluster.standard(pools=())
    with Client(url) as client:
        sweep = client.submit_plan(shots_sweep)
        shard = keyed_partition(sweep.sweep_id, client._client.session.topics.partitions)
        wait_for_progress(sweep, 2)
        holder = cluster.takers(f"{role}s", shard)[-1]
        cluster.roles[holder].kill()
        same_answer(sweep.result(timeout=90))
        check_once_each(client, len(shots_sweep.jobs))
        assert cluster.takers(f"{role}s", shard)[-1] != holder


def children_of(pid):
    """Return the ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def test_the_curve_survives_sigkill_of_a_worker_child(cluster, url, shots_sweep, same_answer):
    cluster.standard(pools=())
    with Client(url) as client:
        sweep = client.submit_plan(shots_sweep)
        wait_for_progress(sweep, 2)
        (child,) = children_of(cluster.roles["aer-0"].process.pid) or children_of(
            cluster.roles["aer-1"].process.pid
        )
        os.kill(child, signal.SIGKILL)
        same_answer(sweep.result(timeout=90))
        check_once_each(client, len(shots_sweep.jobs))


def test_the_curve_survives_sigkill_of_its_submitter(cluster, url, shots_sweep, tmp_path):
    cluster.standard()
    command = [
        sys.executable,
        "-m",
        "shotbus",
        "run",
        str(ROOT / "examples/h2_dissociation.toml"),
        "--url",
        url,
    ]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not any(cluster.done().values()):
        assert first.poll() is None, "the run ended before it could be killed"
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert "within chemical" in again.stdout


def test_the_curve_survives_sigkill_of_everything(cluster, url, shots_sweep, same_answer):
    """All role processes die at once and are started again: the ledger and the bus hold it all."""
    cluster.standard(pools=())
    with Client(url) as client:
        sweep = client.submit_plan(shots_sweep)
        wait_for_progress(sweep, 2)
        for role in cluster.roles.values():
            role.kill()
        cluster.standard(pools=())
        same_answer(sweep.result(timeout=120))
        check_once_each(client, len(shots_sweep.jobs))


def test_a_store_that_is_emptied_in_mid_run_breaks_nothing(cluster, url, shots_sweep, same_answer):
    cluster.standard(pools=())
    with Client(url) as client:
        sweep = client.submit_plan(shots_sweep)
        wait_for_progress(sweep, 2)
        client._loop.run(client._client.session.store.clear())
        same_answer(sweep.result(timeout=90))
