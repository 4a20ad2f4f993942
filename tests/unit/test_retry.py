"""What is done about a failed attempt, by error class and history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.config import RetryConfig
from shotbus.broker.dispatcher.retry import REMEDIES, Verdict, decide

POLICY = RetryConfig(max_attempts=4, base=1.0, factor=2.0, cap=5.0, max_deaths=3)


def verdict(error_class, *, failures=0, deaths=0, attempt=1, retry_after_ms=0, job="j", policy=POLICY):
    return decide(
        error_class,
        job=job,
        attempt=attempt,
        failures=failures,
        deaths=deaths,
        retry_after_ms=retry_after_ms,
        policy=policy,
    )


@pytest.mark.parametrize("error_class", ["INVALID", "CONSTRAINT"])
def test_what_can_never_succeed_fails_at_once(error_class):
    assert verdict(error_class) == Verdict(None, "failed")


@pytest.mark.parametrize("error_class", ["TRANSIENT", "INTERNAL", "NEVER-HEARD-OF"])
def test_what_may_pass_is_tried_as_often_as_configured(error_class):
    delays = [verdict(error_class, failures=n).delay_ms for n in range(3)]
    assert all(delays)
    assert verdict(error_class, failures=3) == Verdict(None, "dead_lettered")


@pytest.mark.parametrize("failures", [0, 1, 2, 3, 10, 100_000])
def test_the_delay_doubles_between_half_and_all_of_it_up_to_the_cap(failures):
    policy = RetryConfig(max_attempts=1_000_000, base=1.0, factor=2.0, cap=5.0)
    delay = verdict("TRANSIENT", failures=failures, policy=policy).delay_ms
    whole = 1_000 * min(5.0, 2.0 ** min(failures, 10))
    assert whole / 2 <= delay <= whole


@pytest.mark.parametrize("error_class", ["THROTTLED", "NOT_STARTED"])
def test_waiting_for_a_provider_is_not_charged_however_often(error_class):
    patient = verdict(error_class, failures=100, deaths=100, retry_after_ms=60_000)
    assert patient == Verdict(60_000, charged=False)


def test_a_provider_that_asks_for_less_than_the_backoff_gets_the_backoff():
    assert verdict("THROTTLED", retry_after_ms=1).delay_ms >= 500


@pytest.mark.parametrize("error_class", ["CRASHED", "LOST"])
def test_the_third_worker_that_dies_of_a_job_is_the_last(error_class):
    first, second, third = (verdict(error_class, deaths=n) for n in range(3))
    assert first.death
    assert first.delay_ms is not None
    assert second.delay_ms is not None
    assert third == Verdict(None, "dead_lettered", death=True)


def test_a_timeout_is_tried_once_more():
    assert verdict("TIMEOUT").delay_ms is not None
    assert verdict("TIMEOUT", failures=1) == Verdict(None, "timed_out")


@given(
    st.sampled_from(list(REMEDIES)),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(1, 9),
    st.text(max_size=5),
)
def test_a_restored_shard_decides_the_same(error_class, failures, deaths, attempt, job):
    said = verdict(error_class, failures=failures, deaths=deaths, attempt=attempt, job=job)
    assert said == verdict(error_class, failures=failures, deaths=deaths, attempt=attempt, job=job)
    assert (said.delay_ms is None) == bool(said.outcome)


def test_jobs_that_fail_together_do_not_come_back_together():
    assert len({verdict("TRANSIENT", job=str(n)).delay_ms for n in range(50)}) > 25
