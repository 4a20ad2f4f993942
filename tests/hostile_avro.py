"""Hostile Avro: bytes, the record they claim to be, and the code they are refused with.

As a program it decodes them all with 256 MB above what its imports take; a segfault would be its exit code.
"""

import io
import os
import pathlib
import pickle
import resource
import struct
import zlib

import fastavro
from avro_values import request_fields
from edge_kit import codes

from shotbus.schemas.codec import MAX_RECORD_BYTES, decode_untrusted, encode
from shotbus.schemas.registry import latest, raw_schema, schema_id

REQUEST = struct.pack(">bI", 0, schema_id(latest("circuit_request")))
CONTROL = struct.pack(">bI", 0, schema_id(latest("control")))
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
    """A container file of a few kilobytes whose one block unpacks to 200 MB of records of no bytes."""
    stream = io.BytesIO()
    schema = {
        "type": "record",
        "name": "Bomb",
        "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}],
    }
    fastavro.writer(stream, schema, [{"a": [None] * 9}], codec="deflate")
    head = stream.getvalue()
    marker = head[-16:]
    packed = zlib.compress(bytes(200_000_000), 9)[2:-4]
    return head[: -16 - len(marker)] + varint(2_000_000_000) + varint(len(packed)) + packed + marker


def wherever(field, first, second, index):
    """A request with another index where two values of a union or an enum differ."""
    one, other = (encode("circuit_request", request_fields(**{field: value})) for value in (first, second))
    place = next(number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return one[:place] + varint(index) + one[place + 1 :]


def boolean_seven():
    """A request whose one boolean is neither 0 nor 1."""
    false, true = (bytearray(encode("circuit_request", request_fields(top_up=one))) for one in (False, True))
    (place,) = (number for number, pair in enumerate(zip(false, true, strict=True)) if pair[0] != pair[1])
    true[place] = 7
    return bytes(true)


def tags_of(count):
    """A request whose tags claim to be so many; behind a negative count stand the block's bytes."""
    good = encode("circuit_request", request_fields(tags=["only one"]))
    place = good.index(b"\x02\x10only one")
    return good[:place] + varint(count) + (varint(9) if count < 0 else b"") + good[place + 1 :]


def nested(depth):
    """What a recursive schema would read as ``depth`` records in each other; no schema of ours is one."""
    return struct.pack(">bI", 0, 4242) + varint(1) * depth + varint(0)


def job_row_with_boolean_seven():
    fields = {
        one["name"]: {"string": "", "bytes": b"", "double": 0.0}.get(str(one["type"]), 0)
        for one in raw_schema(latest("job_row"))["fields"]
        if "default" not in one
    }
    false, true = (bytearray(encode("job_row", fields | {"cancel_requested": one})) for one in (False, True))
    (place,) = (number for number, pair in enumerate(zip(false, true, strict=True)) if pair[0] != pair[1])
    true[place] = 7
    return bytes(true)


def request():
    return encode("circuit_request", request_fields())


def patched(old, new):
    """A valid request with the one occurrence of some bytes replaced."""
    good = request()
    assert good.count(old) == 1
    return good.replace(old, new)


#: name -> (bytes, record, code)
HOSTILE = {
    "null": (None, "circuit_request", "SB-1005"),
    "empty": (b"", "circuit_request", "SB-1005"),
    "shorter than the frame": (b"\0\0\0", "circuit_request", "SB-1006"),
    "frame alone": (REQUEST, "circuit_request", "SB-1006"),
    "wrong magic": (b"\x01" + request()[1:], "circuit_request", "SB-1001"),
    "unknown schema id": (struct.pack(">bI", 0, 999_999) + request()[5:], "circuit_request", "SB-1001"),
    "highest schema id": (struct.pack(">bI", 0, 2**32 - 1) + request()[5:], "circuit_request", "SB-1001"),
    "another record": (encode("control", CONTROL_FIELDS), "circuit_request", "SB-1001"),
    "truncated": (request()[:-3], "circuit_request", "SB-1006"),
    "trailing bytes": (request() + b"\0", "circuit_request", "SB-1002"),
    "union index -1": (wherever("seed", 1, None, -1), "circuit_request", "SB-1002"),
    "union index 9": (wherever("seed", None, 1, 9), "circuit_request", "SB-1006"),
    "enum index -1 of a request": (wherever("mode", "sample", "estimate", -1), "circuit_request", "SB-1002"),
    "enum index -1": (CONTROL + b"\x01" + encode("control", CONTROL_FIELDS)[6:], "control", "SB-1002"),
    "enum index 99": (CONTROL + varint(99) + encode("control", CONTROL_FIELDS)[6:], "control", "SB-1006"),
    "over-long varint": (request()[:-1] + b"\x80" * 9 + b"\x00", "circuit_request", "SB-1002"),
    "varint of 20 bytes": (request()[:-1] + b"\x80" * 19 + b"\x00", "circuit_request", "SB-1002"),
    "endless varint": (REQUEST + b"\xff" * 4096, "circuit_request", "SB-1006"),
    "string of length 2^62": (REQUEST + varint(2**62) + b"x", "circuit_request", "SB-1006"),
    "string of length 2^31": (REQUEST + varint(2**31) + b"x", "circuit_request", "SB-1006"),
    "string of negative length": (REQUEST + varint(-5) + b"xxxxx", "circuit_request", "SB-1006"),
    "array of 2e9 items": (tags_of(2_000_000_000), "circuit_request", "SB-1006"),
    "array of -2e9 items": (tags_of(-2_000_000_000), "circuit_request", "SB-1006"),
    "5,000 records in each other": (nested(5_000), "circuit_request", "SB-1001"),
    "invalid UTF-8": (
        patched(b"\x0etenant-", b"\x0e\xff\xfe\xfd\xfc\xfb\xfa\xf9"),
        "circuit_request",
        "SB-1006",
    ),
    "NUL and control characters stay data": (
        patched(b"\x0etenant-", b"\x0e\0\n\x1b\0\0\0\0"),
        "circuit_request",
        "",
    ),
    "UTF-8 surrogates": (patched(b"\x0etenant-", b"\x0e\xed\xa0\x80aaaa"), "circuit_request", "SB-1006"),
    "boolean byte 7": (job_row_with_boolean_seven(), "job_row", "SB-1002"),
    "boolean byte 7 of a request": (boolean_seven(), "circuit_request", "SB-1002"),
    "container file": (container_bomb(), "circuit_request", "SB-1001"),
    "container file behind a frame": (REQUEST + container_bomb(), "circuit_request", "SB-1006"),
    "compressed bytes": (REQUEST + zlib.compress(bytes(50_000_000)), "circuit_request", "SB-1006"),
    "pickle": (pickle.dumps({"job_id": os.system}), "circuit_request", "SB-1001"),
    "pickle behind a frame": (REQUEST + pickle.dumps({"job_id": os.system}), "circuit_request", "SB-1006"),
    "JSON": (b'{"job_id": "x"}', "circuit_request", "SB-1001"),
    "noise": (REQUEST + bytes(range(256)) * 64, "circuit_request", "SB-1006"),
    "one byte too large": (bytes(MAX_RECORD_BYTES + 1), "circuit_request", "SB-1003"),
}


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
