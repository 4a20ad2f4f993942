"""Packed arrays: what goes in comes out, and damaged bytes never cost more than they are long."""

import json
import struct

import numpy as np
import pytest
from edge_kit import codes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shotbus.schemas.packed import MAGIC, MAX_ARRAYS, MAX_HEADER_BYTES, pack, unpack

DTYPES = ["<f8", "<f4", "<i8", "<i4", "<u8", "<u4", "<u2", "|u1", "<c16"]


def with_header(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sI", MAGIC, len(raw)) + raw + body


def described(*arrays, meta=None):
    return {"arrays": list(arrays), "meta": {} if meta is None else meta}


@given(
    hnp.arrays(
        st.sampled_from(DTYPES),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_with_dtype_shape_and_bytes(array):
    back, meta = unpack(pack({"a": array}, {"k": 1}))
    assert back["a"].dtype == array.dtype
    assert back["a"].shape == array.shape
    assert back["a"].tobytes() == np.ascontiguousarray(array).tobytes()
    assert meta == {"k": 1}


def test_several_arrays_lie_at_multiples_of_eight_bytes():
    data = pack({"a": np.zeros(3, "|u1"), "b": np.arange(3.0)})
    assert len(data) % 8 == 0
    assert unpack(data)[0]["b"].ctypes.data % 8 == unpack(data)[0]["a"].ctypes.data % 8


def test_arrays_read_are_views_that_cannot_be_written():
    array = unpack(pack({"a": np.arange(3.0)}))[0]["a"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_big_endian_and_strided_arrays_travel_little_endian_and_contiguous():
    array = np.arange(6, dtype=">f8").reshape(2, 3).T[::-1]
    back = unpack(pack({"a": array}))[0]["a"]
    assert back.dtype == "<f8"
    assert (back == array).all()


@pytest.mark.parametrize("dtype", [object, "U3", "S3", bool, "M8[s]", "f2", "i2"])
def test_other_dtypes_do_not_travel(dtype):
    with pytest.raises(ValueError, match="does not travel"):
        pack({"a": np.zeros(2, dtype=dtype)})


BODY = bytes(64)
HOSTILE = {
    "empty": b"",
    "head alone": MAGIC,
    "other magic": b"SBA2" + pack({})[4:],
    "header longer than the data": struct.pack("<4sI", MAGIC, 2**32 - 1),
    "header over its cap": with_header(b" " * (MAX_HEADER_BYTES + 1)),
    "header is no JSON": with_header(b"{"),
    "header is not UTF-8": with_header(b'"\xff"'),
    "header is a list": with_header([]),
    "header without meta": with_header({"arrays": []}),
    "header with nested brackets": with_header(b"[" * 200_000),
    "header with a huge integer": with_header(b'{"arrays":[["a","<f8",[' + b"9" * 5000 + b']]],"meta":{}}'),
    "arrays is a mapping": with_header({"arrays": {}, "meta": {}}),
    "too many arrays": with_header(described(*[["a", "<f8", [0]]] * (MAX_ARRAYS + 1))),
    "array without shape": with_header(described(["a", "<f8"])),
    "dtype object": with_header(described(["a", "|O", [1]]), BODY),
    "dtype a list": with_header(described(["a", ["<f8"], [1]]), BODY),
    "negative shape": with_header(described(["a", "<f8", [-1]]), BODY),
    "shape of floats": with_header(described(["a", "<f8", [1.0]]), BODY),
    "shape of booleans": with_header(described(["a", "<f8", [True]]), BODY),
    "shape a number": with_header(described(["a", "<f8", 8]), BODY),
    "shape a text": with_header(described(["a", "<f8", "8"]), BODY),
    "shape of 2^39": with_header(described(["a", "<f8", [2**39]]), BODY),
    "shape whose product overflows": with_header(described(["a", "<f8", [2**39] * 8]), BODY),
    "shape with zero and huge sides": with_header(described(["a", "<f8", [0, *[2**39] * 7]])),
    "nine dimensions": with_header(described(["a", "<f8", [1] * 9]), BODY),
    "array past the end": with_header(described(["a", "<f8", [9]]), BODY),
    "trailing bytes": pack({"a": np.zeros(1)}) + b"\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_with_one_code(name):
    assert codes(unpack, HOSTILE[name]) == ["SB-1004"]


@given(st.binary(max_size=100))
def test_noise_is_refused_or_read(noise):
    assert codes(unpack, MAGIC + noise) in ([], ["SB-1004"])
