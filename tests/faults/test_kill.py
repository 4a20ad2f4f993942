"""SIGKILL of any one process during the H2 job: it still ends, with the very same numbers."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from shotbus import Client

from .job import PATIENCE_SECONDS, Job, check_told, terminal_results
from .places import EXAMPLE, children_of

pytestmark = pytest.mark.alone


def doomed(cluster, pool, point):
    """Start a worker that is killed at the named point of its first bundle, and another for the pool."""
    words = ("worker", "--pool", pool, "--concurrency", "1")
    cluster.start("victim", *words, environment={"SHOTBUS_FAILPOINT": point})
    cluster.worker("heir", pool)
    cluster.wait("victim", "heir")
    return cluster.roles["victim"].process


@pytest.mark.parametrize(
    ("pool", "point", "sweeps"),
    [
        # Which of its two sweeps the worker has first is the fair queue's to say.
        ("aer", "worker.after_started", ("exact", "shots")),
        ("classical", "worker.after_started", ("diagonalisation",)),
        ("classical", "worker.before_finished", ("diagonalisation",)),
    ],
    ids=["aer-after_started", "classical-after_started", "classical-before_finished"],
)
def test_the_curve_survives_sigkill_of_a_worker_that_holds_a_bundle(
    cluster, url, plan, undisturbed, pool, point, sweeps
):
    cluster.standard(workers=0 if pool == "aer" else 2, pools=("classical",) if pool == "aer" else ())
    victim = doomed(cluster, pool, point)
    with Client(url) as client:
        job = Job(client, plan)
        assert victim.wait(30) == -signal.SIGKILL
        attempts = job.ends_like(undisturbed)
        assert max(attempt for sweep in sweeps for attempt in attempts[sweep]) > 1


def test_the_curve_survives_sigkill_of_a_worker_in_the_midst_of_shots(cluster, url, plan, undisturbed):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("shots", 2)
        (child,) = children_of(cluster.roles["aer-0"].process.pid)
        # From now on it keeps what it has: by the time others have done more, its claim is on the bus.
        os.kill(child, signal.SIGSTOP)
        job.wait("shots", job.came("shots") + 4)
        cluster.roles["aer-0"].kill()
        os.kill(child, signal.SIGKILL)
        assert "shots" in job.under_way()
        attempts = job.ends_like(undisturbed)
        # The exact sweep may not be over: shards go through their queues at their own pace.
        assert max(attempts["exact"] + attempts["shots"]) > 1, "the worker held nothing when it was killed"


@pytest.mark.parametrize("role", ["dispatcher", "reducer"])
def test_the_curve_survives_sigkill_of_the_process_that_holds_its_shard(
    cluster, url, plan, undisturbed, role
):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("diagonalisation", 2)
        holder = cluster.takers(f"{role}s", job.shard)[-1]
        cluster.roles[holder].kill()
        assert job.under_way() == ["exact", "shots", "diagonalisation"]
        job.ends_like(undisturbed)
        assert cluster.takers(f"{role}s", job.shard)[-1] != holder


@pytest.mark.parametrize(("worker", "sweep"), [("aer-0", "shots"), ("classical-0", "diagonalisation")])
def test_the_curve_survives_sigkill_of_a_workers_child(cluster, url, plan, undisturbed, worker, sweep):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait(sweep, 2)
        (child,) = children_of(cluster.roles[worker].process.pid)
        os.kill(child, signal.SIGKILL)
        assert sweep in job.under_way()
        job.ends_like(undisturbed)
        assert children_of(cluster.roles[worker].process.pid) not in ([], [child])


def command(url):
    return [sys.executable, "-m", "shotbus", "run", str(EXAMPLE), "--url", url, "--json"]


@contextlib.contextmanager
def started(url, folder):
    """The command as a process with its output in files; it does not outlive the test."""
    with (folder / "answer.json").open("w") as out, (folder / "told.txt").open("w") as err:
        process = subprocess.Popen(command(url), cwd=folder, stdout=out, stderr=err)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(run, ready):
    """Return once something is so, which must be before a command ends."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert run.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < limit


def test_the_curve_survives_sigkill_of_its_submitter(cluster, url, undisturbed, tmp_path):
    cluster.standard()
    with started(url, tmp_path) as first:
        until(first, lambda: any(cluster.done().values()))
        first.kill()
    again = subprocess.run(
        command(url), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert "within chemical" in again.stderr
    check_told(again.stdout, undisturbed)


def test_the_curve_survives_sigkill_of_everything(cluster, url, plan, undisturbed):
    """All role processes die at once and are started again: the ledger and the bus hold it all."""
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("diagonalisation", 2)
        for role in cluster.roles.values():
            role.kill()
        assert job.under_way() == ["exact", "shots", "diagonalisation"]
        cluster.standard()
        job.ends_like(undisturbed)


def test_the_curve_survives_sigkill_of_the_embedded_broker(quick, undisturbed, tmp_path):
    """As in `make run`: all but the command itself is one process and its children."""
    url, told = f"sqlite:///{tmp_path / 'data'}", tmp_path / "told.txt"
    with started(url, tmp_path) as run:
        until(run, lambda: list(tmp_path.glob("data/runs/*.json")))
        with Client(url) as onlooker:
            until(run, lambda: len(terminal_results(onlooker)) > 90)
            (broker,) = children_of(run.pid)
            os.kill(broker, signal.SIGKILL)
            assert run.wait(90) == 0, told.read_text()
            results = terminal_results(onlooker)
    assert "starting it again" in told.read_text()
    check_told((tmp_path / "answer.json").read_text(), undisturbed)
    assert len(results) == len({one["job_id"] for one in results}) == 120
    assert max(one["attempt"] for one in results) > 1
