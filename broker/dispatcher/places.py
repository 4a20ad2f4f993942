"""Places: how all shards, of all processes, share a limit on jobs with workers and never pass it. Pure.

A limit of L is L places, and a job that is with a worker takes one of its shard's. A place is in one shard's
rows or in one record that goes from shard to shard: it leaves in the transaction that sends it and arrives in
the one that reads it. So the sum is L whatever happens between: a killed process, a shard that moves, clocks.
Places of a shard that nobody runs wait with it, since its jobs may be running.

Shards speak through the limit's home (:mod:`shotbus.broker.dispatcher.placebook`), found by a hash of its
name. A shard asks when a job could have gone but for the limit. It starts with an even part, for which it
need not ask; what it has above that and has not used for a while goes back: in the end its row is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shotbus.broker.dispatcher.placebook import ALL, PlaceBook
from shotbus.broker.machine import Emit, Now
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import digest

_PREFIX = b"place/"
_PART, _BOOK, _SERIALS = b"place/part/", b"place/book/", b"place/serials"
#: A wish is not repeated for so many seconds of time seen.
_AGAIN_SECONDS = 10.0
#: So long a place that was just given waits for a credit, though others want it too: else it would be on its
#: way most of the time, and nowhere when a credit comes.
_GRACE_SECONDS = 1.0
_IDLE_SECONDS = 30.0
_TIDY_SECONDS = 5.0
#: The limit of a key, 0 for none; how many jobs of a key are with workers.
Most = Callable[[str], int]
Running = Callable[[str], int]
#: Has the jobs of a key that were set aside looked at again.
Offer = Callable[[str], None]


def is_place_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


@dataclass(slots=True)
class _Part:
    """What a shard has of a limit: ``extra`` places beyond the even part, of which it may use ``keep``."""

    most: int
    extra: int = 0
    keep: int = ALL
    #: So many may be used until then (time seen) all the same: some of them were given a moment ago.
    grace: int = 0
    until: float = 0.0
    #: When it last asked for more and has not been given any; and since when it has more than it uses.
    asked: float | None = None
    idle: float | None = None

    @property
    def is_blank(self) -> bool:
        return not self.extra and self.keep == ALL


class Places:
    """The places of one shard, and the books that it keeps.

    Args:
        shard: number of the shard, from 0.
        shards: how many there are.
        most: returns the limit of a key, 0 for none.
        offer: called with a key of which more may go, or that must be asked for again.

    """

    def __init__(self, shard: int, shards: int, most: Most, offer: Offer) -> None:
        self._shard, self._shards, self._most, self._offer = shard, shards, most, offer
        self._parts: dict[str, _Part] = {}
        self._books: dict[str, PlaceBook] = {}
        #: Limits for which a job had to wait, those that must make room for others, books that have heard.
        self._blocked: dict[str, None] = {}
        self._urged: dict[str, None] = {}
        self._dirty: dict[str, None] = {}
        self._touched: dict[bytes, None] = {}
        #: The serials of the last records that were sent to each shard, and heard of each.
        self._sent: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        #: Rows of a limit that is configured otherwise now.
        self._stale: dict[bytes, None] = {}
        self._tidy_due = 0.0

    def held(self, key: str, most: int) -> int:
        """Return how many places of a limit are here."""
        part = self._parts.get(key)
        return most // self._shards + (part.extra if part is not None else 0)

    def allowed(self, key: str, most: int) -> int:
        """Return how many jobs may be with workers now."""
        part = self._parts.get(key)
        if part is None:
            return most // self._shards
        held = most // self._shards + part.extra
        return held if part.keep == ALL else min(held, max(part.keep, part.grace))

    def block(self, key: str) -> None:
        """Note that a job could have gone but for this limit."""
        if self._shards > 1:
            self._blocked[key] = None

    def hear(self, fields: Mapping[str, Any], running: Running, now: Now) -> None:
        """Take a ``place`` record; one about another limit than is configured counts for nothing.

        Nor does one that comes again: a shard that had no limits for a while reads the topic from its begin.
        """
        key, most = fields["key"], self._most(fields["key"])
        if fields["serial"] <= self._heard.get(fields["shard"], 0):
            return
        self._heard[fields["shard"]] = fields["serial"]
        self._touched[_SERIALS] = None
        if not most or fields["most"] != most:
            return
        if not fields["home"]:
            book = self._books.get(key) or PlaceBook(most, self._shards)
            book.hear(fields["shard"], fields["places"], fields["number"])
            self._books[key] = book
            self._dirty[key] = None
            return
        part = self._part(key, most)
        part.extra += fields["places"]
        if fields["places"]:
            part.asked, part.until = None, now.seen + _GRACE_SECONDS
            part.grace = max(part.grace, running(key)) + fields["places"]
        self._urge(key, part, fields["number"])
        self._drop_if_blank(key, part)
        self._offer(key)

    def close(self, running: Running, now: Now) -> list[Emit]:
        """End a micro-batch: give back what others wait for and is free, ask for more, deal."""
        said: list[Emit] = []
        if self._blocked or self._urged:
            for key in list({**self._urged, **self._blocked}):
                said += self._speak(key, running(key), now)
            self._blocked.clear()
        if now.seen >= self._tidy_due:
            self._tidy_due = now.seen + _TIDY_SECONDS
            for key in list(self._parts):
                said += self._tidy(key, running(key), now)
        if self._dirty:
            for key in self._dirty:
                said += self._settle(key)
            self._dirty.clear()
        if self._stale:
            self._touched.update(self._stale)
            self._stale.clear()
        return said

    def touched(self) -> list[bytes]:
        """Return the ledger keys that changed since the last call."""
        keys, self._touched = list(self._touched), {}
        return keys

    # --- as one who has places ---

    def _part(self, key: str, most: int) -> _Part:
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _Part(most)
        return part

    def _urge(self, key: str, part: _Part, keep: int) -> None:
        """Note how many may be used; who has none, of which its home knows, need not remember."""
        part.keep = keep if self.held(key, part.most) else ALL
        if part.keep == ALL:
            part.grace = 0
            self._urged.pop(key, None)
        else:
            self._urged[key] = None
        self._touched[_PART + key.encode()] = None

    def _speak(self, key: str, running: int, now: Now) -> Iterator[Emit]:
        most = self._most(key)
        part = self._part(key, most)
        if part.grace <= running or now.seen >= part.until:
            part.grace = 0
        free = max(0, self.held(key, most) - max(running, part.grace)) if part.keep != ALL else 0
        # As many again: a shard that gets all the work has all the places after a few rounds.
        wants = max(1, running) if key in self._blocked else 0
        asked = part.asked is not None and now.seen - part.asked < _AGAIN_SECONDS
        if free or (wants and not asked):
            yield self._ask(key, part, free, wants, now)

    def _ask(self, key: str, part: _Part, free: int, wants: int, now: Now) -> Emit:
        """Give places back and say how many more are wanted, instead of what was said before."""
        part.asked = now.seen if wants else None
        part.idle = None
        if free:
            part.extra -= free
            self._urge(key, part, part.keep)
        self._drop_if_blank(key, part)
        return self._record(self._home(key), key, part.most, free, wants, home=False)

    def _tidy(self, key: str, running: int, now: Now) -> Iterator[Emit]:
        """Give back what is more than the even part and was long not used; end old wishes.

        Jobs that still lack what was wished for wish it again: whoever heard it may have taken it for another
        limit's.
        """
        part = self._parts[key]
        unused = min(part.extra, self.held(key, part.most) - running)
        if unused <= 0:
            part.idle = None
        elif part.idle is None:
            part.idle = now.seen
        elif now.seen - part.idle >= _IDLE_SECONDS:
            yield self._ask(key, part, unused, 0, now)
            return
        if part.asked is not None and now.seen - part.asked >= 2 * _AGAIN_SECONDS:
            self._offer(key)
            yield self._ask(key, part, 0, 0, now)

    def _drop_if_blank(self, key: str, part: _Part) -> None:
        if part.is_blank and part.asked is None:
            self._parts.pop(key, None)

    # --- as the home of a limit ---

    def _home(self, key: str) -> int:
        return int.from_bytes(digest("place", key)[:4], "big") % self._shards

    def _settle(self, key: str) -> Iterator[Emit]:
        book = self._books[key]
        for shard, deal in book.settle().items():
            yield self._record(shard, key, book.most, deal.places, deal.keep, home=True)
        if book.is_blank:
            del self._books[key]
        self._touched[_BOOK + key.encode()] = None

    def _record(self, to: int, key: str, most: int, places: int, number: int, *, home: bool) -> Emit:
        serial = self._sent[to] = self._sent.get(to, 0) + 1
        self._touched[_SERIALS] = None
        fields = {"key": key, "most": most, "shard": self._shard, "serial": serial, "home": home}
        fields |= {"places": places, "number": number}
        return Emit("grants", to, key.encode(), "place", fields)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        data: list[Any]
        if key == _SERIALS:
            data = [list(self._sent.items()), list(self._heard.items())]
        elif key.startswith(_BOOK):
            book = self._books.get(key.removeprefix(_BOOK).decode())
            if book is None:
                return None
            data = book.row()
        else:
            part = self._parts.get(key.removeprefix(_PART).decode())
            if part is None or part.is_blank:
                return None
            data = [part.most, part.extra, part.keep]
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(data).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away, and so does another limit."""
        name = key.removeprefix(_BOOK).removeprefix(_PART).decode()
        data = json.loads(decode(row, "ledger_page")[1]["data"]) if row is not None else [0]
        if key == _SERIALS:
            self._sent, self._heard = map(dict, data) if row is not None else ({}, {})
            return
        known = bool(data[0]) and data[0] == self._most(name)
        self._stale.pop(key, None)
        if row is not None and not known:
            # Else it would count again, without those of the other shards, when the limit is changed back.
            self._stale[key] = None
        if key.startswith(_BOOK):
            self._books.pop(name, None)
            if known:
                self._books[name] = PlaceBook.of_row(data, self._shards)
            return
        self._parts.pop(name, None)
        self._urged.pop(name, None)
        if known:
            most, extra, keep = data
            part = self._parts[name] = _Part(most, extra, keep)
            if part.keep != ALL:
                self._urged[name] = None
