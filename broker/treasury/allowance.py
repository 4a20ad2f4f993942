"""A dispatcher shard's part of the budgets: reserve, settle, release, talk to the Treasury. Pure.

It lives inside the dispatcher's machine and shares its transactions: its rows are written with the shard's,
its records are published with the shard's, what it is told comes as records of ``grants``. Invariants:
a reservation is settled or released once; what is reserved never exceeds what was granted and is still here.

A job that waits for units is not kept over a restart: whoever owns the jobs reserves again for those it has
not decided about. :meth:`Allowance.reserve` may be repeated at any time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shotbus.broker.machine import Emit, Now
from shotbus.broker.treasury.answers import UNLIMITED, Decided, Refused, Reserved, Settled, Waits
from shotbus.broker.treasury.budgets import Budgets, Claim, Purse, is_gauge, purse_of, units_of
from shotbus.broker.treasury.holding import IDLE_SECONDS, KEEP_MS, Holding, Short, holding_of, units_spent
from shotbus.broker.treasury.prices import Cost
from shotbus.broker.treasury.refusals import Refusal, refusal, unchecked
from shotbus.broker.treasury.rows import read_row
from shotbus.schemas.codec import decode, encode

#: A job waits no longer for the Treasury, seconds of time seen; then it is refused and may come again.
ANSWER_SECONDS = 10.0
#: A refusal is repeated without asking for so long.
_REFUSED_SECONDS = 1.0
_TIDY_SECONDS = 5.0
_PREFIX = b"allowance/"
_PURSE = b"allowance/purse/"
_JOB = b"allowance/job/"
_NUMBER = b"allowance/number"


@dataclass(slots=True)
class _Reservation:
    parts: dict[Purse, int]
    persisted: bool = False

    def held(self) -> list[tuple[Purse, int]]:
        """Return the purses in which units are reserved: those are here for as long."""
        return [(purse, units) for purse, units in self.parts.items() if units]


class _Waiting(NamedTuple):
    claim: Claim
    until: float
    purses: tuple[Purse, ...]


def is_allowance_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Allowance:
    """One dispatcher shard's reservations.

    Args:
        shard: its number, its partition of ``grants``.
        partitions: how many shards there are.
        budgets: as configured.

    """

    def __init__(self, shard: int, partitions: int, budgets: Budgets) -> None:
        self._shard, self._partitions, self._budgets = shard, partitions, budgets
        self._holdings: dict[Purse, Holding] = {}
        self._by_key: dict[bytes, Purse] = {}
        self._reserved: dict[str, _Reservation] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._dirty: dict[Purse, None] = {}
        self._touched: dict[bytes, None] = {}
        self._expiry = self._tidy_due = 0.0
        self._number = 0
        #: What happened, by word: reserved, waited, refused, settled, released, overdrawn, duplicate.
        self.stats: Counter[str] = Counter()

    # --- jobs ---

    def limits(self, tenant: str) -> bool:
        """Tell whether any budget can concern a tenant; where none does, nothing here need be called."""
        return self._budgets.limits(tenant)

    def reserve(self, job_id: str, claim: Claim, now: Now) -> Reserved | Waits | Refused:
        """Set aside what a job takes at most, from every budget it falls under or from none.

        A job that holds units already, for another pool or cost, exchanges them: until the answer is
        :class:`Reserved` it keeps what it has.
        """
        parts = self._budgets.of(claim, now.wall_ms)
        if not parts:
            self.release(job_id)
            return UNLIMITED
        self._wait_no_more(job_id)
        return self._try(job_id, claim, now, now.seen + ANSWER_SECONDS)

    def charge(self, job_id: str, cost: Cost | None) -> Settled:
        """Spend out of a job's reservation and keep the rest: an attempt was billed, another may follow.

        More than was reserved is spent all the same, as it is owed: out of what is free here, else overdrawn.
        ``cost`` None is all that is reserved.
        """
        reservation = self._reserved.get(job_id)
        if reservation is None:
            return Settled(())
        overdrawn = []
        for purse, reserved in reservation.parts.items():
            taken = reserved if cost is None else units_of(cost, purse.resource)
            units = units_spent(purse.resource, taken)
            # A purse of which nothing is left may be gone with its period.
            missing = self._holding(purse).charge(reserved, units)
            reservation.parts[purse] = reserved - min(reserved, units)
            if missing:
                self.stats["overdrawn"] += 1
                overdrawn.append((purse, missing))
            self._change(purse)
        self._touched[_JOB + job_id.encode()] = None
        return Settled(tuple(overdrawn))

    def settle(self, job_id: str, cost: Cost) -> Settled:
        """Spend what a job has cost and free the rest of its reservation. The second time nothing happens."""
        if job_id not in self._reserved:
            return Settled(())
        settled = self.charge(job_id, cost)
        self._free(job_id)
        self.stats["settled"] += 1
        return settled

    def release(self, job_id: str) -> bool:
        """Free a job's units, or end its waiting; False when it had neither."""
        waited = job_id in self._waiting
        self._wait_no_more(job_id)
        if job_id not in self._reserved:
            return waited
        self._free(job_id)
        self.stats["released"] += 1
        return True

    def left_queue(self, job_id: str) -> None:
        """Free a job's place among the queued ones: it was forwarded."""
        self._let_go(job_id, lambda resource: resource == "queued")

    def loosen(self, job_id: str) -> None:
        """Free what a job holds of an amount that it does not get whole; its places it keeps.

        Two that each hold a part and wait for the rest would else wait for each other for ever.
        """
        self._let_go(job_id, lambda resource: not is_gauge(resource))

    def reserved(self, job_id: str) -> Mapping[Purse, int]:
        """Return what a job holds."""
        reservation = self._reserved.get(job_id)
        return dict(reservation.parts) if reservation else {}

    # --- the Treasury ---

    def told(self, fields: Mapping[str, Any], now: Now) -> list[Decided]:
        """Take a decoded record of ``grants``; returns the answers for jobs that waited."""
        holding = self._told_holding(purse_of(fields), now)
        # A refusal without an account has no number: it says nothing about units, and may come twice.
        numbered = fields["number"] > 0
        if holding is None or (numbered and fields["number"] <= holding.heard):
            self.stats["duplicate"] += 1
            return []
        if numbered:
            holding.heard = fields["number"]
            holding.granted = max(holding.granted, fields["granted"])
        self._change(holding.purse)
        if fields["kind"] == "recall":
            holding.give_back(fields["units"])
            holding.owes_answer = True
            return []
        holding.asked, holding.expects = 0, False
        holding.short = _short(fields, now) if fields["kind"] == "refused" else None
        return self._retry(list(holding.waiting), now)

    def tick(self, now: Now) -> tuple[list[Emit], list[Decided]]:
        """Close a micro-batch: the records to publish, and answers for jobs that waited too long."""
        decided = self._expire(now)
        if now.seen >= self._tidy_due:
            self._tidy_due = now.seen + _TIDY_SECONDS
            self._tidy(now)
        commands = []
        for purse in list(self._dirty):
            holding = self._holdings[purse]
            if holding.must_report or holding.report_at <= now.seen:
                commands.append(holding.say(self._shard, self._partitions, self._next_number(now), now))
                del self._dirty[purse]
                self._touched[_PURSE + purse.key] = None
        return commands, decided

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds until :meth:`tick` has something to do."""
        times = [
            0.0 if one.must_report else one.report_at for one in map(self._holdings.get, self._dirty) if one
        ]
        if self._waiting:
            times.append(self._expiry)
        return max(0.0, min(times) - now.seen) if times else None

    # --- rows ---

    def touched(self) -> list[bytes]:
        """Return the keys whose rows changed; a job that came and went within a micro-batch has none."""
        keys, self._touched = list(self._touched), {}
        return keys

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        if key == _NUMBER:
            return encode("ledger_page", {"kind": "meta", "data": str(self._number).encode()})
        if key.startswith(_PURSE):
            purse = self._by_key.get(key.removeprefix(_PURSE))
            if purse is None:
                return None
            return self._holdings[purse].row(self._shard, self._budgets.bound(purse))
        reservation = self._reserved.get(key.removeprefix(_JOB).decode())
        if reservation is None:
            return None
        reservation.persisted = True
        data = json.dumps([[*purse, units] for purse, units in reservation.parts.items()]).encode()
        return encode("ledger_page", {"kind": "meta", "data": data})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away. A key may come again."""
        if row is None:
            self._unrestore(key)
            return
        if key.startswith(_PURSE):
            fields = read_row(row)
            self._keep(holding_of(fields, purse_of(fields)))
            return
        data = json.loads(decode(row, "ledger_page")[1]["data"])
        if key == _NUMBER:
            self._number = data
            return
        taken = {Purse(*words): units for *words, units in data}
        self._reserved[key.removeprefix(_JOB).decode()] = _Reservation(taken, persisted=True)

    def _unrestore(self, key: bytes) -> None:
        if key.startswith(_PURSE):
            purse = self._by_key.pop(key.removeprefix(_PURSE), None)
            if purse:
                del self._holdings[purse]
        else:
            self._reserved.pop(key.removeprefix(_JOB).decode(), None)

    def restored(self, now: Now) -> None:
        """All rows are back: what is reserved is counted anew, and everything is told anew."""
        for reservation in self._reserved.values():
            for purse, units in reservation.held():
                self._holding(purse).reserved += units
        self._dirty = dict.fromkeys(self._holdings)
        for holding in self._holdings.values():
            holding.taken_at = now.seen
        self._tidy_due = now.seen + _TIDY_SECONDS

    # --- inside ---

    def _next_number(self, now: Now) -> int:
        """Return the next record's number: wall time, but rising over clocks set back and restarts."""
        self._number = max(self._number + 1, now.wall_ms * 1_000)
        self._touched[_NUMBER] = None
        return self._number

    def _try(self, job_id: str, claim: Claim, now: Now, until: float) -> Reserved | Waits | Refused:
        old = self._reserved.get(job_id)
        parts = [(purse, units) for _, purse, units in self._budgets.of(claim, now.wall_ms)]
        lacking: list[tuple[Holding, int]] = []
        refusals: list[Refusal] = []
        for purse, units in parts:
            holding = self._holding(purse)
            more = units - (old.parts.get(purse, 0) if old else 0)
            # Who came later takes nothing from those who wait.
            missing = more - max(0, holding.free - holding.promised)
            if more <= 0 or missing <= 0:
                continue
            short = holding.refused_for(missing, now)
            if short:
                pool = self._budgets.bounding(purse, claim)
                refusals.append(refusal(purse, units, short, now, bounding=pool))
            else:
                lacking.append((holding, more))
        if refusals:
            self.stats["refused"] += 1
            return _refused(refusals)
        if lacking:
            purses = tuple(holding.purse for holding, _ in lacking)
            return self._wait(job_id, _Waiting(claim, until, purses), lacking)
        return self._take(job_id, parts, now)

    def _wait(self, job_id: str, waiting: _Waiting, lacking: Sequence[tuple[Holding, int]]) -> Waits:
        self._expiry = min(self._expiry, waiting.until) if self._waiting else waiting.until
        self._waiting[job_id] = waiting
        for holding, units in lacking:
            holding.wait(job_id, units)
            self._dirty[holding.purse] = None
        self.stats["waited"] += 1
        return Waits(waiting.purses)

    def _take(self, job_id: str, parts: Sequence[tuple[Purse, int]], now: Now) -> Reserved:
        old = self._reserved.get(job_id)
        for purse, units in old.held() if old else ():
            self._holdings[purse].reserved -= units
            self._dirty[purse] = None
        for purse, units in parts:
            holding = self._holdings[purse]
            holding.reserved += units
            holding.taken_at = now.seen
            self._dirty[purse] = None
        self._reserved[job_id] = _Reservation(dict(parts), persisted=old.persisted if old else False)
        self._touched[_JOB + job_id.encode()] = None
        self.stats["reserved"] += 1
        return Reserved(tuple(parts))

    def _let_go(self, job_id: str, which: Callable[[str], bool]) -> None:
        """Free the units of some resources that a job holds; it goes on with the others."""
        reservation = self._reserved.get(job_id)
        if reservation is None:
            return
        for purse in [one for one in reservation.parts if which(one.resource)]:
            # A purse of which nothing is left may be gone with its period.
            self._holding(purse).reserved -= reservation.parts.pop(purse)
            self._change(purse)
            self._touched[_JOB + job_id.encode()] = None

    def _free(self, job_id: str) -> None:
        reservation = self._reserved.pop(job_id)
        for purse, units in reservation.held():
            self._holdings[purse].reserved -= units
            self._dirty[purse] = None
        if reservation.persisted:
            self._touched[_JOB + job_id.encode()] = None
        else:
            self._touched.pop(_JOB + job_id.encode(), None)

    def _wait_no_more(self, job_id: str) -> None:
        waiting = self._waiting.pop(job_id, None)
        for purse in waiting.purses if waiting else ():
            self._holdings[purse].wait_no_more(job_id)

    def _retry(self, jobs: Sequence[str], now: Now) -> list[Decided]:
        """Try jobs again in the order of their arrival; those that go on waiting keep their time."""
        waiting = [(job_id, self._waiting[job_id]) for job_id in jobs]
        for job_id in jobs:
            self._wait_no_more(job_id)
        decided = []
        for job_id, one in waiting:
            answer = self._try(job_id, one.claim, now, one.until)
            if not isinstance(answer, Waits):
                decided.append(Decided(job_id, answer))
        return decided

    def _expire(self, now: Now) -> list[Decided]:
        if not self._waiting or now.seen < self._expiry:
            return []
        late = [job_id for job_id, one in self._waiting.items() if one.until <= now.seen]
        decided = []
        for job_id in late:
            silent = [self._holdings[purse] for purse in self._waiting[job_id].purses]
            self._wait_no_more(job_id)
            for holding in silent:
                # The next job asks again, whatever became of the question.
                holding.asked = 0
            refusals = [unchecked(one.purse, "the treasury did not answer in time") for one in silent]
            decided.append(Decided(job_id, _refused(refusals)))
        self._expiry = min((one.until for one in self._waiting.values()), default=0.0)
        return decided

    def _tidy(self, now: Now) -> None:
        """Give back what lies idle or belongs to a period that is over; forget what is empty."""
        for purse, holding in list(self._holdings.items()):
            idle = now.seen - holding.taken_at >= IDLE_SECONDS
            if holding.free > 0 and not holding.waiting and (idle or holding.is_over(now)):
                holding.give_back(holding.free)
                self._change(purse)
            elif purse not in self._dirty and idle and holding.can_go(now):
                # What is dirty is not told yet: the Treasury would count it as held for ever.
                del self._holdings[purse], self._by_key[purse.key]
                self._touched[_PURSE + purse.key] = None

    def _told_holding(self, purse: Purse, now: Now) -> Holding | None:
        """Return the holding of a grant; None when it went with its period: an old record."""
        over = purse.until_ms and purse.until_ms + KEEP_MS <= now.wall_ms
        return self._holdings.get(purse) if over else self._holding(purse)

    def _holding(self, purse: Purse) -> Holding:
        return self._holdings.get(purse) or self._keep(Holding(purse))

    def _keep(self, holding: Holding) -> Holding:
        self._holdings[holding.purse] = holding
        self._by_key[holding.purse.key] = holding.purse
        return holding

    def _change(self, purse: Purse) -> None:
        self._touched[_PURSE + purse.key] = None
        self._dirty[purse] = None


def _short(fields: Mapping[str, Any], now: Now) -> Short:
    limit, spent, held, available = (fields[name] for name in ("limit", "spent", "held", "available"))
    return Short(limit, spent, held, available, fields["reason"], now.seen + _REFUSED_SECONDS)


def _refused(refusals: Sequence[Refusal]) -> Refused:
    times = [one.retry_after_ms for one in refusals]
    return Refused(tuple(one.problem for one in refusals), max(times) if all(times) else 0)
