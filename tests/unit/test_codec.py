"""The codec's two doors: what our own processes wrote, and what came from outside."""

import io
import os
import pathlib
import struct
import subprocess
import sys
import time

import fastavro
import pytest
from avro_values import request_fields
from hostile_avro import CONTROL_FIELDS, HOSTILE, request, varint

from shotbus.schemas import codec, registry
from shotbus.schemas.codec import decode, decode_untrusted, encode, identify
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.registry import SchemaKey, raw_schema, schema_id

FIRST_CONTROL = struct.pack(">bI", 0, schema_id(SchemaKey("control", 1)))


def seed_branch(index):
    """A request whose optional seed names another branch of its union."""
    plain = encode("circuit_request", request_fields(seed=None, backend="backend-here"))
    place = plain.index(b"\x18backend-here") - 1
    return plain[:place] + varint(index) + plain[place + 1 :]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_with_a_code(name):
    data, record, code = HOSTILE[name]
    began = time.monotonic()
    if not code:
        assert decode_untrusted(data, record)
        return
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(data, record)
    assert [problem.code for problem in caught.value.problems] == [code]
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("index", [-1, -2, 9, 2**40])
def test_a_union_index_out_of_range_is_refused(index):
    assert decode_untrusted(seed_branch(0), "circuit_request")["seed"] is None
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(seed_branch(index), "circuit_request")
    assert caught.value.problems[0].code in {"SB-1002", "SB-1006"}


def test_every_truncation_of_a_request_is_refused():
    good = request()
    for length in range(len(good)):
        with pytest.raises(ShotbusError):
            decode_untrusted(good[:length], "circuit_request")


def test_every_flipped_bit_is_refused_or_still_canonical():
    good = request()
    for place in range(5, len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            try:
                fields = decode_untrusted(bytes(bad), "circuit_request")
            except ShotbusError:
                continue
            assert encode("circuit_request", fields) == bytes(bad)


def test_a_map_with_the_same_key_twice_is_refused():
    good = encode("circuit_request", request_fields(options={"aa": "1", "bb": "2"}))
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(good.replace(b"\x04bb", b"\x04aa"), "circuit_request")
    assert caught.value.problems[0].code == "SB-1002"


def test_hostile_bytes_cost_little_memory_and_no_process():
    tests = pathlib.Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests)}
    done = subprocess.run(
        [sys.executable, str(tests / "hostile_avro.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "refused as they should be"


def test_a_size_cap_may_be_lower_than_the_default():
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(request(), "circuit_request", max_bytes=20)
    (problem,) = caught.value.problems
    assert (problem.code, problem.limit) == ("SB-1003", "20 bytes")


def test_identify_names_the_record_without_decoding_it():
    assert identify(request()) == SchemaKey("circuit_request", 3)


def test_decode_refuses_a_record_that_is_not_expected_here():
    with pytest.raises(ShotbusError, match="circuit_result or refusal"):
        decode(request(), "circuit_result", "refusal")


def test_encode_refuses_fields_that_do_not_fit():
    with pytest.raises((ValueError, TypeError)):
        encode("circuit_request", request_fields(points="many"))


@pytest.fixture
def two_versions(monkeypatch):
    """A second version of ``control`` that dropped one field and added another."""
    older = raw_schema(SchemaKey("control", 1))
    kept = [one for one in older["fields"] if one["name"] != "reason"]
    newer = {**older, "fields": [*kept, {"name": "colour", "type": "string", "default": "blue"}]}
    schemas = {1: older, 2: newer}
    caches = (registry.raw_schema, registry.parsed_schema, codec._writer_of)
    monkeypatch.setattr(codec, "IDS", {**registry.IDS, 2000: SchemaKey("control", 2)})
    monkeypatch.setattr(codec, "latest", lambda name: SchemaKey(name, 2))
    monkeypatch.setattr(
        codec, "parsed_schema", lambda key: fastavro.parse_schema(schemas[key.version], named_schemas={})
    )
    yield
    for cache in caches:
        cache.cache_clear()


def test_an_older_version_is_read_as_the_newest(two_versions):
    older = encode_with(FIRST_CONTROL, raw_schema(SchemaKey("control", 1)), CONTROL_FIELDS)
    fields = decode(older, "control")[1]
    assert fields["colour"] == "blue"
    assert "reason" not in fields


def test_an_older_version_from_outside_passes_and_is_held_to_its_own_canonical_form(two_versions):
    older = encode_with(FIRST_CONTROL, raw_schema(SchemaKey("control", 1)), CONTROL_FIELDS)
    assert decode_untrusted(older, "control")["colour"] == "blue"
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(older + b"\0", "control")
    assert caught.value.problems[0].code == "SB-1002"


def encode_with(frame, schema, fields):
    stream = io.BytesIO()
    stream.write(frame)
    fastavro.schemaless_writer(stream, schema, fields)
    return stream.getvalue()


def test_a_bytes_field_that_is_left_out_or_that_an_older_writer_did_not_know_is_bytes():
    item = {"job_id": "j", "attempt": 1, "seed": 1, "traceparent": "", "request": b"r"}
    numbers = dict.fromkeys(("shard", "start_by_ms", "lease_ms", "sent_us"), 0)
    bundle = {"bundle_id": "b", "pool": "p", **numbers, "items": [item]}
    for record in (written(1, bundle), written(2, bundle), encode("work_bundle", bundle)):
        fields = decode(record)[1]
        assert (fields["items"][0]["prior"], fields["items"][0]["deadline_ms"]) == (b"", 0)
        assert decode(encode("work_bundle", fields))[1] == fields


def written(version, bundle):
    """A bundle as a dispatcher of that version wrote it."""
    key = SchemaKey("work_bundle", version)
    return encode_with(struct.pack(">bI", 0, schema_id(key)), registry.parsed_schema(key), bundle)
