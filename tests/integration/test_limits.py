"""A limit on jobs with workers holds over all shards, in one process and in several, one of which is killed."""

import contextlib
import json
import subprocess
import sys

import pytest
from embedded_kit import BELL, Broker, eventually, records

from shotbus import Client
from shotbus.schemas.codec import decode

CONFIG = """
[pools.nap]
adapter = "sleep"
kind = "none"
slots = 3
lease_seconds = 3.0
start_seconds = 3.0
[limits.concurrency]
"backend:nap" = {0}
"""
AWAY = ("FORWARDED", "EXECUTING", "CANCELLING")
NAP = {"backend": "nap", "options": {"seconds": "0.05"}, "shots": 1}


def at_a_time(url):
    """How many jobs were with workers at most, and on which shards, by what the dispatchers told."""
    steps, away, shards = [], {}, {}
    for record in records(url, "events"):
        _, batch = decode(record.value, "event_batch")
        for event in batch["events"]:
            name, now = event["job_id"], event["sub_status"] in AWAY
            if now != away.get(name, False):
                steps.append((event["at_us"] or batch["at_us"], 1 if now else -1))
                away[name] = now
                shards[batch["shard"]] = shards.get(batch["shard"], 0) + now
    # What ends and what begins in the same microsecond are one place.
    running = most = 0
    for _, more in sorted(steps):
        running += more
        most = max(most, running)
    return most, shards


@pytest.mark.parametrize("limit", [1, 3])
def test_an_embedded_broker_never_runs_more_at_once(tmp_path, limit):
    data = tmp_path / "data"
    data.mkdir()
    (data / "shotbus.toml").write_text(CONFIG.format(limit))
    with Broker(data, "nap") as broker, Client(broker.url) as client:
        jobs = [client.submit(BELL, seed=number, **NAP) for number in range(24)]
        assert [job.result(60).outcome for job in jobs] == ["succeeded"] * 24
        most, shards = at_a_time(broker.url)
    assert most == limit
    assert len(shards) == 2


@pytest.fixture
def processes(tmp_path):
    """Two dispatchers, a reducer and a worker on one directory."""
    (tmp_path / "shotbus.toml").write_text(CONFIG.format(1))
    roles = (["dispatcher"], ["dispatcher"], ["reducer"], ["worker", "--pool", "nap"])
    with contextlib.ExitStack() as running:
        found = []
        for words in roles:
            command = [sys.executable, "-m", "shotbus", *words, "--json", "--data", str(tmp_path / "data")]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            running.callback(end, process)
            assert json.loads(process.stdout.readline())["ready"]
            found.append(process)
        yield found


def end(process):
    if process.poll() is None:
        process.terminate()
    process.wait(timeout=30)
    process.stdout.close()


def test_two_dispatchers_never_run_two_at_once_when_one_of_them_is_killed(tmp_path, processes):
    url = f"sqlite:///{tmp_path / 'data'}"
    with Client(url) as client:
        jobs = [client.submit(BELL, seed=number, **NAP) for number in range(40)]
        eventually(lambda: len(at_a_time(url)[1]) == 2)
        processes[0].kill()
        assert [job.result(90).outcome for job in jobs] == ["succeeded"] * 40
        most, shards = at_a_time(url)
    assert most == 1
    assert len(shards) == 2
