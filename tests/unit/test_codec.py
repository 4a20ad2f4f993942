"""The codec's two doors: what our own processes wrote, and what came from outside."""

import io
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import sys
import time
import zlib

import fastavro
import pytest
from avro_values import request_fields
from edge_kit import codes

from shotbus.schemas import codec, registry
from shotbus.schemas.codec import MAX_RECORD_BYTES, decode, decode_untrusted, encode, identify
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.registry import SchemaKey, raw_schema, schema_id

REQUEST = struct.pack(">bI", 0, schema_id(SchemaKey("circuit_request", 1)))
CONTROL = struct.pack(">bI", 0, schema_id(SchemaKey("control", 1)))
JOB_ROW = struct.pack(">bI", 0, schema_id(SchemaKey("job_row", 1)))
CONTROL_FIELDS = {
    "command": "cancel",
    "target": "job",
    "name": "n",
    "tenant": "t",
    "principal": "p",
    "correlation": "",
    "reason": "",
    "at_us": 1,
}


def varint(number):
    """Encode a long as Avro does, without any limit."""
    zigzag, out = (number << 1) ^ (number >> 127), b""
    while zigzag > 127:
        out += bytes([zigzag & 127 | 128])
        zigzag >>= 7
    return out + bytes([zigzag])


def container_bomb():
    stream = io.BytesIO()
    fastavro.writer(stream, raw_schema(SchemaKey("control", 1)), [CONTROL_FIELDS] * 1000, codec="deflate")
    return stream.getvalue()


def job_row_with_boolean_seven():
    fields = {
        one["name"]: {"string": "", "bytes": b"", "double": 0.0}.get(one["type"], 0)
        for one in raw_schema(SchemaKey("job_row", 1))["fields"]
    }
    return encode("job_row", fields | {"cancel_requested": True})[:-1] + b"\x07"


def request():
    return encode("circuit_request", request_fields())


def patched(old, new):
    """A valid request with the one occurrence of some bytes replaced."""
    good = request()
    assert good.count(old) == 1
    return good.replace(old, new)


#: name -> (bytes, record, code)
HOSTILE = {
    "null": (None, "circuit_request", "SB-1001"),
    "empty": (b"", "circuit_request", "SB-1001"),
    "shorter than the frame": (b"\0\0\0", "circuit_request", "SB-1001"),
    "frame alone": (REQUEST, "circuit_request", "SB-1001"),
    "wrong magic": (b"\x01" + request()[1:], "circuit_request", "SB-1001"),
    "unknown schema id": (struct.pack(">bI", 0, 999_999) + request()[5:], "circuit_request", "SB-1001"),
    "highest schema id": (struct.pack(">bI", 0, 2**32 - 1) + request()[5:], "circuit_request", "SB-1001"),
    "another record": (encode("control", CONTROL_FIELDS), "circuit_request", "SB-1001"),
    "truncated": (request()[:-3], "circuit_request", "SB-1001"),
    "trailing bytes": (request() + b"\0", "circuit_request", "SB-1002"),
    "over-long varint": (request()[:-1] + b"\x80" * 9 + b"\x00", "circuit_request", "SB-1002"),
    "varint of 20 bytes": (request()[:-1] + b"\x80" * 19 + b"\x00", "circuit_request", "SB-1002"),
    "endless varint": (REQUEST + b"\xff" * 4096, "circuit_request", "SB-1001"),
    "string of length 2^62": (REQUEST + varint(2**62) + b"x", "circuit_request", "SB-1001"),
    "string of length 2^31": (REQUEST + varint(2**31) + b"x", "circuit_request", "SB-1001"),
    "string of negative length": (REQUEST + varint(-5) + b"xxxxx", "circuit_request", "SB-1001"),
    "invalid UTF-8": (
        patched(b"\x0etenant-", b"\x0e\xff\xfe\xfd\xfc\xfb\xfa\xf9"),
        "circuit_request",
        "SB-1001",
    ),
    "NUL and control characters stay data": (
        patched(b"\x0etenant-", b"\x0e\0\n\x1b\0\0\0\0"),
        "circuit_request",
        "",
    ),
    "UTF-8 surrogates": (patched(b"\x0etenant-", b"\x0e\xed\xa0\x80aaaa"), "circuit_request", "SB-1001"),
    "enum index -1": (CONTROL + b"\x01" + encode("control", CONTROL_FIELDS)[6:], "control", "SB-1002"),
    "enum index 99": (CONTROL + varint(99) + encode("control", CONTROL_FIELDS)[6:], "control", "SB-1001"),
    "boolean byte 7": (job_row_with_boolean_seven(), "job_row", "SB-1002"),
    "container file": (container_bomb(), "circuit_request", "SB-1001"),
    "container file behind a frame": (REQUEST + container_bomb(), "circuit_request", "SB-1001"),
    "compressed batch": (REQUEST + zlib.compress(bytes(50_000_000)), "circuit_request", "SB-1001"),
    "pickle": (pickle.dumps({"job_id": os.system}), "circuit_request", "SB-1001"),
    "pickle behind a frame": (REQUEST + pickle.dumps({"job_id": os.system}), "circuit_request", "SB-1001"),
    "JSON": (b'{"job_id": "x"}', "circuit_request", "SB-1001"),
    "noise": (REQUEST + bytes(range(256)) * 64, "circuit_request", "SB-1001"),
    "one byte too large": (bytes(MAX_RECORD_BYTES + 1), "circuit_request", "SB-1003"),
    "array of 2e9 items": (REQUEST + varint(2_000_000_000) * 40, "circuit_request", "SB-1001"),
}


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
    assert caught.value.problems[0].code in {"SB-1001", "SB-1002"}


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
    """In a child with 256 MB above what its imports take; a segfault would be its exit code."""
    tests = pathlib.Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests)}
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "refused as they should be"


def test_a_size_cap_may_be_lower_than_the_default():
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(request(), "circuit_request", max_bytes=20)
    (problem,) = caught.value.problems
    assert (problem.code, problem.limit) == ("SB-1003", "20 bytes")


def test_identify_names_the_record_without_decoding_it():
    assert identify(request()) == SchemaKey("circuit_request", 1)


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
    older = encode_with(CONTROL, raw_schema(SchemaKey("control", 1)), CONTROL_FIELDS)
    fields = decode(older, "control")[1]
    assert fields["colour"] == "blue"
    assert "reason" not in fields


def test_an_older_version_from_outside_passes_and_is_held_to_its_own_canonical_form(two_versions):
    older = encode_with(CONTROL, raw_schema(SchemaKey("control", 1)), CONTROL_FIELDS)
    assert decode_untrusted(older, "control")["colour"] == "blue"
    with pytest.raises(ShotbusError) as caught:
        decode_untrusted(older + b"\0", "control")
    assert caught.value.problems[0].code == "SB-1002"


def encode_with(frame, schema, fields):
    stream = io.BytesIO()
    stream.write(frame)
    fastavro.schemaless_writer(stream, schema, fields)
    return stream.getvalue()


def main():
    held = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (256 << 20),) * 2)
    assert all(
        codes(decode_untrusted, data, name) == ([code] if code else [])
        for data, name, code in HOSTILE.values()
    )
    print("refused as they should be")


if __name__ == "__main__":
    main()
