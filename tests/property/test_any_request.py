"""Whatever Avro can hold as a request is decided, admitted or refused; nothing of it raises."""

import dataclasses

from avro_values import request_fields
from dispatcher_kit import START_MS, Driver, emitted, submitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_request
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.routing import Router
from shotbus.broker.job_options import KNOWN
from shotbus.schemas.codec import decode, encode

LONGS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2**31, START_MS + 5_000])
FLOATS = st.none() | st.floats() | st.sampled_from([0.0, 1.0])
TEXTS = st.sampled_from(
    ["", "aer", "noop", "classical", "nowhere", "x" * 300, "\0", "bulk", "experiment", "reject", "answer"]
)
STEPS = st.sampled_from(
    ["", "noop", "cache:5", "cache:nan", "cache:", "defer:night", "demote:bulk", "review", "a:b"]
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "points": st.integers(-(2**31), 2**31 - 1),
        "shots": st.integers(-(2**63), 2**63 - 1),
        "mode": st.sampled_from(["sample", "estimate"]),
        "observables": st.binary(max_size=20),
        "intent": st.sampled_from(["explore", "test", "benchmark", "production"]),
        "top_up": st.booleans(),
        "fallback": st.lists(STEPS, max_size=3),
        "options": st.dictionaries(TEXTS | st.sampled_from(sorted(KNOWN)), TEXTS, max_size=2),
        **dict.fromkeys(("roles", "tags"), st.lists(TEXTS, max_size=2)),
        **dict.fromkeys(("deadline_ms", "not_before_ms", "max_result_age_ms", "seed"), LONGS),
        **dict.fromkeys(
            ("precision", "value", "value_per_second", "confidence", "tolerance", "max_cost"), FLOATS
        ),
        **dict.fromkeys(
            ("backend", "window", "data_class", "speculate", "unique_policy", "unique_key"), TEXTS
        ),
        **dict.fromkeys(("session_id", "family", "family_version", "priority", "tenant", "sweep_id"), TEXTS),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(REQUESTS)
def test_any_request_is_admitted_or_refused_with_reasons(changes):
    fields = decode(encode("circuit_request", request_fields(**changes)))[1]
    decision = Router(Config()).decide(fields, None, START_MS)
    event = submitted(fields, pool=decision.pool or fields["backend"] or "aer")
    driver = Driver(lambda: Dispatcher(0, 1, Config()))
    commands = driver.run(dataclasses.replace(event, decision=decision))
    refusals = emitted(commands, "refusal")
    if check_request(fields, Config(), now_ms=START_MS):
        assert refusals[0]["problems"]
    assert len(refusals) + len(driver.machine.live) + len(emitted(commands, "circuit_result")) >= 1
