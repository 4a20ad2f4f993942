"""The fold: the machine that turns results of shards into reductions of sweeps. Pure.

What it promises, whatever the order of records, duplicates and restarts:

* a shard is counted once: the set of counted shards is a bitmap, never a counter;
* a sweep has one final reduction, and its bytes depend on the counted shards alone;
* a finished sweep leaves a marker until ``keep_ms`` later, so late duplicates do not raise it again.

:meth:`Fold.handle` raises before it changes anything, so there is nothing to undo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.broker.machine import Emit, Now, Tick
from shotbus.reducers.sweep import DoneMarker, ShardFacts, Sweep, from_rows, refused_reduction
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.ids import keyed_partition
from shotbus.schemas.layout import MAX_SHARDS

PARTIAL_SECONDS = 0.5
_SWEEPING_SECONDS = 60.0
_MAX_SWEEP_ID = 200
#: A partial of a large sweep is megabytes: its period grows with its rows.
_POINTS_PER_PERIOD = 10_000

#: The place of a sweep's own row among its shards' rows.
_OWN = -1


class SweepDeclared(NamedTuple):
    """A decoded ``sweep_command`` that declares."""

    fields: Mapping[str, Any]


class SweepSealed(NamedTuple):
    """Nothing is submitted from shard ``shards`` on."""

    sweep_id: str
    tenant: str
    shards: int
    at_us: int


class SweepCancelled(NamedTuple):
    """The sweep ends with what has arrived."""

    sweep_id: str
    tenant: str
    at_us: int


class ShardResult(NamedTuple):
    """A decoded ``circuit_result`` with a sweep id."""

    fields: Mapping[str, Any]


class ShardRefused(NamedTuple):
    """A decoded ``refusal`` with a sweep id."""

    fields: Mapping[str, Any]


class Fold:
    """The machine of one shard; see :class:`shotbus.broker.machine.Machine`.

    Args:
        partitions: number of partitions of ``reductions``.
        keep_ms: how long a finished sweep is remembered, and a sweep without news is waited for.

    """

    def __init__(self, partitions: int, keep_ms: int) -> None:
        self._partitions = partitions
        self._keep_ms = keep_ms
        self._rows: dict[str, dict[int, bytes]] = {}
        self._live: dict[str, Sweep | DoneMarker] = {}
        self._touched: dict[bytes, None] = {}
        self._partial_due: dict[str, float] = {}
        self._sweeping_due = 0.0
        #: What happened, by word: counted, duplicate, late, unknown, foreign, partial, final.
        self.stats: Counter[str] = Counter()
        self._handlers: Mapping[type, Callable[[Any, Now], list[Emit]]] = {
            SweepDeclared: self._declared,
            SweepSealed: self._sealed,
            SweepCancelled: self._cancelled,
            ShardResult: self._result,
            ShardRefused: self._refused,
            Tick: self._tick,
        }

    # -- the Machine protocol ---------------------------------------------------------------------

    def handle(self, event: Any, now: Now) -> Sequence[Emit]:
        """Take one event. Raises ShotbusError (SB-1108) for a shard index out of range."""
        return self._handlers[type(event)](event, now)

    def touched(self) -> list[bytes]:
        """Return the keys written since the last call, in the order of writing."""
        keys, self._touched = list(self._touched), {}
        return keys

    def snapshot(self, key: bytes) -> bytes | None:
        """Return the row of a key, None when it is gone."""
        sweep_id, place = _place(key)
        return self._rows.get(sweep_id, {}).get(place)

    def restore(self, key: bytes, snapshot: bytes) -> None:
        """Take a row back; it is decoded when its sweep is next needed."""
        self.restore_row(key, snapshot)

    def restore_row(self, key: bytes, row: bytes | None) -> None:
        """Take a row, or its end, as the ledger is read; see :class:`shotbus.broker.machine.TakesRows`."""
        sweep_id, place = _place(key)
        self._live.pop(sweep_id, None)
        rows = self._rows.setdefault(sweep_id, {})
        if row is None:
            rows.pop(place, None)
        else:
            rows[place] = row
        if not rows:
            del self._rows[sweep_id]

    def restored(self, now: Now) -> None:
        """Owe every sweep with counted shards a partial: the last one may have preceded the rows."""
        self._sweeping_due = now.seen + _SWEEPING_SECONDS
        for sweep_id in sorted(self._rows):
            if len(self._rows[sweep_id]) > 1:
                self._partial_due[sweep_id] = now.seen + PARTIAL_SECONDS

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds until a partial is due."""
        return max(0.0, min(self._partial_due.values()) - now.seen) if self._partial_due else None

    # -- what the edge asks -----------------------------------------------------------------------

    def knows(self, sweep_id: str) -> bool:
        """Tell whether the sweep is live or remembered."""
        return sweep_id in self._rows

    def check_shard(self, sweep_id: str, shard: int) -> None:
        """Raise ShotbusError (SB-1108) when the sweep is live and cannot have this shard."""
        sweep = self._find(sweep_id)
        if isinstance(sweep, Sweep):
            sweep.check_shard(shard)

    # -- events -----------------------------------------------------------------------------------

    def _declared(self, event: SweepDeclared, now: Now) -> list[Emit]:
        fields = event.fields
        sweep_id = str(fields["sweep_id"])
        check_sweep_id(sweep_id)
        if self._find(sweep_id) is not None:
            self.stats["duplicate"] += 1
            return []
        try:
            _check_shards(int(fields["shards"]))
            sweep = Sweep.declare(fields)
        except ShotbusError as error:
            # Whoever waits for this sweep is told why; a dead letter alone would leave them waiting.
            return [self._finish(sweep_id, refused_reduction(fields, error), now)]
        self._live[sweep_id] = sweep
        self._write(sweep_id, _OWN, sweep.row())
        return []

    def _sealed(self, event: SweepSealed, now: Now) -> list[Emit]:
        sweep = self._mine(event.sweep_id, event.tenant)
        if sweep is None:
            return []
        sweep.seal(event.shards, event.at_us)
        self._write(event.sweep_id, _OWN, sweep.row())
        return self._progress(event.sweep_id, sweep, now)

    def _cancelled(self, event: SweepCancelled, now: Now) -> list[Emit]:
        sweep = self._mine(event.sweep_id, event.tenant)
        if sweep is None:
            return []
        sweep.latest_us = max(sweep.latest_us, event.at_us)
        return [self._finish(event.sweep_id, sweep.reduction(final=True), now)]

    def _result(self, event: ShardResult, now: Now) -> list[Emit]:
        sweep = self._for_shard(event.fields, event.fields["outcome"])
        if sweep is None:
            return []
        shard = event.fields["shard_index"]
        return self._count(event.fields["sweep_id"], sweep, shard, sweep.digest(shard, event.fields), now)

    def _refused(self, event: ShardRefused, now: Now) -> list[Emit]:
        fields = event.fields
        if fields["retry_after_ms"] > 0:
            # The submitter was told to come again: the shard's fate is open.
            self.stats["deferred"] += 1
            return []
        sweep = self._for_shard(fields, "refused")
        if sweep is None:
            return []
        facts = ShardFacts("refused", 0, 0, fields["refused_us"], "", b"")
        return self._count(fields["sweep_id"], sweep, fields["shard_index"], facts, now)

    def _tick(self, _: Tick, now: Now) -> list[Emit]:
        due = [sweep_id for sweep_id, at in self._partial_due.items() if at <= now.seen]
        commands = [self._partial(sweep_id) for sweep_id in due]
        if now.seen >= self._sweeping_due:
            self._sweeping_due = now.seen + _SWEEPING_SECONDS
            commands += self._expire(now)
        return commands

    # -- counting ---------------------------------------------------------------------------------

    def _for_shard(self, fields: Mapping[str, Any], outcome: str) -> Sweep | None:
        sweep = self._mine(fields["sweep_id"], fields["tenant"])
        if sweep is None or sweep.open_for(fields["shard_index"], outcome):
            return sweep
        self.stats["duplicate"] += 1
        return None

    def _count(self, sweep_id: str, sweep: Sweep, shard: int, facts: ShardFacts, now: Now) -> list[Emit]:
        sweep.count(shard, facts)
        self._write(sweep_id, shard, facts.row())
        self.stats["counted"] += 1
        return self._progress(sweep_id, sweep, now)

    def _progress(self, sweep_id: str, sweep: Sweep, now: Now) -> list[Emit]:
        if sweep.complete:
            return [self._finish(sweep_id, sweep.reduction(final=True), now)]
        period = PARTIAL_SECONDS * (1 + sweep.points / _POINTS_PER_PERIOD)
        self._partial_due.setdefault(sweep_id, now.seen + period)
        return []

    def _partial(self, sweep_id: str) -> Emit:
        del self._partial_due[sweep_id]
        sweep = self._find(sweep_id)
        assert isinstance(sweep, Sweep)
        self.stats["partial"] += 1
        return self._emit(sweep_id, sweep.reduction(final=False))

    def _finish(self, sweep_id: str, reduction: dict[str, Any], now: Now) -> Emit:
        self._partial_due.pop(sweep_id, None)
        for shard in sorted(self._rows.get(sweep_id, {})):
            self._write(sweep_id, shard, None)
        marker = DoneMarker(now.wall_ms + self._keep_ms)
        self._write(sweep_id, _OWN, marker.row())
        self._live[sweep_id] = marker
        self.stats["final"] += 1
        return self._emit(sweep_id, reduction)

    def _emit(self, sweep_id: str, fields: dict[str, Any]) -> Emit:
        headers = (("sweep-id", sweep_id.encode()), ("final", b"1" if fields["final"] else b"0"))
        partition = keyed_partition(sweep_id, self._partitions)
        return Emit("reductions", partition, sweep_id.encode(), "sweep_reduction", fields, headers)

    # -- state ------------------------------------------------------------------------------------

    def _find(self, sweep_id: str) -> Sweep | DoneMarker | None:
        found = self._live.get(sweep_id)
        rows = self._rows.get(sweep_id, {})
        if found is None and _OWN in rows:
            shards = {place: row for place, row in rows.items() if place != _OWN}
            found = self._live[sweep_id] = from_rows(rows[_OWN], shards)
        return found

    def _mine(self, sweep_id: str, tenant: str) -> Sweep | None:
        """Return the live sweep if it is the tenant's; count why not otherwise."""
        sweep = self._find(sweep_id)
        if isinstance(sweep, Sweep) and sweep.declaration["tenant"] == tenant:
            return sweep
        self.stats["unknown" if sweep is None else "foreign" if isinstance(sweep, Sweep) else "late"] += 1
        return None

    def _write(self, sweep_id: str, place: int, row: bytes | None) -> None:
        self._touched[_key(sweep_id, place)] = None
        rows = self._rows.setdefault(sweep_id, {})
        if row is not None:
            rows[place] = row
        else:
            rows.pop(place, None)
        if not rows:
            del self._rows[sweep_id]

    def _expire(self, now: Now) -> list[Emit]:
        """Forget markers whose time has come, and end sweeps that nothing was heard of for as long."""
        commands = []
        for sweep_id in sorted(self._rows):
            sweep = self._find(sweep_id)
            if isinstance(sweep, DoneMarker) and sweep.expires_ms <= now.wall_ms:
                del self._live[sweep_id]
                self._write(sweep_id, _OWN, None)
            elif isinstance(sweep, Sweep) and sweep.heard_us // 1000 + self._keep_ms <= now.wall_ms:
                commands.append(self._finish(sweep_id, sweep.reduction(final=True), now))
        return commands


def _key(sweep_id: str, place: int) -> bytes:
    return (sweep_id if place == _OWN else f"{sweep_id}/{place}").encode()


def _place(key: bytes) -> tuple[str, int]:
    sweep_id, slash, shard = key.decode().partition("/")
    return sweep_id, int(shard) if slash else _OWN


def check_sweep_id(sweep_id: str) -> None:
    """Raise ShotbusError (SB-1108) for what cannot be a sweep's id."""
    # A slash separates a shard's number in the ledger's keys.
    if not 0 < len(sweep_id) <= _MAX_SWEEP_ID or not sweep_id.isascii() or "/" in sweep_id:
        raise fail("SB-1108", "$.sweep_id", limit=f"1 to {_MAX_SWEEP_ID} ASCII letters, no slash")


def _check_shards(shards: int) -> None:
    if not 1 <= shards <= MAX_SHARDS:
        raise fail("SB-1108", "$.shards", limit=f"1 to {MAX_SHARDS}", actual=shards)
