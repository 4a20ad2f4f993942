"""Byte strings that rows share, against a counter: the same number for the same bytes, and nothing left over."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher.slab import SharedBytes

VALUES = [bytes(4), b"\1\0\0\0", b"abcd", b"abce", b"\xff" * 4]
STEPS = st.lists(st.tuples(st.sampled_from(VALUES), st.booleans()), max_size=80)


@given(STEPS)
def test_shared_bytes_are_kept_once_and_as_long_as_somebody_has_them(steps):
    held, numbers, model = SharedBytes(4), {}, Counter()
    for value, more in steps:
        if more:
            number = held.take(value)
            assert numbers.setdefault(value, number) == number
            model[value] += 1
        elif model[value]:
            held.give(numbers[value])
            model[value] -= 1
            if not model[value]:
                del numbers[value]
        assert {one: held.value(number) for one, number in numbers.items()} == {one: one for one in numbers}
        assert len(held) == len(numbers) == len(held._index)


def test_nothing_is_number_nought():
    held = SharedBytes(4)
    held.give(0)
    assert (held.take(b""), held.value(0), len(held)) == (0, b"", 0)
