"""What few requests wish for: every wrong value is found, with its place, and nothing is asked of a request without any."""

import dataclasses
import math

import pytest
from avro_values import request_fields

from shotbus.broker.config import Config, LimitsConfig
from shotbus.broker.dispatcher.wishes import check_names, check_wishes
from shotbus.broker.policy.config import CronWindowConfig
from shotbus.schemas.codec import decode, encode


def found(**changes):
    fields = decode(encode("circuit_request", request_fields(**changes)))[1]
    return [(one.code, one.path) for one in check_wishes(fields, LimitsConfig())]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fallback": ["noop", "pool:noop", "cache:5", "defer:night", "demote:bulk", "review", "none"]},
        {"value": -3.5, "value_per_second": 0.0, "max_cost": 0.0, "confidence": 1.0, "tolerance": 0.1},
        {"unique_key": "k", "unique_policy": "supersede", "speculate": "blend", "window": "night"},
        {"max_result_age_ms": 0, "precision": 0.01, "data_class": "private", "roles": ["operator"]},
    ],
)
def test_what_is_right_is_taken(changes):
    assert found(**changes) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fallback": ["noop", "", "cache:soon", "a:b"]}, [f"$.fallback[{n}]" for n in (1, 2, 3)]),
        ({"value": math.nan, "max_cost": math.inf}, ["$.value", "$.max_cost"]),
        ({"value_per_second": -1.0, "tolerance": math.nan}, ["$.value_per_second", "$.tolerance"]),
        ({"confidence": 1.5, "precision": -0.1}, ["$.confidence", "$.precision"]),
        ({"max_result_age_ms": -1}, ["$.max_result_age_ms"]),
        ({"unique_policy": "always", "speculate": "yes"}, ["$.unique_policy", "$.speculate"]),
    ],
)
def test_a_wrong_value_is_told_with_its_place(changes, expected):
    assert found(**changes) == [("SB-1108", path) for path in expected]


def test_every_name_that_is_not_configured_is_told_with_those_that_are():
    fields = request_fields(
        window="nosuch",
        fallback=[
            "noop",
            "defer:nosuch",
            "demote:nosuch",
            "nowhere",
            "cache:5",
            "review",
            "defer:night",
            "a:b",
        ],
    )
    config = dataclasses.replace(Config(), windows={"night": CronWindowConfig(cron="0 22 * * *", minutes=60)})
    assert [(one.code, one.path, one.actual) for one in check_names(fields, config)] == [
        ("SB-1108", "$.window", "nosuch"),
        ("SB-1108", "$.fallback[1]", "defer:nosuch"),
        ("SB-1101", "$.fallback[2]", "demote:nosuch"),
        ("SB-1102", "$.fallback[3]", "nowhere"),
    ]
    window, _, urgency, pool = check_names(fields, config)
    assert (window.limit, urgency.limit.split(", ")) == ("night", sorted(config.classes))
    assert pool.limit.split(", ") == sorted(config.pools)
    assert list(check_names(request_fields(window="night", fallback=["none"]), config)) == []


def test_what_is_too_long_is_told():
    changes = {"unique_key": "k" * 257, "window": "w" * 257, "data_class": "d" * 257}
    assert found(**changes) == [("SB-1105", f"$.{name}") for name in changes]
    assert found(fallback=["review"] * 33, roles=["r" * 257]) == [
        ("SB-1105", "$.fallback"),
        ("SB-1105", "$.roles"),
    ]


def test_a_client_may_leave_out_what_has_a_default():
    assert check_wishes({"value": math.nan}, LimitsConfig())[0].path == "$.value"
