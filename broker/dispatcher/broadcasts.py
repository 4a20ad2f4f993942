"""Wishes about many jobs at once, which are carried out a step at a time: what stands of them. Pure.

A wish is a row from the moment it is taken until its last job is done, and the row says how far it has come:
jobs are taken in the order of their *places* (admission, then id), which no restart changes. Those that it
is about are found by walking the slots of the shard's jobs, of which no index is kept: the walk, and the next
places that it found, are in memory alone and begin again where the row says.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from typing import Any

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.jobbook import JobBook
from shotbus.broker.dispatcher.packedjobs import Glance
from shotbus.schemas.codec import decode, encode

_PREFIX = b"broadcast/"
#: Places that a walk keeps at most; of more jobs the next walk finds the others.
MOST_PLACES = 65_536
#: Blocks of slots that are looked through in one step.
BLOCKS_A_STEP = 4
#: Changes under way; the one beyond is refused. Cancels are as many as there are sweeps beyond a step.
MOST_CHANGES = 256
#: Questions that wait until a cancel is done; one beyond is answered at once.
MOST_ASKED = 64
#: Different reasons that are told.
_MOST_REASONS = 100
_OTHER_REASONS = "for other reasons"
_FIELDS = ("command", "target", "name", "tenant", "principal", "reason", "correlation", "arguments")
_ID_BITS = 128
_ID_MASK = (1 << _ID_BITS) - 1


def is_broadcast_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


def place_of(job: Job | Glance) -> int:
    """Return where a job comes among all; no two have the same, and it stays."""
    return (job.order << _ID_BITS) | int(job.job_id, 16)


def id_at(place: int) -> str:
    """Return the id of the job with a place."""
    return f"{place & _ID_MASK:032x}"


class Broadcast:
    """One wish: the control record, and how far it has come.

    ``until_us``: a change is about the jobs accepted until then; a cancel about all. ``cursor``: place of the
    last job that was seen to. ``again``: wished for once more meanwhile. ``asked``: correlations of
    questions that are answered when all is done.
    """

    __slots__ = ("again", "asked", "changed", "control", "cursor", "number", "refused", "until_us")

    def __init__(self, number: int, control: Mapping[str, Any], until_us: int) -> None:
        self.number, self.until_us = number, until_us
        self.control = {name: control[name] for name in _FIELDS}
        self.cursor, self.changed, self.again = -1, 0, False
        self.refused: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def key(self) -> bytes:
        """Its row."""
        return _PREFIX + b"%016d" % self.number

    @property
    def cancels(self) -> bool:
        """Tell whether it is a cancel; else it is a change."""
        return bool(self.control["command"] == "cancel")

    @property
    def about(self) -> tuple[str, str]:
        """The name of what it is about, and whose."""
        return self.control["name"], self.control["tenant"]

    def refuse(self, why: str) -> None:
        """Count a job that stays as it is."""
        if why not in self.refused and len(self.refused) >= _MOST_REASONS:
            why = _OTHER_REASONS
        self.refused[why] = self.refused.get(why, 0) + 1


class Walk:
    """The jobs that a wish is about, found so many slots at a time: the first of them from its cursor on."""

    def __init__(self, broadcast: Broadcast) -> None:
        control = broadcast.control
        self._wish, self._name, self._tenant = broadcast, control["name"], control["tenant"]
        self._attribute = "sweep_id" if control["target"] == "sweep" else "experiment"
        self._block = 0
        #: Places, negative: while the walk lasts, the last of them goes when there are more.
        self._far: list[int] = []
        self._near: list[int] | None = None
        #: More were found than are kept.
        self.more = False

    @property
    def is_over(self) -> bool:
        """Tell whether all slots have been looked at."""
        return self._near is not None

    def go_on(self, jobs: JobBook) -> None:
        """Look through the next slots. What has come since lies in slots that do not matter."""
        end = min(self._block + BLOCKS_A_STEP, jobs.blocks)
        for block in range(self._block, end):
            for key in jobs.in_block(block):
                if jobs.text(key, self._attribute) == self._name and jobs.text(key, "tenant") == self._tenant:
                    self._find(jobs.glance(key))
        self._block = end
        if end >= jobs.blocks:
            self._near = [-place for place in self._far]
            heapq.heapify(self._near)
            self._far = []

    def _find(self, job: Glance) -> None:
        place = place_of(job)
        if place <= self._wish.cursor or (not self._wish.cancels and job.accepted_us > self._wish.until_us):
            return
        if len(self._far) < MOST_PLACES:
            heapq.heappush(self._far, -place)
        else:
            heapq.heappushpop(self._far, -place)
            self.more = True

    def __iter__(self) -> Iterator[int]:
        """Yield the next places; one that is yielded does not come again."""
        while self._near:
            yield heapq.heappop(self._near)

    @property
    def is_empty(self) -> bool:
        """Tell whether every place was given."""
        return not self._near


class Broadcasts:
    """The wishes under way in one shard."""

    def __init__(self) -> None:
        self._all: dict[bytes, Broadcast] = {}
        self._walks: dict[bytes, Walk] = {}
        #: Cancels by sweep and tenant: no job of theirs is sent to a worker.
        self.cancels: dict[tuple[str, str], Broadcast] = {}
        #: When a tenant last had its turn.
        self._turns: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Broadcast]:
        """Return them, the oldest first."""
        return sorted(self._all.values(), key=lambda one: one.number)

    @property
    def is_full(self) -> bool:
        """Tell whether there are as many changes as there may be."""
        return len(self._all) - len(self.cancels) >= MOST_CHANGES

    def has(self, tenant: str) -> bool:
        """Tell whether a tenant has any."""
        return any(one.control["tenant"] == tenant for one in self._all.values())

    def add(self, control: Mapping[str, Any], until_us: int) -> Broadcast:
        """Take a wish."""
        made = Broadcast(self._number(), control, until_us)
        self._enter(made)
        return made

    def _number(self) -> int:
        return 1 + max((one.number for one in self._all.values()), default=0)

    def _enter(self, one: Broadcast) -> None:
        self._all[one.key] = one
        if one.cancels:
            self.cancels[one.about] = one

    def drop(self, one: Broadcast) -> None:
        """Forget one that is done."""
        del self._all[one.key]
        self._walks.pop(one.key, None)
        if one.cancels:
            del self.cancels[one.about]
        if not self._all:
            self._turns, self._turn = {}, 0

    def next(self) -> Broadcast | None:
        """Return whose turn it is: tenants in turn; of one the cancels first, then as they came."""
        turns = self._turns
        found = min(
            self._all.values(),
            key=lambda one: (turns.get(one.control["tenant"], 0), not one.cancels, one.number),
            default=None,
        )
        if found is not None:
            self._turn += 1
            turns[found.control["tenant"]] = self._turn
        return found

    def walk(self, one: Broadcast) -> Walk:
        """Return the walk of a wish, which may have to begin again."""
        walk = self._walks.get(one.key)
        if walk is None:
            walk = self._walks[one.key] = Walk(one)
        return walk

    def begin_again(self, one: Broadcast) -> None:
        """Have a wish look for more of its jobs."""
        self._walks.pop(one.key, None)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        one = self._all.get(key)
        if one is None:
            return None
        told = {name: getattr(one, name) for name in Broadcast.__slots__}
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(told).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        if key in self._all:
            self.drop(self._all[key])
        if row is None:
            return
        told = json.loads(decode(row, "ledger_page")[1]["data"])
        one = Broadcast(told["number"], told["control"], told["until_us"])
        for name in ("again", "asked", "changed", "cursor", "refused"):
            setattr(one, name, told[name])
        self._enter(one)
