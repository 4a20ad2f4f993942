"""Whatever fails in whatever order: jobs end, nothing uncertain is repeated blindly, waiting costs nothing."""

from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.config import RetryConfig
from shotbus.broker.dispatcher.ladders import LADDERS, UNSURE_WHEN_PAID, Action
from shotbus.broker.dispatcher.retry import Failure, History, Means, judge
from shotbus.broker.dispatcher.retry_budget import RetryBudget

POLICY = RetryConfig(max_attempts=4, base=0.5, factor=2.0, cap=4.0, max_deaths=3, give_up_seconds=30.0)
FREE = {"THROTTLED", "NOT_STARTED"}
LIMITS = ("", "4000 shots", "depth 9", "coupling map", "31 qubits")
CLASSES = st.sampled_from([*LADDERS, "?"])
FAILURES = st.builds(
    Failure,
    CLASSES,
    st.sampled_from([({"path": "$", "limit": limit, "detail": ""},) for limit in LIMITS]),
    st.sampled_from([0, 0, 500, 20_000]),
    st.booleans(),
)
MEANS = st.builds(
    Means,
    paid=st.booleans(),
    other_pools=st.integers(0, 3),
    fallback=st.booleans(),
    breaker_ms=st.sampled_from([0, 5_000]),
    expected_ms=st.integers(0, 3_000),
    deadline_ms=st.sampled_from([0, 0, 1_015_000]),
    shots=st.sampled_from([0, 10_000]),
)


def life(failures, means, *, policy=POLICY):
    """Feed failures one after the other, the last one again and again; yield what is seen and said."""
    history, now = History(), 1_000_000
    for number in range(1_000):
        failure = failures[min(number, len(failures) - 1)]
        said = judge(failure, history, means, job="j", now_ms=now, policy=policy)
        yield failure, history, now, said
        if said.action in (Action.END, Action.FALL_BACK):
            return
        if said.action is Action.REROUTE:
            means = means._replace(other_pools=means.other_pools - 1)
        history = history.after(said, now)
        now += said.delay_ms
    raise AssertionError("it would never end")


@given(st.lists(FAILURES, min_size=1, max_size=30), MEANS)
def test_every_job_ends_within_bounded_attempts_and_time(failures, means):
    steps = list(life(failures, means))
    _, history, now, last = steps[-1]
    assert history.failures <= POLICY.max_attempts + POLICY.max_deaths
    assert history.deaths <= POLICY.max_deaths
    assert now <= 1_000_000 + 1_000 * POLICY.give_up_seconds
    assert bool(last.outcome) == (last.action is Action.END)
    assert last.reason


@given(st.lists(FAILURES, min_size=1, max_size=30), MEANS)
def test_what_may_have_been_accepted_is_never_submitted_before_a_look_up_answered(failures, means):
    for failure, history, _, said in life(failures, means):
        doubtful = failure.error_class == "UNKNOWN_OUTCOME"
        doubtful |= means.paid and failure.error_class in UNSURE_WHEN_PAID and not failure.answered
        if doubtful or (history.unsure and not failure.answered):
            assert said.action in (Action.LOOKUP, Action.FALL_BACK, Action.END)
            assert said.unsure


@given(st.lists(FAILURES, min_size=1, max_size=30), MEANS)
def test_throttling_is_never_charged_and_never_spins(failures, means):
    for failure, history, _, said in life(failures, means):
        if failure.error_class in FREE and said.action is Action.RETRY:
            assert not said.charged
            assert said.delay_ms >= max(100, failure.retry_after_ms)
        if said.action is Action.LOOKUP:
            assert not said.charged
        assert said.action is not Action.REROUTE or history.tried.get(said.remedy, 0) < 16


@given(st.lists(FAILURES, min_size=1, max_size=30), MEANS)
def test_no_repeat_begins_that_could_not_end_in_time(failures, means):
    for _, _, now, said in life(failures, means):
        if said.action in (Action.RETRY, Action.REROUTE) and means.deadline_ms:
            assert now + said.delay_ms + means.expected_ms <= means.deadline_ms


@given(FAILURES, MEANS, st.integers(1, 9))
def test_the_same_failure_is_judged_the_same_after_a_restore(failure, means, attempt):
    def ask(job):
        history = History(attempt=attempt)
        return judge(failure, history, means, job=job, now_ms=1_000_000, policy=POLICY)

    assert ask("j") == ask("j")


STORM = st.lists(st.tuples(st.sampled_from(["fresh", "repeat"]), st.sampled_from("pq")), max_size=300)


@given(st.sampled_from([0.1, 0.2, 0.5]), st.integers(1, 10), STORM)
def test_a_storm_of_repeats_takes_no_more_than_its_share_and_burst(share, burst, steps):
    budget, fresh, repeats = RetryBudget(share, burst), {"p": 0, "q": 0}, {"p": 0, "q": 0}
    for kind, pool in steps:
        if kind == "fresh":
            fresh[pool] += 1
            budget.dispatched(pool, 1)
        else:
            repeats[pool] += budget.take(pool, "TRANSIENT", fresh_waits=True)
        for name in "pq":
            assert repeats[name] <= burst + share / (1 - share) * fresh[name] + 1e-6
