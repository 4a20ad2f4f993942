"""The waiting queue: shares by weight, tenants evenly, deadlines first, nobody starves, nothing leaks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting_kit import WEIGHTS, Queue, Waiting


def keep_busy(queue, tenants, rounds):
    """Pop ``rounds`` times; each tenant's place is taken at once by another job of the same kind."""
    served = Counter()
    for _ in range(rounds):
        job = queue.pop()
        served[job.tenant] += job.cost
        queue.push(Waiting(job.tenant, job.priority, job.cost))
    return served


def test_an_empty_queue_has_nothing():
    assert Queue().pop() is None


def test_one_tenants_jobs_go_by_when_they_are_due_then_by_arrival():
    first, late, soon, second = Waiting(), Waiting(due_ms=9), Waiting(due_ms=5), Waiting()
    assert Queue(second, late, first, soon).drain() == [soon, late, first, second]


def test_classes_share_by_weight():
    queue = Queue(*[Waiting(priority=name) for name in WEIGHTS for _ in range(150)])
    served = Counter(queue.pop().priority for _ in range(150))
    assert {name: served[name] for name in WEIGHTS} == pytest.approx(
        {"interactive": 80, "production": 40, "experiment": 20, "bulk": 10}, abs=2
    )


def test_the_share_is_of_seconds_not_of_jobs():
    queue = Queue(
        *[Waiting(priority="interactive", cost=8.0) for _ in range(100)],
        *[Waiting(priority="bulk", cost=0.1) for _ in range(1_000)],
    )
    seconds = Counter()
    for _ in range(300):
        job = queue.pop()
        seconds[job.priority] += job.cost
    assert seconds["interactive"] / seconds["bulk"] == pytest.approx(8, rel=0.4)


def test_the_share_is_of_what_jobs_took_not_of_what_they_said():
    queue = Queue(
        *[Waiting(priority="interactive", cost=1.0) for _ in range(900)],
        *[Waiting(priority="bulk", cost=1.0) for _ in range(900)],
    )
    took, seconds = {"interactive": 0.8, "bulk": 1.6}, Counter()
    for _ in range(800):
        job = queue.pop()
        queue.waiting.took(job, took[job.priority])
        seconds[job.priority] += took[job.priority]
    assert seconds["interactive"] / seconds["bulk"] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_one_run_that_hangs_or_takes_no_time_counts_as_much_as_one_job_more_or_less(seconds):
    queue = Queue(
        *[Waiting(priority="interactive") for _ in range(300)],
        *[Waiting(priority="bulk") for _ in range(300)],
    )
    queue.waiting.took(queue.pop(), seconds)
    served = Counter(queue.pop().priority for _ in range(180))
    assert served["interactive"] == pytest.approx(160, abs=3)


def test_tenants_of_a_class_share_evenly_whatever_they_have_waiting():
    queue = Queue(*[Waiting("flood") for _ in range(10_000)], *[Waiting("calm") for _ in range(10)])
    assert Counter(queue.pop().tenant for _ in range(20)) == {"flood": 10, "calm": 10}


@pytest.mark.parametrize("order", [("one", "many"), ("many", "one")])
def test_a_tenant_with_one_costly_job_at_a_time_does_not_starve_the_others(order):
    jobs = {"one": [Waiting("one", cost=100.0)], "many": [Waiting("many") for _ in range(50)]}
    served = keep_busy(Queue(*jobs[order[0]], *jobs[order[1]]), 2, 1_000)
    assert served["one"] / served["many"] == pytest.approx(1, rel=0.3)


def test_a_tenant_that_was_away_has_not_saved_up():
    queue = Queue(*[Waiting("busy") for _ in range(100)])
    for _ in range(50):
        queue.pop()
    for _ in range(50):
        queue.push(Waiting("back"))
    assert Counter(queue.pop().tenant for _ in range(40)) == {"busy": 20, "back": 20}


def test_a_class_that_was_away_has_not_saved_up():
    queue = Queue(*[Waiting(priority="production") for _ in range(200)])
    for _ in range(100):
        queue.pop()
    for _ in range(100):
        queue.push(Waiting(priority="experiment"))
    assert Counter(queue.pop().priority for _ in range(30))["production"] == pytest.approx(20, abs=2)


def test_the_lowest_class_waits_a_bounded_time():
    queue = Queue(Waiting("low", priority="bulk"))
    for _ in range(100):
        queue.push(Waiting("high", priority="interactive"))
    served = [queue.pop().tenant for _ in range(20)]
    assert "low" in served


def test_an_idle_queue_gives_the_next_tenants_an_even_start():
    queue = Queue(Waiting("past", cost=1_000.0))
    queue.drain()
    assert keep_busy(Queue(Waiting("past"), Waiting("new")), 2, 10) == {"past": 5, "new": 5}


def test_a_removed_job_is_passed_over_and_counted_out():
    kept, gone = Waiting(), Waiting(cost=5.0)
    queue = Queue(gone, kept)
    queue.remove(gone)
    assert (queue.waiting.length, queue.waiting.seconds) == (1, 1.0)
    assert list(queue.waiting) == [kept.number]
    assert queue.drain() == [kept]


def test_a_job_that_was_removed_and_pushed_again_is_there_once():
    job = Waiting()
    queue = Queue(job)
    queue.remove(job)
    queue.push(job)
    assert queue.drain() == [job]


def test_removed_jobs_do_not_pile_up():
    queue = Queue(*[Waiting("stays") for _ in range(10)])
    for number in range(20_000):
        job = Waiting(f"t{number % 7}")
        queue.push(job)
        queue.remove(job)
    bulk = queue.waiting._classes["bulk"]
    assert (len(bulk.order) < 100, len(bulk.lines)) == (True, 1)
    assert len(queue.drain()) == 10


def test_an_endless_row_of_new_tenants_does_not_starve_an_old_one():
    queue = Queue(*[Waiting("stays") for _ in range(500)])
    served = Counter()
    for number in range(500):
        queue.push(Waiting(f"t{number}"))
        served[queue.pop().tenant == "stays"] += 1
    assert served[True] > 20


def test_tenants_that_have_left_do_not_pile_up():
    queue = Queue(*[Waiting("stays") for _ in range(5_000)])
    for number in range(20_000):
        queue.push(Waiting(f"t{number}"))
        queue.pop()
    clock = queue.waiting._classes["bulk"].clock
    assert len(clock._left) < 1_000
    queue.drain()
    assert clock._left == {}


def test_a_class_that_is_no_longer_configured_has_the_least_weight():
    queue = Queue(*[Waiting(priority=name) for name in ("production", "gone") for _ in range(50)])
    served = Counter(queue.pop().priority for _ in range(50))
    assert served["production"] == pytest.approx(40, abs=2)


JOBS = st.builds(
    Waiting,
    tenant=st.sampled_from("abc"),
    priority=st.sampled_from(list(WEIGHTS)),
    cost=st.sampled_from([0.0, 1e-5, 0.5, 1_000.0]),
    due_ms=st.sampled_from([0, 5]),
)


@given(st.lists(st.tuples(st.sampled_from(["push", "push", "pop", "remove"]), JOBS), max_size=60))
def test_what_goes_in_comes_out_once_unless_removed(steps):
    queue, inside = Queue(), {}
    for action, made in steps:
        job = Waiting(made.tenant, made.priority, made.cost, made.due_ms)
        if action == "push":
            queue.push(job)
            inside[job.number] = job
        elif action == "remove" and inside:
            queue.remove(inside.pop(min(inside)))
        elif action == "pop":
            popped = queue.pop()
            assert (popped is None) == (not inside)
            assert popped is None or inside.pop(popped.number) is popped
        assert queue.waiting.length == len(inside)
        assert queue.waiting.seconds == pytest.approx(sum(job.cost for job in inside.values()), abs=1e-6)
        assert sorted(queue.waiting) == sorted(inside)


def test_the_best_class_that_waits_is_told_whether_or_not_it_may_go():
    queue = Queue(Waiting(), limits={"backend": 1})
    assert queue.waiting.best_rank() == 3
    better = Waiting(priority="production")
    queue.push(better)
    assert (queue.pop(), queue.pop()) == (better, None)
    assert queue.waiting.best_rank() == 3
    queue.remove(next(iter(queue.jobs.values())))
    assert queue.waiting.best_rank() is None
