"""The worker's pure parts: positions, sizes of records, frames, what is remembered, what is counted."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.children.frames import FrameError, FrameKind, frame, json_frame, read_frame
from shotbus.broker.lru import Lru
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import BatchItem, ItemResult
from shotbus.workers.frames import run_frame, split_run
from shotbus.workers.lanes import Lane
from shotbus.workers.outcomes import MAX_RECORD_BYTES, Claim, failed_items, item_fields, split
from shotbus.workers.settings import WorkerCounters

CLAIM = Claim("bundle", "aer", "worker", "lease")


@given(st.permutations(range(8)), st.integers(0, 8))
def test_the_position_never_passes_a_bundle_that_is_not_dealt_with(order, done):
    lane = Lane(0, 10)
    for offset in range(8):
        lane.read(10 + 2 * offset)
    for offset in order[:done]:
        lane.done(10 + 2 * offset)
    left = sorted(order[done:])
    assert lane.position == (10 + 2 * left[0] if left else lane.next_read)


def test_an_offset_that_is_dealt_with_twice_changes_nothing():
    lane = Lane(0, 0)
    lane.read(0)
    lane.done(0)
    lane.done(0)
    lane.done(99)
    assert lane.position == 1


def outcome_item(size, number=0):
    return item_fields(BatchItem(f"{number:032x}", 1, 0, b""), ItemResult(payload=bytes(size)))


@given(st.lists(st.integers(0, 900_000), max_size=12))
def test_records_stay_below_the_limit_unless_a_single_item_fills_them(sizes):
    items = [outcome_item(size, number) for number, size in enumerate(sizes)]
    records = CLAIM.finished(0, items, executed_on="x", provenance=b"{}")
    decoded = [decode(record, "outcome")[1]["items"] for record in records]
    assert [one["job_id"] for part in decoded for one in part] == [one["job_id"] for one in items]
    for record, part in zip(records, decoded, strict=True):
        assert len(record) <= MAX_RECORD_BYTES + 1_000
        assert len(record) <= MAX_RECORD_BYTES or len(part) == 1


def test_problems_count_towards_a_records_size():
    problem = Problem("SB-9001", "$", *["\N{GRINNING FACE}" * 200] * 4)
    items = failed_items([{"job_id": f"{k:032x}", "attempt": 1} for k in range(1_000)], problem)
    records = CLAIM.finished(0, items, executed_on="x", provenance=b"")
    assert len(records) > 1
    assert max(map(len, records)) <= MAX_RECORD_BYTES


def test_no_items_make_no_record():
    assert list(split([], 100)) == []


def test_frames_survive_a_stream():
    stream = io.BytesIO(run_frame({"worker": "w"}, b"bundle") + json_frame(FrameKind.DONE, {"failed": 1}))
    first, second = read_frame(stream), read_frame(stream)
    assert split_run(first.payload) == ({"worker": "w"}, b"bundle")
    assert second.document() == {"failed": 1}
    assert read_frame(stream) is None


@pytest.mark.parametrize(
    "damaged", [b"\x01", frame(FrameKind.GO, b"abc")[:-1], b"\0\0\0\0\x63", b"\xff\xff\xff\xff\x01"]
)
def test_a_damaged_stream_is_noticed(damaged):
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(damaged))


def test_the_least_recently_used_entry_is_forgotten():
    held = Lru(2)
    held.put("a", 1)
    held.put("b", 2)
    assert held.get("a") == 1
    held.put("c", 3)
    assert (held.get("a"), held.get("b"), held.get("c")) == (1, None, 3)


def test_weight_bounds_what_is_held_but_the_newest_always_stays():
    held = Lru(10, budget=10)
    held.put("a", 1, 6)
    held.put("a", 2, 6)
    held.put("b", 3, 4)
    assert len(held) == 2
    held.put("c", 4, 50)
    assert (held.get("a"), held.get("b"), held.get("c")) == (None, None, 4)


def test_service_time_is_a_moving_mean_over_jobs():
    counters = WorkerCounters()
    counters.finished(2, 1, 4.0)
    assert (counters.jobs_done, counters.jobs_failed, counters.service_seconds) == (2, 1, 2.0)
    counters.finished(0, 0, 1.0)
    assert counters.service_seconds == 2.0
    for _ in range(200):
        counters.finished(1, 0, 1.0)
    assert counters.service_seconds == pytest.approx(1.0, abs=1e-3)
