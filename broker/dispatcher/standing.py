"""What stands besides the jobs: paused pools, and wishes to cancel what has not arrived yet. Pure."""

from __future__ import annotations

import json

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.machine import Now
from shotbus.schemas.codec import decode, encode

_PREFIX = b"meta/"
_PAUSED = b"meta/paused"
_CANCEL = b"meta/cancel/"
INTENT_SECONDS = 600


def is_standing_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Standing:
    """Paused pools and cancel intents of one shard; each method that changes returns the ledger key."""

    def __init__(self) -> None:
        self._paused: set[str] = set()
        self._intents: dict[str, int] = {}

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

    def intend(self, name: str, now: Now) -> bytes:
        """Remember that a job or a sweep is to be cancelled when it arrives."""
        self._intents[name] = now.wall_ms // 1000 + INTENT_SECONDS
        return _CANCEL + name.encode()

    def wanted_gone(self, job: Job) -> bool:
        """Tell whether an arriving job has been cancelled already."""
        return bool(self._intents) and (job.job_id in self._intents or job.sweep_id in self._intents)

    def forget(self, now: Now) -> list[bytes]:
        """Drop intents that are too old."""
        old = [name for name, until in self._intents.items() if until * 1000 <= now.wall_ms]
        for name in old:
            del self._intents[name]
        return [_CANCEL + name.encode() for name in old]

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        if key == _PAUSED:
            data = json.dumps(sorted(self._paused)).encode()
        else:
            until = self._intents.get(key.removeprefix(_CANCEL).decode())
            if until is None:
                return None
            data = str(until).encode()
        return encode("ledger_page", {"kind": "meta", "data": data})

    def restore(self, key: bytes, row: bytes) -> None:
        """Take a row back."""
        data = decode(row, "ledger_page")[1]["data"]
        if key == _PAUSED:
            self._paused = set(json.loads(data))
        else:
            self._intents[key.removeprefix(_CANCEL).decode()] = int(data)
