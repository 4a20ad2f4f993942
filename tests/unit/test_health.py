"""What is known of a pool: one word, its reason, the worst of the numbers its workers advertise."""

import pytest

from shotbus.broker.dispatcher.breaker import BreakerView, Gate
from shotbus.broker.dispatcher.health import FLOWING, PoolState, Standing, view

NOW = 1_000_000
OPEN = BreakerView(Gate.OPEN, "BACKEND_DOWN", 12.0)
TRYING = BreakerView(Gate.HALF_OPEN, "", 0.0)


def advert(name="w", pool="p", state="ready", **told):
    return {"role": "worker", "name": name, "pool": pool, "state": state, "slots": 2, **told}


def state_of(adverts, **standing):
    return view("p", adverts, standing=Standing(**standing), now_ms=NOW)


@pytest.mark.parametrize(
    ("adverts", "standing", "state", "word"),
    [
        ([advert()], {"paused": True, "opens": False}, PoolState.PAUSED, "paused"),
        ([advert()], {"opens": False, "breaker": OPEN}, PoolState.CLOSED, "opening hours"),
        ([], {"breaker": OPEN}, PoolState.DOWN, "BACKEND_DOWN, tried again in 12 s"),
        ([], {}, PoolState.EMPTY, "no worker"),
        ([advert(pool="q")], {}, PoolState.EMPTY, "no worker"),
        ([advert(unhealthy="no token")], {}, PoolState.UNHEALTHY, "no token"),
        ([advert(state="draining")], {}, PoolState.DRAINING, "leaving"),
        ([advert()], {"breaker": TRYING, "busy": True}, PoolState.PROBING, "try"),
        ([advert()], {"busy": True}, PoolState.BUSY, "high mark"),
        ([advert()], {}, PoolState.READY, ""),
        ([advert(), advert("v", unhealthy="no token")], {}, PoolState.READY, "no token: 1 of 2 workers"),
    ],
)
def test_the_first_state_that_applies_is_told_with_its_reason(adverts, standing, state, word):
    told = state_of(adverts, **standing)
    assert (told.state, told.flows) == (state, state in FLOWING)
    assert word in told.reason


def test_those_who_can_run_something_are_counted():
    told = state_of([advert(), advert("v"), advert("u", state="draining"), advert("t", unhealthy="x")])
    assert (told.workers, told.slots) == (2, 4)


def test_the_worst_number_counts_and_the_unknown_is_left_out():
    one = advert(fidelity=0.99, t1_us=100.0, t2_us=None, provider_queue_seconds=-1.0, service_seconds=1.0)
    two = advert("v", fidelity=0.97, t1_us=None, provider_queue_seconds=30.0, service_seconds=3.0, errors=0.5)
    told = state_of([one, two])
    assert (told.fidelity, told.t1_us, told.t2_us) == (0.97, 100.0, None)
    assert (told.provider_queue_seconds, told.service_seconds, told.errors) == (30.0, 2.0, 0.25)


def test_the_newest_calibration_counts_and_a_mixture_is_told():
    old = advert(calibration_id="a", calibrated_ms=NOW - 90_000)
    new = advert("v", calibration_id="b", calibrated_ms=NOW - 60_000)
    told = state_of([old, new])
    assert (told.calibration_id, told.calibration_age, told.mixed) == ("b", 60.0, True)
    assert not state_of([new, advert("u")]).mixed


def test_of_a_worker_of_an_older_version_nothing_is_assumed():
    told = state_of([advert()])
    assert (told.calibration_id, told.calibration_age, told.provider_queue_seconds) == ("", -1.0, -1.0)
