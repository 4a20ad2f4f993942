"""Timers and deadlines by key: in order of time and admission, and nothing left behind."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher.timetable import Timetable


@dataclass
class Timed:
    not_before_ms: int = 0
    deadline_ms: int = 0
    order: int = 0


def test_timers_come_in_order_of_time_then_of_admission():
    table = Timetable()
    jobs = {1: Timed(5, order=9 << 40), 2: Timed(5, order=3 << 40), 3: Timed(2, order=7 << 40), 4: Timed(9)}
    for key, job in jobs.items():
        table.later(job, key)
    assert (table.next_ms(), table.timed()) == (2, [3, 2, 1, 4])
    assert list(table.due(5)) == [3, 2, 1]
    assert (list(table.due(5)), table.next_ms(), len(table)) == ([], 9, 1)


def test_a_deadline_watched_twice_comes_once_and_a_job_without_one_never():
    table = Timetable()
    for _ in range(2):
        table.watch(Timed(deadline_ms=7), 1)
        table.watch(Timed(), 2)
    assert list(table.late(10)) == [1]
    assert len(table) == 0


def test_what_a_job_causes_while_it_is_due_may_change_the_timetable():
    table, jobs = Timetable(), {key: Timed(1, 1, order=key << 40) for key in range(4)}
    for key, job in jobs.items():
        table.watch(job, key)
    found = []
    for key in table.late(1):
        found.append(key)
        table.forget(jobs[3], 3)
    assert found == [0, 1, 2]


TIMES = st.builds(Timed, st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**71))


@given(st.lists(TIMES, max_size=40), st.data())
def test_nothing_is_left_of_jobs_that_were_forgotten(jobs, data):
    table = Timetable()
    for key, job in enumerate(jobs):
        table.later(job, key)
        table.watch(job, key)
    gone = data.draw(st.sets(st.sampled_from(range(len(jobs))))) if jobs else set()
    for key in sorted(gone):
        # A timer at 0 has been due since for ever: it is taken, not forgotten.
        jobs[key].not_before_ms or next(iter(table.due(0)), None)
        table.forget(jobs[key], key)
    kept = set(range(len(jobs))) - gone
    late = sorted(key for key in kept if jobs[key].deadline_ms)
    assert sorted(table.late(5)) == late
    assert {key for key in table.due(5) if jobs[key].not_before_ms} == {
        key for key in kept if jobs[key].not_before_ms
    }
    assert len(table) == 0
