"""A worker that is sent circuits to compile ahead: only while it has nothing to run, and nobody hears of it."""

import asyncio
import json
import time

import pytest
from worker_kit import Bench, angles, bundle, bundles_of, eventually, faulty, request, rotations

from shotbus.schemas.codec import decode, encode
from shotbus.workers.hand import Hand
from shotbus.workers.lanes import Lane, Taken

TEXT, NAMES = rotations(3)
RAW = request(TEXT, angles(NAMES, 2))


@pytest.fixture
async def bench():
    bench = await Bench().open()
    yield bench
    await bench.close()


def ahead(requests, *, pool="aer", late=False):
    """A bundle that is only to be compiled."""
    fields = decode(bundle("ahead", requests, pool=pool, late=late), "work_bundle")[1]
    return encode("work_bundle", {**fields, "purpose": "compile", "lease_ms": 0})


async def test_it_compiles_answers_nothing_and_runs_from_there(bench, tmp_path):
    await bench.publish_circuit(TEXT)
    worker = await bench.worker("aer", compile_cache=tmp_path)
    await bench.send(ahead([RAW]), pool="aer")
    await eventually(lambda: worker.counters.ahead_compiled == 1, seconds=60)
    assert worker.counters.compiled_anew == 1
    assert len(list(tmp_path.glob("*.qpy"))) == 1
    await bench.send(bundle("real", [RAW], pool="aer"), pool="aer")
    await bench.finished()
    assert bundles_of(bench.seen, "started") == {"real"}
    (outcome,) = [one for one in bench.seen if one["kind"] == "finished"]
    (facts,) = json.loads(outcome["provenance"])["circuits"].values()
    assert facts["compiled"] == "memory"
    assert (worker.counters.compiled_anew, worker.counters.compiled_from_memory) == (1, 1)


async def test_what_cannot_be_compiled_is_counted_and_harms_nobody(bench):
    await bench.publish_circuit(TEXT)
    worker = await bench.worker("aer")
    unknown = request("nobody has this")
    await bench.send(ahead([unknown, RAW]), pool="aer")
    await eventually(lambda: worker.counters.ahead_compiled == 1, seconds=60)
    assert worker.counters.ahead_failed == 1
    assert worker.counters.children_crashed == 0


async def test_late_ones_are_dropped_and_so_is_what_an_adapter_cannot_do(bench):
    aer, other = await bench.worker("aer"), await bench.worker("faulty", "w2")
    await bench.send(ahead([RAW], late=True), pool="aer")
    await bench.send(ahead(faulty("", ""), pool="faulty"))
    await eventually(lambda: (aer.counters.ahead_dropped, other.counters.ahead_dropped) == (1, 2))
    await bench.send(bundle("real", faulty("")))
    await bench.finished()
    assert bundles_of(bench.seen, "started") == {"real"}
    assert aer.counters.children_started == 0


async def test_only_those_that_can_say_so(bench):
    await bench.worker("aer")
    await bench.worker("faulty", "w2")
    aer = await bench.status_until(b"w/aer/w1", lambda status: status["partitions"])
    other = await bench.status_until(b"w/faulty/w2", lambda status: status["partitions"])
    assert (aer["compiles"], other["compiles"]) == (True, False)


async def test_a_worker_that_stops_does_not_wait_for_what_it_compiles(bench):
    wide, names = rotations(24, 12)
    await bench.publish_circuit(wide)
    worker = await bench.worker("aer")
    await bench.send(ahead([request(wide, angles(names, 1))] * 2), pool="aer")
    await eventually(lambda: worker._ahead._running)
    begun = time.monotonic()
    await bench.stop(worker)
    assert time.monotonic() - begun < 5
    assert not worker.pids()


def taken(number):
    return Taken({"bundle_id": f"b{number}"}, b"", Lane(0, 0), number)


async def test_a_hand_gives_what_is_to_be_run_first_and_forgets_what_is_too_much():
    hand = Hand()
    kept = sum(hand.put_ahead(b"%d" % number) for number in range(100))
    assert 0 < kept < 100
    hand.put(taken(1))
    assert len(hand) == 1
    assert (await hand.next()).offset == 1
    assert await hand.next() == b"0"
    hand.put(taken(2))
    assert [one.offset for one in hand.take()] == [2]
    hand.end()
    assert [await hand.next(), await hand.next()] == [None, None]


async def test_all_who_wait_for_a_hand_are_served_and_told_of_its_end():
    hand = Hand()
    waiting = [asyncio.create_task(hand.next()) for _ in range(3)]
    await asyncio.sleep(0)
    hand.put(taken(1))
    hand.put_ahead(b"x")
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    hand.end()
    found = await asyncio.gather(*waiting)
    assert sorted(str(type(one).__name__) for one in found) == ["NoneType", "Taken", "bytes"]
