"""Sampled outcomes of many rows as packed arrays, without bit strings in between. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts
from shotbus.workers.adapters.base import too_large

#: numpy's widest integer; wider outcomes go through Python's.
_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Entries:
    """Outcomes of rows: CSR as in :class:`Counts`, sorted by outcome within a row."""

    indptr: Array
    outcomes: Array
    counts: Array

    @property
    def nbytes(self) -> int:
        """Packed size without the header."""
        return int(self.indptr.nbytes + self.outcomes.nbytes + self.counts.nbytes)

    def rows(self, start: int, stop: int) -> Entries:
        """Return rows ``start`` to ``stop`` (exclusive)."""
        low, high = int(self.indptr[start]), int(self.indptr[stop])
        indptr = (self.indptr[start : stop + 1] - low).astype("<i4")
        return Entries(indptr, self.outcomes[low:high], self.counts[low:high])

    def with_registers(self, registers: Sequence[tuple[str, int]]) -> Counts:
        """Return the result's form."""
        return Counts(tuple(registers), self.indptr, self.outcomes, self.counts)


def read_entries(tables: Sequence[Mapping[str, int]], bits: int, *, shift: int = 0) -> Entries:
    """Pack the raw counts of one Aer call.

    Args:
        tables: hex numbers to counts, a table a row.
        bits: number of classical bits to keep.
        shift: how many lower bits are dropped; outcomes that become equal are added up.

    """
    sizes = np.fromiter(map(len, tables), dtype=np.int64, count=len(tables))
    keys = map(int, chain.from_iterable(tables), repeat(16))
    counts = np.fromiter(chain.from_iterable(table.values() for table in tables), np.int64, int(sizes.sum()))
    rows = np.repeat(np.arange(len(tables)), sizes)
    pack = _narrow if bits + shift <= _WORD_BITS else _wide
    outcomes, order = pack(keys, rows, bits, shift)
    return _summed(rows[order], outcomes, counts[order], len(tables))


def _narrow(keys: Iterable[int], rows: Array, bits: int, shift: int) -> tuple[Array, Array]:
    numbers = np.fromiter(keys, dtype="<u8", count=rows.size) >> np.uint64(shift)
    order = np.lexsort((numbers, rows))
    raw = numbers[order].view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(raw[:, : _width(bits)]), order


def _wide(keys: Iterable[int], rows: Array, bits: int, shift: int) -> tuple[Array, Array]:
    numbers = [key >> shift for key in keys]
    order = sorted(range(len(numbers)), key=lambda k: (rows[k], numbers[k]))
    raw = b"".join(numbers[k].to_bytes(_width(bits), "little") for k in order)
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, _width(bits)), np.array(order)


def _width(bits: int) -> int:
    return max(1, -(-bits // 8))


def _summed(rows: Array, outcomes: Array, counts: Array, total: int) -> Entries:
    """Add up neighbours that are equal, which only a dropped lower bit can cause."""
    fresh = np.ones(rows.size, dtype=bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (outcomes[1:] != outcomes[:-1]).any(axis=1)
    starts = np.flatnonzero(fresh)
    indptr = np.searchsorted(rows[starts], np.arange(total + 1)).astype("<i4")
    return Entries(indptr, outcomes[starts], np.add.reduceat(counts, starts).astype("<i4"))


def joined(chunks: Iterable[Entries], budget: int) -> Entries:
    """Put chunks of rows together. Raises ShotbusError (SB-1113) as soon as ``budget`` bytes are passed."""
    parts: list[Entries] = []
    size = 0
    for part in chunks:
        parts.append(part)
        size += part.nbytes
        if size > budget:
            raise too_large(size)
    if len(parts) == 1:
        return parts[0]
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype("<i4")
    outcomes = np.concatenate([part.outcomes for part in parts])
    return Entries(indptr, outcomes, np.concatenate([part.counts for part in parts]))
