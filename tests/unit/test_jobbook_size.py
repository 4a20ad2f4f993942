"""What a waiting job costs in memory, and that it costs the same among many."""

import gc
import tracemalloc

from shotbus.broker.config import FairnessConfig
from shotbus.broker.dispatcher.job import Job, Reference
from shotbus.broker.dispatcher.jobbook import JobBook
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.dispatcher.timetable import Timetable
from shotbus.broker.dispatcher.waiting import WaitingQueue
from shotbus.schemas.ids import digest

START_US = 1_759_000_000_000_000
SAME = {
    **dict.fromkeys(("intent", "family", "session_id"), ""),
    **dict.fromkeys(("points", "shots", "prepare_us", "think_us", "not_before_ms"), 1),
    "experiment": "size",
    "payload_hash": bytes(16),
}


def job(number):
    fields = SAME | {
        "job_id": digest("job", str(number)).hex(),
        "tenant": f"tenant-{number % 20}",
        "priority": "bulk",
        "sweep_id": f"sweep-{number // 500}",
        "circuit_id": f"{number // 500:064x}",
        "shard_index": number % 500,
        "submitted_us": START_US + number,
        "deadline_ms": START_US // 1_000 + number * 7_919 % 1_000_000,
    }
    made = Job(fields, Reference("requests.bulk", 0, number), "noop")
    made.accepted_us = START_US + number // 10 * 1_000
    made.cost, made.phase = 0.01, Phase.WAITING
    made.traceparent = f"00-{digest('trace', str(number)).hex()}-{number:016x}-01"
    return made


def filled(count, **extras):
    """Jobs with deadlines and traces, parked, queued and watched; bytes of each."""
    book, queue, timetable = JobBook(), WaitingQueue({"bulk": 1.0}, FairnessConfig()), Timetable()
    gc.collect()
    tracemalloc.start()
    for number in range(count):
        made = job(number)
        if extras:
            made.extras = dict(extras)
        key = book.add(made)
        queue.push(made, key)
        timetable.watch(made, key)
        book.park(made)
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (len(book), queue.length, len(timetable), book.hot) == (count, count, count, 0)
    return size / count


def test_a_waiting_job_takes_320_bytes_and_no_more_among_many():
    few, many = filled(4_000), filled(12_000)
    assert many < 320
    assert many < 1.2 * few


def test_what_many_jobs_asked_for_alike_is_held_once():
    alike = filled(4_000, max_cost=5.0, windows=["night"], quality={"outcomes": "00,11", "share": "0.9"})
    assert alike < filled(4_000) + 120


def test_what_has_gone_takes_nothing():
    book, queue = JobBook(), WaitingQueue({"bulk": 1.0}, FairnessConfig())
    gc.collect()
    tracemalloc.start()
    empty = tracemalloc.get_traced_memory()[0]
    for number in range(6_000):
        made = job(number)
        key = book.add(made)
        queue.push(made, key)
        book.park(made)
    while (key := queue.pop(0)) is not None:
        book.remove(book.at(key))
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - empty
    tracemalloc.stop()
    # One empty block of rows is kept, and one of traces.
    assert left < 320_000
