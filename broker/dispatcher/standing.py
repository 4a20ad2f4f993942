"""What stands besides the jobs: paused pools, the event records' sequence number, early cancels. Pure."""

from __future__ import annotations

import heapq
import json
from typing import NamedTuple

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.machine import Now
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import digest

_PREFIX = b"meta/"
_PAUSED = b"meta/paused"
_CANCEL = b"meta/cancel/"
_FLAGS = b"meta/flags"
SEQUENCE_KEY = b"meta/sequence"
INTENT_SECONDS = 600
# Anyone may ask to cancel what does not exist; the oldest wish goes when there are more.
MAX_INTENTS = 65_536
# Ends of intents that were renewed may lie in the heap this often beside the others before it is rebuilt.
_SLACK = 64


class Intent(NamedTuple):
    """A tenant's wish that a job or a sweep be cancelled on arrival, until ``until`` (wall seconds)."""

    name: str
    tenant: str
    until: int


def is_flag_value(value: str) -> bool:
    """Tell whether a feature flag can be set to this: on, off, a percentage, or empty."""
    try:
        return value in ("", "on", "off") or 0 <= float(value) <= 100
    except ValueError:
        return False


def is_standing_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Standing:
    """What one shard keeps besides its jobs; methods that change something return the ledger keys."""

    def __init__(self) -> None:
        self._sequence = 0
        self._paused: set[str] = set()
        #: Feature flags that were switched at run time: on, off, or a percentage.
        self.flags: dict[str, str] = {}
        self._intents: dict[bytes, Intent] = {}
        #: When which ends, as a heap; one that was renewed or has gone may be in it still.
        self._ends: list[tuple[int, bytes]] = []

    @property
    def paused(self) -> frozenset[str]:
        """The pools that get no work."""
        return frozenset(self._paused)

    def is_paused(self, pool: str) -> bool:
        """Tell whether a pool gets no work."""
        return pool in self._paused

    def set_paused(self, pool: str, *, paused: bool) -> bytes:
        """Pause or resume a pool."""
        if paused:
            self._paused.add(pool)
        else:
            self._paused.discard(pool)
        return _PAUSED

    def set_flag(self, name: str, value: str) -> bytes:
        """Switch a feature flag; an empty value goes back to what is configured."""
        if value:
            self.flags[name] = value
        else:
            self.flags.pop(name, None)
        return _FLAGS

    def next_sequence(self, now: Now) -> int:
        """Return the next event record's number (row :data:`SEQUENCE_KEY`).

        It is the wall time in microseconds, but rises even when the clock was set back and over restarts.
        """
        self._sequence = max(self._sequence + 1, now.wall_ms * 1000)
        return self._sequence

    def intend(self, name: str, tenant: str, now: Now) -> list[bytes]:
        """Remember that ``tenant`` wants a job or a sweep to be cancelled when it arrives."""
        key = _intent_key(name, tenant)
        # Put behind the others, so that the first is the oldest.
        self._intents.pop(key, None)
        self._take(key, Intent(name, tenant, now.wall_ms // 1000 + INTENT_SECONDS))
        if len(self._intents) <= MAX_INTENTS:
            return [key]
        oldest = next(iter(self._intents))
        del self._intents[oldest]
        return [key, oldest]

    def wanted_gone(self, job: Job) -> bool:
        """Tell whether an arriving job has been cancelled already, by its own tenant."""
        return bool(self._intents) and any(
            _intent_key(name, job.tenant) in self._intents for name in (job.job_id, job.sweep_id)
        )

    def forget(self, now: Now) -> list[bytes]:
        """Drop intents that are too old; costs what those cost."""
        old: list[bytes] = []
        while self._ends and self._ends[0][0] * 1000 <= now.wall_ms:
            until, key = heapq.heappop(self._ends)
            if key in self._intents and self._intents[key].until == until:
                del self._intents[key]
                old.append(key)
        return old

    def _take(self, key: bytes, intent: Intent) -> None:
        self._intents[key] = intent
        heapq.heappush(self._ends, (intent.until, key))
        if len(self._ends) > 2 * len(self._intents) + _SLACK:
            self._ends = sorted((one.until, name) for name, one in self._intents.items())

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        if key == _PAUSED:
            data: object = sorted(self._paused)
        elif key == _FLAGS:
            data = self.flags
        elif key == SEQUENCE_KEY:
            data = self._sequence
        elif (intent := self._intents.get(key)) is not None:
            data = intent
        else:
            return None
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(data).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        if row is None:
            self._intents.pop(key, None)
            return
        data = json.loads(decode(row, "ledger_page")[1]["data"])
        if key == _PAUSED:
            self._paused = set(data)
        elif key == _FLAGS:
            self.flags = data
        elif key == SEQUENCE_KEY:
            self._sequence = data
        else:
            self._take(key, Intent(*data))


def _intent_key(name: str, tenant: str) -> bytes:
    return _CANCEL + digest(tenant, name).hex().encode()
