"""Dead letters read back: fingerprints do not change with what varies, and hostile headers say nothing."""

import pytest
from avro_values import request_fields
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus.base import Record
from shotbus.broker.deadletters import (
    PREFIX,
    WRITTEN_AT,
    dead_letter,
    fingerprint,
    moved,
    normalised,
    read_letter,
)
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import Problem

TRACE = """Traceback (most recent call last):
  File "/opt/shotbus/runner.py", line {line}, in _handle
    commands += handle(event, now)
  File "{folder}/machine.py", line {line}, in _judge
    raise KeyError(name)
KeyError: '{name}'
"""


def letter(value=b"x", headers=(), *, message="m", code="SB-1001", error_class="INVALID", pool="", offset=7):
    source = Record("shotbus.requests.bulk", 1, 42, b"k", value, headers, 1_000)
    out = dead_letter(
        source,
        topic="shotbus.dead-letters",
        partition=1,
        group="g",
        error_class=error_class,
        code=code,
        message=message,
        pool=pool,
    )
    return Record(out.topic, out.partition, offset, out.key, out.value, out.headers, 5_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            str(Problem("SB-1003", "$", limit="262144 bytes", actual="262145 bytes")),
            str(Problem("SB-1003", "$", limit="262144 bytes", actual="999999 bytes")),
        ),
        (
            str(Problem("SB-1101", "$.priority", actual="urgent")),
            str(Problem("SB-1101", "$.priority", actual="x")),
        ),
        ("died after 1.5e-3 s with signal 9", "died after 20 s with signal 11"),
        ("job 00ab34cd00ab34cd is gone", "job ffab34cd00ab34ce is gone"),
        ("no such file '/a/b'", 'no such file "c"'),
        (
            TRACE.format(line=7, folder="/opt", name="a: b"),
            TRACE.format(line=900, folder="/home/me", name="c"),
        ),
    ],
)
def test_what_varies_from_letter_to_letter_does_not_show(one, other):
    assert one != other
    assert normalised(one) == normalised(other)


def test_a_traceback_is_its_last_place_and_the_type_of_the_error():
    assert normalised(TRACE.format(line=7, folder="/opt", name="a")) == "KeyError in machine.py _judge"


def test_a_fingerprint_depends_on_class_code_message_pool_and_family_and_never_changes():
    first = fingerprint("INVALID", "SB-1001", "m", pool="aer", family="h2")
    assert first == "5e6a4206e0d6"
    others = {
        fingerprint("POISON", "SB-1001", "m", pool="aer", family="h2"),
        fingerprint("INVALID", "SB-1002", "m", pool="aer", family="h2"),
        fingerprint("INVALID", "SB-1001", "n", pool="aer", family="h2"),
        fingerprint("INVALID", "SB-1001", "m", pool="noop", family="h2"),
        fingerprint("INVALID", "SB-1001", "m", pool="aer", family=""),
    }
    assert len(others | {first}) == 6


def test_a_letter_tells_of_its_request_and_where_it_was_given_up():
    value = encode("circuit_request", request_fields(family="h2", backend="aer"))
    found = read_letter(letter(value, pool="other"))
    assert (found.tenant, found.family, found.pool, found.redriven) == ("tenant-", "h2", "other", 0)
    assert read_letter(letter(value)).pool == "aer"
    assert (found.name, found.at_ms, found.origin[2]) == ("1:7", 5_000, "42")


def test_headers_that_came_with_the_record_do_not_pass_for_ours():
    forged = ((f"{PREFIX}topic", b"t"), (f"{PREFIX}pool", b"p"), (WRITTEN_AT, b"1"), ("redrive-count", b"-3"))
    found = read_letter(letter(headers=forged))
    assert (found.topic, found.pool, found.at_ms) == ("shotbus.requests.bulk", "", 5_000)
    assert found.redriven == 0


def test_a_moved_letter_is_the_same_letter_with_the_time_of_the_old_one():
    old = letter(b"bytes")
    for _ in range(2):
        copy = moved(old)
        assert (copy.value, copy.key) == (b"bytes", b"k")
        new = Record(copy.topic, copy.partition, 99, copy.key, copy.value, copy.headers, 8_000)
        assert read_letter(new).origin == read_letter(old).origin
        assert (read_letter(new).at_ms, read_letter(new).name) == (5_000, "1:99")
        old = new


def test_a_long_message_keeps_begin_and_end():
    found = read_letter(letter(message="begin" + "x" * 50_000 + "end"))
    assert len(found.message) == 8_192
    assert found.message.startswith("begin")
    assert found.message.endswith("end")


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=40)), max_size=8
    ),
    st.none() | st.binary(max_size=200),
    st.text(max_size=300),
)
def test_any_record_can_be_made_a_letter_and_read_back(headers, value, message):
    found = read_letter(letter(value, tuple(headers), message=message))
    assert len(found.fingerprint) == 12
    assert found.code == "SB-1001"


@given(st.text(max_size=300))
def test_normalising_twice_changes_nothing_more(message):
    once = normalised(message)
    if not once.startswith("Traceback "):
        assert normalised(once) == once
