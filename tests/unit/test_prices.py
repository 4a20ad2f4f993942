"""Prices: the written formula, in exact decimals, rounded up, with the minimum charge."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.config import PriceConfig
from shotbus.broker.treasury.prices import Cost, Usage, actual, estimate, micro, terms

PLAIN = {"circuits": 1, "sessions": 0}
BRAKET = PriceConfig(per_shot=0.00035, per_task=0.3)
AMOUNTS = st.decimals(0, 1_000, places=6).map(float)
PRICES = st.builds(PriceConfig, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
COUNTS = st.integers(0, 10**6)


def test_a_task_with_shots_costs_what_the_provider_would_bill():
    cost = estimate(BRAKET, points=1, shots=1_000, seconds=2.5, **PLAIN)
    assert cost == Cost(money=650_000, backend_us=2_500_000, shots=1_000)


def test_shots_are_those_of_all_points_and_circuits_and_a_session_is_billed_once():
    price = PriceConfig(per_shot=0.001, per_session=5.0)
    assert estimate(price, points=10, shots=100, circuits=3, seconds=0, sessions=1) == Cost(
        8_000_000, 0, 3_000
    )


def test_backend_seconds_are_counted_and_so_is_what_they_cost():
    cost = estimate(PriceConfig(per_second=1.6), points=1, shots=0, seconds=15.0, **PLAIN)
    assert cost == Cost(24_000_000, 15_000_000, 0)


def test_the_minimum_charge_fills_up_and_never_adds():
    price = PriceConfig(per_shot=0.01, minimum=1.0)
    assert [actual(price, Usage(shots=n)).money for n in (0, 99, 100, 101)] == [1_000_000] * 3 + [1_010_000]


def test_what_the_provider_bills_wins():
    assert actual(BRAKET, Usage(shots=10, seconds=1.0), billed=0.123).money == 123_000


def test_the_bill_names_its_lines_and_their_sum_is_the_cost():
    price = PriceConfig(per_shot=0.001, per_task=0.2, per_second=0.0, minimum=0.5)
    lines = terms(price, Usage(shots=100))
    assert [(line.name, line.money) for line in lines] == [
        ("shots", 100_000),
        ("tasks", 200_000),
        ("minimum charge", 200_000),
    ]


def test_decimals_are_those_that_were_written():
    assert micro(0.1) * 3 == micro(0.3)
    assert estimate(PriceConfig(per_shot=0.1), points=1, shots=3, seconds=0, **PLAIN).money == 300_000


def test_less_than_a_micro_unit_is_rounded_up_once_a_line_not_once_a_shot():
    assert actual(PriceConfig(per_shot=0.000_000_1), Usage(shots=11)).money == 2


def test_a_pool_without_prices_costs_no_money_but_time_and_shots():
    assert estimate(PriceConfig(), points=2, shots=5, seconds=0.25, **PLAIN) == Cost(0, 250_000, 10)


@pytest.mark.parametrize("usage", [Usage(shots=-1), Usage(seconds=-0.1), Usage(tasks=-1)])
def test_negative_usage_is_refused(usage):
    with pytest.raises(ValueError, match="negative"):
        actual(BRAKET, usage)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused_wherever_a_provider_may_say_it(value):
    with pytest.raises(ValueError, match="finite"):
        actual(BRAKET, Usage(seconds=value))
    with pytest.raises(ValueError, match="finite"):
        actual(BRAKET, Usage(), billed=value)


@given(PRICES, COUNTS, COUNTS, AMOUNTS, st.integers(0, 1))
def test_more_usage_never_costs_less_and_an_estimate_covers_what_it_estimated(
    price, shots, more, seconds, session
):
    small = Usage(shots=shots, seconds=seconds, sessions=session)
    large = small._replace(shots=shots + more, seconds=seconds + 1)
    assert micro(price.minimum) <= actual(price, small).money <= actual(price, large).money
    told = estimate(price, points=1, shots=shots, seconds=seconds, circuits=1, sessions=session)
    assert told == actual(price, small)
