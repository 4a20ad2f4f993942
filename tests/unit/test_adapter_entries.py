"""Raw counts to packed rows: complete, ordered, summed, bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.entries import joined, read_entries


def tables(bits):
    return st.lists(
        st.dictionaries(st.integers(0, 2**bits - 1), st.integers(1, 1000), min_size=1, max_size=20),
        min_size=1,
        max_size=6,
    )


def as_hex(rows):
    return [{hex(outcome): count for outcome, count in row.items()} for row in rows]


def as_rows(entries):
    spans = zip(entries.indptr[:-1], entries.indptr[1:], strict=True)
    return [
        {int.from_bytes(bytes(entries.outcomes[k]), "little"): int(entries.counts[k]) for k in range(a, b)}
        for a, b in spans
    ]


@pytest.mark.parametrize("bits", [1, 8, 12, 64, 65, 100])
def test_every_outcome_is_kept_with_its_count_in_order(bits):
    @given(tables(bits))
    def check(rows):
        entries = read_entries(as_hex(rows), bits)
        assert as_rows(entries) == rows
        assert entries.outcomes.shape[1] == -(-bits // 8)
        assert [list(row) for row in as_rows(entries)] == [sorted(row) for row in rows]

    check()


@pytest.mark.parametrize("shift", [3, 70])
def test_dropped_lower_bits_are_summed_over(shift):
    rows = [{hex(1 << shift | 1): 2, hex(1 << shift): 3, "0x1": 4}]
    assert as_rows(read_entries(rows, 1, shift=shift)) == [{0: 4, 1: 5}]


@given(tables(8), st.data())
def test_chunks_put_together_equal_the_whole(rows, data):
    cut = data.draw(st.integers(1, len(rows)))
    parts = [rows[k : k + cut] for k in range(0, len(rows), cut)]
    whole = read_entries(as_hex(rows), 8)
    again = joined((read_entries(as_hex(part), 8) for part in parts), budget=10**6)
    for name in ("indptr", "outcomes", "counts"):
        assert getattr(whole, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(whole, name).dtype == getattr(again, name).dtype


def test_a_span_of_rows_stands_alone():
    entries = read_entries([{"0x0": 1, "0x1": 2}, {"0x2": 3}, {"0x3": 4}], 2)
    assert as_rows(entries.rows(1, 3)) == [{2: 3}, {3: 4}]
    assert entries.rows(1, 3).indptr.tolist() == [0, 1, 2]


def test_reading_stops_at_the_first_chunk_that_is_too_much():
    read = []

    def chunks():
        for number in range(10):
            read.append(number)
            yield read_entries([{hex(k): 1 for k in range(100)}], 8)

    with pytest.raises(ShotbusError) as refused:
        joined(chunks(), budget=1_000)
    assert refused.value.problems[0].code == "SB-1113"
    assert len(read) == 2


def test_counts_of_ten_million_shots_fit():
    entries = read_entries([{"0x0": 10_000_000}], 1)
    assert entries.counts.dtype == np.dtype("<i4")
    assert entries.counts.tolist() == [10_000_000]
