"""Frames of compiled circuits: whole and under their own key, or nothing."""

from hypothesis import given
from hypothesis import strategies as st

from shotbus.workers.compiled.entry import Entry, pack, unpack

KEYS = st.integers(0, 2**256 - 1).map("{:064x}".format)
TOLD = st.dictionaries(st.text(max_size=8), st.lists(st.integers(0, 200), max_size=8) | st.text(), max_size=4)
ENTRIES = st.builds(Entry, TOLD, st.binary(max_size=200))


@given(KEYS, ENTRIES)
def test_what_is_packed_comes_out_as_it_was(key, entry):
    assert unpack(key, pack(key, entry)) == entry


@given(KEYS, KEYS, ENTRIES)
def test_an_entry_is_only_that_of_its_own_key(key, other, entry):
    assert unpack(other, pack(key, entry)) == (entry if other == key else None)


@given(KEYS, ENTRIES, st.data())
def test_no_changed_byte_goes_unnoticed(key, entry, data):
    whole = pack(key, entry)
    at = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    assert unpack(key, whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]) is None


@given(KEYS, ENTRIES, st.data())
def test_no_part_of_an_entry_is_one(key, entry, data):
    whole = pack(key, entry)
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    part = whole[begin:end]
    assert unpack(key, part) == (entry if part == whole else None)
    assert unpack(key, whole + whole[begin:end]) == (entry if begin == end else None)


@given(KEYS, st.binary(max_size=300))
def test_whatever_else_lies_there_is_none(key, data):
    assert unpack(key, data) is None
