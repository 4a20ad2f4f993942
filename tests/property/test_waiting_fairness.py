"""Shares, ageing, limits and positions of the waiting queue, against what they promise."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting_kit import WEIGHTS, Queue, Waiting

from shotbus.broker.config import FairnessConfig

AGEING = FairnessConfig(ageing_seconds=10)
STRICT = FairnessConfig(mode="strict", ageing_seconds=0)
STRICT_AGEING = FairnessConfig(mode="strict", ageing_seconds=10)
COSTS = st.sampled_from([0.7, 1.0, 3.0])


def jain(shares):
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@given(st.lists(COSTS, min_size=4, max_size=4), st.integers(2, 6))
def test_equal_tenants_get_equal_seconds_while_one_floods(costs, tenants):
    queue = Queue(*[Waiting("flood", cost=costs[0]) for _ in range(1_000)])
    names = [f"t{number}" for number in range(tenants)]
    for number, name in enumerate(names):
        queue.push(*[Waiting(name, cost=costs[number % 4]) for _ in range(3)])
    seconds, longest = Counter(), max(costs)
    while sum(seconds.values()) < 50 * longest * (tenants + 1):
        job = queue.pop()
        seconds[job.tenant] += job.cost
        if job.tenant != "flood":
            queue.push(Waiting(job.tenant, cost=job.cost))
    assert jain([seconds[name] for name in ("flood", *names)]) >= 0.99


@given(st.dictionaries(st.sampled_from(list(WEIGHTS)), COSTS, min_size=2))
def test_each_class_gets_its_weighted_share_of_seconds(costs):
    queue = Queue(*[Waiting(f"{name}-{n}", name, cost) for name, cost in costs.items() for n in range(3)])
    seconds, target = Counter(), 150 * max(costs.values())
    while sum(seconds.values()) < target:
        job = queue.pop()
        seconds[job.priority] += job.cost
        queue.push(Waiting(job.tenant, job.priority, job.cost))
    total = sum(WEIGHTS[name] for name in costs)
    for name in costs:
        assert seconds[name] == pytest.approx(
            target * WEIGHTS[name] / total, rel=0.1, abs=3 * max(costs.values())
        )


def test_a_strict_queue_serves_the_best_class_first_and_its_tenants_evenly():
    jobs = [Waiting(tenant, name) for name in reversed(WEIGHTS) for tenant in "ab" for _ in range(5)]
    found = Queue(*jobs, fairness=STRICT).drain()
    assert [job.priority for job in found] == [name for name in WEIGHTS for _ in range(10)]
    assert all(
        Counter(job.tenant for job in found[at : at + 4]) == {"a": 2, "b": 2} for at in range(0, 40, 10)
    )


def flooded(queue, now_ms, seconds):
    """Pop a job a second while the best class never runs dry; returns what else was served, and when."""
    served = []
    for second in range(seconds):
        at = now_ms + 1_000 * second
        queue.push(Waiting("flood", "interactive", due_ms=at, accepted_ms=at))
        job = queue.pop(at)
        if job.tenant != "flood":
            served.append((second, job))
    return served


def test_the_lowest_class_of_a_strict_queue_is_served_in_a_bounded_time():
    old = [Waiting(name, due_ms=5_000 + number) for name in "ab" for number in range(200)]
    queue = Queue(*old, *[Waiting("flood", "interactive") for _ in range(50)], fairness=STRICT_AGEING)
    served = flooded(queue, 0, 100)
    assert 30 <= served[0][0] <= 33
    assert Counter(job.tenant for _, job in served) == pytest.approx(
        Counter("ab" * (len(served) // 2)), abs=2
    )
    assert queue.waiting.depths()["bulk"] == (400 - len(served), 400.0 - len(served))


def test_an_old_backlog_does_not_crowd_out_the_class_that_it_enters():
    queue = Queue(*[Waiting("old") for _ in range(1_000)], fairness=STRICT_AGEING)
    queue.push(*[Waiting("new", "interactive", accepted_ms=90_000) for _ in range(10)])
    found = [queue.pop(90_000).tenant for _ in range(20)]
    assert Counter(found[:18])["new"] >= 8


def test_without_ageing_a_strict_queue_starves():
    queue = Queue(Waiting("low"), *[Waiting("flood", "interactive") for _ in range(50)], fairness=STRICT)
    assert flooded(queue, 0, 300) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "pop", "pop", "remove", "end", "wait"]),
        st.builds(
            Waiting,
            tenant=st.sampled_from("abc"),
            priority=st.sampled_from(list(WEIGHTS)),
            cost=st.sampled_from([0.0, 0.5, 3.0]),
            due_ms=st.integers(0, 3),
            session_id=st.sampled_from(["", "s", "t"]),
        ),
        st.integers(0, 50),
    ),
    max_size=80,
)
LIMITS = st.sampled_from(
    [
        {},
        {"session": 1},
        {"tenant": 2},
        {"tenant:a": 1, "session": 1},
        {"backend": 3},
        {"session:s": 1, "tenant": 3},
    ]
)


class Watched(Queue):
    """Runs steps and keeps count of what each must have done."""

    def __init__(self, fairness, limits):
        super().__init__(fairness=fairness, limits=limits)
        self.now, self.running, self.rules = 0, [], limits

    def step(self, action, made, number):
        if action == "push":
            fields = (made.tenant, made.priority, made.cost, made.due_ms, made.session_id)
            self.push(Waiting(*fields, accepted_ms=self.now))
        elif action == "remove" and self.jobs:
            self.remove(sorted(self.jobs.values(), key=lambda job: job.number)[number % len(self.jobs)])
        elif action == "end" and self.running:
            self.end(self.running.pop(number % len(self.running)))
        elif action == "wait":
            self.now += 4_000
        elif action == "pop":
            self.popped(self.pop(self.now))

    def popped(self, job):
        if job is None:
            assert not any(self.may_go(one) for one in self.jobs.values())
            return
        assert self.may_go(job)
        self.running.append(job)
        rest = [
            one for one in self.jobs.values() if one.tenant == job.tenant and one.session_id == job.session_id
        ]
        # Within a session and a class nobody overtakes.
        mine = [one for one in rest if one.priority == job.priority]
        assert all((job.due_ms, job.order) < (one.due_ms, one.order) for one in mine)

    def may_go(self, job):
        kinds = {"tenant": "tenant", "session": "session_id", "backend": None}
        for kind, field in kinds.items():
            name = getattr(job, field) if field else "aer"
            most = self.rules.get(f"{kind}:{name}", self.rules.get(kind, 1_000_000))
            same = [one for one in self.running if field is None or getattr(one, field) == name]
            same = [one for one in same if kind != "session" or one.tenant == job.tenant]
            if (name or kind != "session") and len(same) >= most:
                return False
        return True

    def check(self):
        waiting = self.waiting
        assert sorted(waiting) == sorted(self.jobs)
        assert waiting.length == len(self.jobs)
        cost = defaultdict(float)
        for job in self.jobs.values():
            cost[job.priority] += job.cost
            assert 0 <= waiting.position(job, job.number).jobs < max(1, len(self.jobs))
        assert waiting.seconds == pytest.approx(sum(cost.values()), abs=1e-6)
        by_class = Counter(job.priority for job in self.jobs.values())
        for name, (jobs, seconds) in waiting.depths().items():
            assert (jobs, pytest.approx(seconds, abs=1e-6)) == (by_class[name], cost[name])


@given(STEPS, LIMITS, st.sampled_from([AGEING, STRICT, STRICT_AGEING]))
def test_limits_order_and_counts_hold_whatever_happens(steps, limits, fairness):
    queue = Watched(fairness, limits)
    for action, made, number in steps:
        queue.step(action, made, number)
        queue.check()
    for _ in range(1_000):
        if not queue.jobs:
            break
        queue.step("pop", None, 0)
        if queue.running:
            queue.end(queue.running.pop())
    assert queue.jobs == {}
    assert (queue.waiting._guests, queue.waiting._risen) == ({}, {})


def test_a_session_with_a_limit_of_one_goes_one_by_one_in_order_and_stops_nobody():
    one = [Waiting(session_id="loop", due_ms=number) for number in range(5_000)]
    queue = Queue(*one, *[Waiting(due_ms=9_000) for _ in range(3)], limits={"session": 1})
    first = queue.pop()
    # So many of the session stand before the others that they are put aside in several turns.
    others = [job for job in (queue.pop() for _ in range(8)) if job is not None]
    assert (first, len(others)) == (one[0], 3)
    for number in range(1, 50):
        assert queue.pop() is None
        queue.end(first)
        first = queue.pop()
        assert first is one[number]


def test_what_comes_later_for_a_full_session_does_not_pass_it():
    early, late = Waiting(session_id="s", due_ms=5), Waiting(session_id="s", due_ms=1)
    running = Waiting(session_id="s", due_ms=0)
    queue = Queue(running, early, limits={"session": 1})
    assert [queue.pop(), queue.pop()] == [running, None]
    queue.push(late)
    queue.end(running)
    assert [queue.pop(), queue.pop()] == [late, None]


def test_a_tenant_that_stood_aside_has_not_saved_up():
    queue = Queue(*[Waiting(name) for name in "ab" for _ in range(100)], limits={"tenant:a": 1})
    running = queue.pop()
    for _ in range(50):
        assert queue.pop().tenant == "b"
    queue.end(running)
    found = []
    for _ in range(20):
        found.append(queue.pop())
        queue.end(found[-1])
    assert Counter(job.tenant for job in found) == {"a": 10, "b": 10}


@pytest.mark.parametrize(("tenants", "cost"), [(1, 1.0), (3, 0.5), (10, 2.0)])
def test_the_position_is_what_is_served_before_it(tenants, cost):
    jobs = [
        Waiting(f"{name}{n}", name, cost, due_ms=at)
        for at in range(60)
        for n in range(tenants)
        for name in WEIGHTS
    ]
    queue = Queue(*jobs)
    asked = next(job for job in jobs if job.priority == "experiment" and job.due_ms == 20)
    told = queue.waiting.position(asked, asked.number)
    before = queue.drain()
    ahead = before[: before.index(asked)]
    assert told.jobs == pytest.approx(len(ahead), rel=0.1, abs=tenants)
    assert told.seconds == pytest.approx(sum(job.cost for job in ahead), rel=0.1, abs=cost * tenants)


def test_the_position_in_a_strict_queue_counts_the_better_classes_whole():
    jobs = [Waiting("a", name) for name in WEIGHTS for _ in range(10)]
    queue = Queue(*jobs, fairness=STRICT)
    last = [job for job in jobs if job.priority == "experiment"][-1]
    assert queue.waiting.position(last, last.number) == (29, 29.0)
