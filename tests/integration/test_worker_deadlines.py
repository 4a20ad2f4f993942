"""A deadline that passes in a worker's hand: the job is never run, and it and its neighbours are told apart."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys

import pytest
from embedded_kit import BELL, records
from embedded_kit import eventually as soon
from worker_kit import Bench, bundle, bundles_of, faulty
from worker_kit import eventually as met

from shotbus import Client, JobFailedError
from shotbus.schemas.codec import decode

CONFIG = '[pools.nap]\nadapter = "sleep"\nkind = "none"\nslots = 1\nprefetch = 1\nbundle_jobs = 1\n'
ROLES = (["dispatcher"], ["reducer"], ["worker", "--pool", "nap"])


@pytest.fixture
async def bench():
    made = await Bench().open()
    yield made
    await made.close()


def classes(items, name):
    return {number: one["error_class"] for (found, number), one in items.items() if found == name}


async def test_what_becomes_late_behind_another_bundle_is_never_run_and_its_neighbours_are(bench):
    worker = await bench.worker(attempt_seconds=1.5)
    await bench.send(bundle("long", faulty("hang")))
    await bench.until(lambda seen: "long" in bundles_of(seen, "started"))
    # Were the first one run, its process would die.
    await bench.send(bundle("b", faulty("crash", "", ""), deadlines=[0.5, None, 60]))
    await bench.until(lambda seen: sum(len(one["items"]) for one in seen) == 4)
    items = await bench.finished(2)
    assert classes(items, "b") == {0: "EXPIRED", 1: "", 2: ""}
    assert items["b", 0]["problems"][0]["code"] == "SB-4003"
    assert worker.counters.children_crashed == 0
    await met(lambda: worker.counters.jobs_late == 1)
    assert (worker.counters.jobs_done, worker.counters.jobs_failed) == (3, 1)


async def test_a_late_job_of_a_pool_that_costs_is_not_submitted(bench, monkeypatch):
    worker = await bench.worker()
    costs = dataclasses.replace(worker._capabilities, paid=True)
    monkeypatch.setattr(worker._claims, "_capabilities", costs)
    await bench.send(bundle("b", faulty("unknown", ""), deadlines=[-1]))
    await bench.until(lambda seen: sum(len(one["items"]) for one in seen) == 2)
    assert classes(await bench.finished(), "b") == {0: "EXPIRED", 1: ""}


async def test_a_late_job_of_a_pool_that_answers_in_its_workers_own_loop_is_not_run(bench):
    worker = await bench.worker("noop")
    await bench.send(bundle("b", faulty("", ""), pool="noop", deadlines=[-1, 60]), pool="noop")
    await bench.until(lambda seen: sum(len(one["items"]) for one in seen) == 2)
    assert classes(await bench.finished(), "b") == {0: "EXPIRED", 1: ""}
    assert (worker.counters.jobs_late, worker.counters.jobs_done, worker.counters.jobs_failed) == (1, 1, 0)


# --- the whole path ---


@pytest.fixture
def processes(tmp_path):
    """A dispatcher, a reducer and a worker on one directory, by role."""
    (tmp_path / "shotbus.toml").write_text(CONFIG)
    with contextlib.ExitStack() as started:
        found = {}
        for words in ROLES:
            command = [sys.executable, "-m", "shotbus", *words, "--json", "--data", str(tmp_path / "data")]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            started.callback(end, process)
            assert json.loads(process.stdout.readline())["ready"]
            found[words[0]] = process
        yield found


def end(process):
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(timeout=30)
    process.stdout.close()


def told(url, job):
    """What was told of a job so far: its sub-statuses."""
    batches = (decode(record.value, "event_batch")[1] for record in records(url, "events"))
    return [one["sub_status"] for batch in batches for one in batch["events"] if one["job_id"] == job.job_id]


def reports(url, job):
    """What workers reported of a job: (class, codes)."""
    finished = (decode(record.value)[1] for record in records(url, "outcomes"))
    items = (one for fields in finished for one in fields.get("items", ()) if one["job_id"] == job.job_id)
    return [(one["error_class"], [problem["code"] for problem in one["problems"]]) for one in items]


@pytest.mark.parametrize("changed", [False, True])
def test_a_job_that_waits_in_its_worker_past_its_deadline_is_never_run(processes, tmp_path, changed):
    url, nap = f"sqlite:///{tmp_path / 'data'}", {"backend": "nap", "shots": 1}
    with Client(url) as client:
        first = client.submit(BELL, seed=1, options={"seconds": "6"}, **nap)
        soon(lambda: "EXECUTING" in told(url, first))
        if changed:
            # Its request goes on saying ten minutes.
            job = client.submit(BELL, seed=2, deadline=600.0, not_before=300.0, **nap)
            soon(lambda: "SCHEDULED" in told(url, job))
            wish = {"deadline": 4.0, "not_before": 0, "reason": "the meeting is earlier"}
            assert client.reprioritise(job=job.job_id, **wish).changed == 1
        else:
            job = client.submit(BELL, seed=2, deadline=4.0, **nap)
        soon(lambda: "FORWARDED" in told(url, job))
        # Now nobody tells the worker that the job has become late meanwhile.
        processes["dispatcher"].send_signal(signal.SIGSTOP)
        said = soon(lambda: reports(url, job))
        processes["dispatcher"].send_signal(signal.SIGCONT)
        with pytest.raises(JobFailedError) as caught:
            job.result(30)
        assert first.result(30).outcome == "succeeded"
    assert said == [("EXPIRED", ["SB-4003"])]
    assert (caught.value.outcome, caught.value.problems[0].code) == ("expired", "SB-4003")
