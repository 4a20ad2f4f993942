"""Credits: what workers have granted to this process and what of it is free. Pure.

A worker owns its slots and its prefetch and shares them among the dispatchers it hears of; its grants
come with its advertisement on ``pools``. A bundle occupies one credit from forwarding to its outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.broker.dispatcher.messages import Credit

SILENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Advert:
    """The newest advertisement of a worker or dispatcher, and when this process heard it."""

    fields: Mapping[str, Any]
    heard: float


class CreditBook:
    """All advertisements, seen from one dispatcher process.

    Args:
        dispatcher: this process's name, under which workers grant it credits.

    """

    def __init__(self, dispatcher: str) -> None:
        self._dispatcher = dispatcher
        self._adverts: dict[bytes, Advert] = {}
        self._calibrated: dict[str, tuple[int, str]] = {}
        self._turn = 0

    def learn(self, key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        """Take an advertisement, or None for one that was withdrawn; ``heard`` is monotonic seconds."""
        if fields is None:
            self._adverts.pop(key, None)
        else:
            self._adverts[key] = Advert(fields, heard)
            if fields.get("calibration_id"):
                mark = (fields["calibrated_ms"], fields["calibration_id"])
                self._calibrated[fields["pool"]] = max(mark, self._calibrated.get(fields["pool"], mark))

    def calibration(self, pool: str) -> str:
        """Return the newest calibration of a pool's backend that was heard of; empty for none."""
        return self._calibrated.get(pool, (0, ""))[1]

    def workers(self, now: float) -> list[Mapping[str, Any]]:
        """Return the advertisements of workers that are alive."""
        return [
            advert.fields
            for advert in self._adverts.values()
            if advert.fields["role"] == "worker" and now - advert.heard < SILENT_SECONDS
        ]

    def free(self, loads: Iterable[Mapping[tuple[str, str], int]], now: float) -> dict[str, Sequence[Credit]]:
        """Return the free credits by pool.

        Args:
            loads: bundles in flight by (pool, worker), one mapping for each shard of this process.
            now: monotonic seconds.

        """
        used: dict[tuple[str, str], int] = {}
        for load in loads:
            for key, count in load.items():
                used[key] = used.get(key, 0) + count
        found: dict[str, list[Credit]] = {}
        for fields in self.workers(now):
            room = fields["grants"].get(self._dispatcher, 0) - used.get((fields["pool"], fields["name"]), 0)
            if room > 0 and fields["partitions"] and fields["state"] == "ready":
                self._turn += 1
                partition = fields["partitions"][self._turn % len(fields["partitions"])]
                found.setdefault(fields["pool"], []).append(Credit(fields["name"], partition, room))
        return dict(found)
