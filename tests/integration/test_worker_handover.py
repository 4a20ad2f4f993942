"""Work changes hands: after a death, on a rebalance, at a graceful stop; credits and liveness on ``pools``."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_kit import TOPICS, Bench, advertise, bundle, bundles_of, eventually, faulty

from shotbus.broker.bus.base import TopicPartition

W1, W2 = b"w/faulty/w1", b"w/faulty/w2"


@pytest.fixture
async def bench():
    made = await Bench().open()
    yield made
    await made.close()


async def committed(bench, partition=0):
    key = (TOPICS.name("workers.faulty"), TopicPartition(TOPICS.work("faulty"), partition))
    return bench.cluster.positions.get(key)


async def test_a_position_passes_a_bundle_once_it_is_started(bench):
    worker = await bench.worker()
    (offset,) = await bench.send(bundle("b", faulty("hang")))
    await bench.until(lambda seen: bundles_of(seen, "started"))
    async with asyncio.timeout(10):
        while await committed(bench) != offset + 1:
            await asyncio.sleep(0.01)
    assert not bundles_of(bench.seen, "finished")
    await bench.kill(worker)


async def test_a_successor_runs_what_the_dead_one_had_in_hand_and_not_what_it_had_started(bench):
    first = await bench.worker(attempt_seconds=30.0)
    await bench.send(bundle("started", faulty("hang")))
    await bench.until(lambda seen: bundles_of(seen, "started"))
    async with asyncio.timeout(10):
        while await committed(bench) is None:
            await asyncio.sleep(0.01)
    await bench.send(bundle("waiting", faulty("")))
    await eventually(lambda: first.counters.in_hand == 2)
    await bench.kill(first)
    await bench.worker(name="w2")
    await bench.finished()
    assert bundles_of(bench.seen, "finished") == {"waiting"}
    assert {outcome["worker"] for outcome in bench.seen if outcome["bundle_id"] == "started"} == {"w1"}


async def test_a_bundle_whose_start_was_never_durable_is_run_again(bench, monkeypatch):
    from shotbus.broker.bus.base import BusError

    first = await bench.worker(advertise_seconds=60.0)

    async def away(records):
        raise BusError("away")

    monkeypatch.setattr(first.test_bus, "publish", away)
    await bench.send(bundle("b", faulty("")))
    await eventually(lambda: first.counters.bus_errors > 0)
    await bench.kill(first)
    await bench.worker(name="w2")
    await bench.finished()
    assert {outcome["worker"] for outcome in bench.seen} == {"w2"}


async def test_a_bundle_that_is_delivered_twice_is_claimed_twice_under_different_leases(bench):
    await bench.worker()
    twice = bundle("b", faulty(""))
    await bench.send(twice)
    await bench.send(twice)
    await bench.until(lambda seen: len([o for o in seen if o["kind"] == "finished"]) == 2)
    assert len({outcome["lease_id"] for outcome in bench.seen}) == 2


async def test_a_newcomer_takes_its_partitions_while_a_lost_one_still_reports(bench):
    first = await bench.worker(attempt_seconds=1.0)
    for partition in range(4):
        await bench.send(bundle(f"hang{partition}", faulty("hang")), partition=partition)
    await bench.until(lambda seen: bundles_of(seen, "started"))
    await bench.worker(name="w2", attempt_seconds=1.0)
    mine = await bench.status_until(W1, lambda status: len(status["partitions"]) == 2)
    theirs = await bench.status_until(W2, lambda status: len(status["partitions"]) == 2)
    assert sorted(mine["partitions"] + theirs["partitions"]) == [0, 1, 2, 3]
    items = await bench.finished(4)
    assert {one["error_class"] for one in items.values()} == {"TIMEOUT"}
    assert {outcome["worker"] for outcome in bench.seen} == {"w1", "w2"}
    assert first.counters.bus_errors == 0


async def test_a_graceful_stop_finishes_what_runs_and_leaves_the_rest(bench):
    worker = await bench.worker(attempt_seconds=1.5)
    await bench.send(bundle("running", faulty("hang")))
    await bench.until(lambda seen: bundles_of(seen, "started"))
    await bench.send(bundle("waiting", faulty("")))
    await eventually(lambda: worker.counters.in_hand == 2)
    stopping = asyncio.create_task(bench.stop(worker))
    draining = await bench.status_until(W1, lambda status: status["state"] == "draining")
    assert draining["grants"] == {}
    await bench.worker(name="w2")
    items = await bench.finished(2)
    assert items["running", 0]["error_class"] == "TIMEOUT"
    assert items["waiting", 0]["error_class"] == ""
    assert {o["worker"] for o in bench.seen if o["bundle_id"] == "waiting"} == {"w2"}
    await stopping
    assert (await bench.statuses(W1))[-1] is None


async def test_a_stop_is_bounded_in_time(bench):
    worker = await bench.worker(stop_seconds=0.3, attempt_seconds=60.0)
    await bench.send(bundle("b", faulty("hang")))
    await eventually(worker.pids)
    (pid,) = worker.pids()
    begun = time.monotonic()
    await bench.stop(worker)
    assert time.monotonic() - begun < 5
    assert not Path(f"/proc/{pid}").exists()


async def test_credits_follow_the_backlog_of_live_dispatchers(bench):
    await bench.worker(slots=3, prefetch=1, advertise_seconds=0.1, dispatcher_silent_seconds=1.0)
    await advertise(bench, "one", faulty=0.0)
    await advertise(bench, "two", faulty=2.0, aer=99.0)
    await bench.status_until(W1, lambda status: status["grants"] == {"one": 1, "two": 3})
    await advertise(bench, "two", tombstone=True)
    await bench.status_until(W1, lambda status: status["grants"] == {"one": 4})
    await bench.status_until(W1, lambda status: status["grants"] == {})


async def test_too_few_credits_go_around(bench):
    await bench.worker(slots=1, prefetch=0, advertise_seconds=0.05)
    seen = set()
    async with asyncio.timeout(10):
        while len(seen) < 3:
            for name in ("one", "two", "three"):
                await advertise(bench, name)
            for status in await bench.statuses(W1):
                grants = status["grants"] if status else {}
                assert sum(grants.values()) <= 1
                seen |= {name for name, count in grants.items() if count}
            await asyncio.sleep(0.02)


async def test_liveness_is_told_every_period(bench):
    await bench.worker(advertise_seconds=0.05)
    first = await bench.status_until(W1, lambda status: status["partitions"] == [0, 1, 2, 3])
    later = await bench.status_until(W1, lambda status: status["at_ms"] > first["at_ms"] + 100)
    assert (later["kind"], later["state"], later["pool"]) == ("none", "ready", "faulty")


async def test_history_is_not_mistaken_for_life(bench):
    bench.cluster.clock = lambda: time.time() - 60
    await advertise(bench, "old")
    bench.cluster.clock = time.time
    await advertise(bench, "new")
    await bench.worker(slots=1, prefetch=0)
    await bench.status_until(W1, lambda status: status["grants"] == {"new": 1})


CRASHING = """
import asyncio, sys
sys.path.append(sys.argv[1])
from worker_kit import Bench, bundle, bundles_of, faulty
async def main():
    bench = await Bench().open()
    await bench.worker()
    await bench.send(bundle("b", faulty("")))
    await bench.finished()
    print("finished", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "point",
    ["worker.before_started", "worker.after_started", "worker.before_finished", "worker.after_finished"],
)
def test_failpoints_kill_the_worker_where_they_say(point):
    environment = {**os.environ, "SHOTBUS_FAILPOINT": point}
    command = [sys.executable, "-c", CRASHING, str(Path(__file__).parents[1])]
    ended = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert b"finished" not in ended.stdout
