"""Done entries: what is remembered of finished jobs, 32 bytes each, in pages. Pure.

An entry answers "was this id finished, whose was it, with which payload, how and when" for the retention
window, so that a repeated submission is recognised and an owner's question answered. Pages are ledger rows;
only the page that grew is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from shotbus.broker.dispatcher.placeindex import PlaceIndex
from shotbus.schemas.outcomes import OUTCOMES

_ENTRY = struct.Struct("<QQQIB3s")
#: Bytes of an owner's mark. Entries that were written before there were marks have zeros: nobody's.
OWNER_BYTES = 3
ENTRIES_A_PAGE = 128
_PAGE_BYTES = ENTRIES_A_PAGE * _ENTRY.size
_HASH_BYTES = 8  # an entry begins with its id's hash
_PREFIX = b"done/"
_PRIME = (1 << 64) - 59  # the largest below 2**64, so that a hash fits its field


class DoneEntry(NamedTuple):
    """A finished job: 8 bytes of its payload hash, how and when it ended, when to forget it, whose it was."""

    payload: bytes
    outcome: str
    finished_ms: int
    expires_s: int
    owner: bytes


def is_done_key(key: bytes) -> bool:
    """Tell whether a ledger key is a done page's."""
    return key.startswith(_PREFIX)


class DoneLog:
    """Finished jobs of one shard, bounded by age and by count.

    Args:
        retention_s: how long an entry is kept, seconds.
        max_pages: the oldest page goes when there are more.

    """

    def __init__(self, *, retention_s: int, max_pages: int) -> None:
        self._retention_s, self._max_pages = retention_s, max_pages
        #: Full pages as they are in the ledger; one that grows is a bytearray.
        self._pages: dict[int, bytes | bytearray] = {}
        #: Numbers of entries, counted through all pages, by hash.
        self._index = PlaceIndex()
        self._open = 0

    def __len__(self) -> int:
        return len(self._index)

    def add(
        self, job_id: str, payload_hash: bytes, outcome: str, now_ms: int, *, owner: bytes
    ) -> list[bytes]:
        """Remember a finished job; returns the ledger keys that changed.

        ``owner`` is its tenant's mark, :data:`OWNER_BYTES` long.
        """
        number = self._hash(job_id)
        page = self._growing()
        expires = now_ms // 1000 + self._retention_s
        payload = int.from_bytes(payload_hash[:8], "little")
        page += _ENTRY.pack(number, payload, now_ms, expires & 0xFFFFFFFF, OUTCOMES.index(outcome), owner)
        place = self._open * ENTRIES_A_PAGE + len(page) // _ENTRY.size - 1
        self._index.add(number.to_bytes(_HASH_BYTES, "little"), place)
        changed = [self.key(self._open)]
        if len(page) >= _PAGE_BYTES:
            self._pages[self._open] = bytes(page)
            self._open += 1
            changed += self.forget(now_ms)
        return changed

    def _growing(self) -> bytearray:
        page = self._pages.get(self._open, b"")
        if not isinstance(page, bytearray):
            page = self._pages[self._open] = bytearray(page)
        return page

    def find(self, job_id: str) -> DoneEntry | None:
        """Return what is remembered of a job; a malformed id is none that ever finished."""
        try:
            place = self._place(self._hash(job_id).to_bytes(_HASH_BYTES, "little"))
        except ValueError:
            return None
        if place is None:
            return None
        page, slot = divmod(place, ENTRIES_A_PAGE)
        _, payload, finished, expires, outcome, owner = _ENTRY.unpack_from(
            self._pages[page], slot * _ENTRY.size
        )
        return DoneEntry(payload.to_bytes(8, "little"), OUTCOMES[outcome], finished, expires, owner)

    def forget(self, now_ms: int) -> list[bytes]:
        """Drop pages that are too old or too many; returns their keys."""
        dropped = []
        for number in sorted(self._pages):
            if number == self._open or not self._too_old(number, now_ms):
                break
            self._drop(number)
            dropped.append(self.key(number))
        return dropped

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a page's bytes, None when it was dropped."""
        page = self._pages.get(int(key.removeprefix(_PREFIX)))
        return bytes(page) if page is not None else None

    def restore(self, key: bytes, data: bytes) -> None:
        """Take a page back; one that grew comes as often as it was written."""
        number = int(key.removeprefix(_PREFIX))
        known = self._pages.get(number, b"")
        if not data.startswith(known):
            self._drop(number)
            known = b""
        self._pages[number] = data
        first = number * ENTRIES_A_PAGE + len(known) // _ENTRY.size
        for place, hashed in enumerate(_hashes(data[len(known) :]), first):
            self._index.add(hashed, place)
        self._open = max(self._open, number + 1 if len(data) >= _PAGE_BYTES else number)

    def discard(self, key: bytes) -> None:
        """Let a page go that was taken back and that the ledger then says is gone; one unknown is none."""
        number = int(key.removeprefix(_PREFIX))
        if number in self._pages:
            self._drop(number)

    @staticmethod
    def key(page: int) -> bytes:
        """Return a page's ledger key."""
        return _PREFIX + b"%08d" % page

    @staticmethod
    def _hash(job_id: str) -> int:
        # Over the whole id: foreign clients may count upwards in the last digits.
        return int(job_id, 16) % _PRIME

    def _too_old(self, number: int, now_ms: int) -> bool:
        last = self._pages[number][-_ENTRY.size :]
        return len(self._pages) > self._max_pages or _ENTRY.unpack(last)[3] * 1000 <= now_ms

    def _drop(self, number: int) -> None:
        page = self._pages.pop(number)
        for place, hashed in enumerate(_hashes(page), number * ENTRIES_A_PAGE):
            self._index.remove(hashed, place)

    def _place(self, hashed: bytes) -> int | None:
        """Return the number of the entry with an id's hash, of several that of the last."""
        found = None
        for place in self._index.at(hashed):
            page, slot = divmod(place, ENTRIES_A_PAGE)
            if self._pages[page].startswith(hashed, slot * _ENTRY.size) and (found is None or place > found):
                found = place
        return found


def _hashes(page: bytes | bytearray) -> Iterator[bytes]:
    """Yield the hashes of a page's entries, as they stand there."""
    for start in range(0, len(page), _ENTRY.size):
        yield bytes(page[start : start + _HASH_BYTES])
