"""Every record keeps every value that its schema allows, and nothing else passes for it."""

import pytest
from avro_values import request_fields, values_of
from edge_kit import codes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shotbus.schemas.codec import decode, decode_untrusted, encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.registry import IDS, latest, raw_schema

RECORDS = sorted({key.name for key in IDS.values()})
MODEST = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("name", RECORDS)
@MODEST
@given(st.data())
def test_every_record_round_trips(name, data):
    fields = data.draw(values_of(raw_schema(latest(name))))
    wire = encode(name, fields)
    assert decode(wire) == (name, fields)
    assert decode_untrusted(wire, name) == fields


@MODEST
@given(st.binary(max_size=200))
def test_noise_behind_a_frame_is_refused_or_canonical(noise):
    data = encode("circuit_request", request_fields())[:5] + noise
    refused = codes(decode_untrusted, data, "circuit_request")
    assert set(refused) <= {"SB-1002", "SB-1006"}
    assert refused or encode("circuit_request", decode_untrusted(data, "circuit_request")) == data


@MODEST
@given(st.data())
def test_a_spliced_request_is_refused_or_canonical(data):
    good = encode("circuit_request", request_fields())
    start = data.draw(st.integers(5, len(good)))
    stop = data.draw(st.integers(start, len(good)))
    bad = good[:start] + data.draw(st.binary(max_size=12)) + good[stop:]
    try:
        fields = decode_untrusted(bad, "circuit_request")
    except ShotbusError:
        return
    assert encode("circuit_request", fields) == bad
