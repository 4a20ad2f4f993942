"""Draws submissions from a seed: classes, tenants, deadlines, keys, sweeps, some nonsense. Pure."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.clock import Clock
from shotbus.broker.config import Config
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, job_id, keyed_partition
from shotbus.schemas.layout import Layout, pack_layout
from shotbus.simulation.child import POISON
from shotbus.simulation.features import LIMITED, wishes

_TENANTS = ("ada", "bob", "eve")
#: What the shards of a sweep do not ask for.
_PLAIN: dict[str, Any] = {"fallback": [], "speculate": "", "unique_key": "", "unique_policy": ""}
_TEXT = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[1] q;\nbit[1] c;\nh q[0];\nc[0] = measure q[0];\n'


def circuit_record(topics: Topics) -> Outgoing:
    """Return the record of the one circuit that all requests name."""
    name = circuit_id(_TEXT)
    fields = {"circuit_id": name, "language": "openqasm3", "text": _TEXT, "family": "", "family_version": ""}
    place = keyed_partition(name, topics.partitions)
    return Outgoing(topics.name("circuits"), place, name.encode(), encode("circuit", fields))


class Requests:
    """A source of requests, each different."""

    def __init__(self, random: Random, config: Config, clock: Clock, *, features: bool = False) -> None:
        self._random, self._config, self._clock, self._features = random, config, clock, features
        self._others = sorted(set(config.pools) - {config.routing.default})

    def draw(self) -> dict[str, Any]:
        """Return the fields of a ``circuit_request``; keys are few, so that some come with two payloads."""
        random = self._random
        return self.draw_for(random.choice(_TENANTS), random.choice(sorted(self._config.classes)))

    def draw_for(self, tenant: str, priority: str) -> dict[str, Any]:
        """Return the fields of a ``circuit_request`` of a tenant and a class."""
        random, now_ms = self._random, self._clock.wall_ms()
        key = f"key-{random.randrange(60)}" if random.random() < 0.2 else ""
        more = wishes(random, keyed=bool(key)) if self._features else {}
        unique = more.get("unique_key", "")
        return more | {
            "job_id": job_id(tenant, idempotency_key=key, unique_key=unique, entropy=random.randbytes(12)),
            "tenant": tenant,
            "principal": f"{tenant}@example.org",
            "idempotency_key": key,
            "payload_hash": b"",
            "priority": priority,
            "intent": "test",
            "circuit_id": circuit_id(_TEXT),
            "points": random.choice((1, 1, 4, 30)),
            "bindings": b"",
            "mode": "sample",
            "shots": 0 if random.random() < 0.02 else random.choice((10, 100)),
            "observables": b"",
            "expected": {"registers": [{"name": "c", "width": 1}], "observables": 0, "shape": [1]},
            "backend": random.choices(("", "nowhere", *self._others), (70, 2, 14, 14))[0],
            "options": POISON if random.random() < 0.015 else {},
            "seed": random.randrange(3) if random.random() < 0.3 else None,
            "deadline_ms": now_ms + random.randrange(1_000, 60_000) if random.random() < 0.2 else None,
            "not_before_ms": now_ms + random.randrange(10_000) if random.random() < 0.1 else None,
            "submitted_us": now_ms * 1000,
        }

    def sweep(self) -> tuple[bytes, str, list[dict[str, Any]]]:
        """Return a declaration, its sweep's id and the requests of its shards."""
        # A shard that is refused for a budget would have to be sent again: those who have none sweep.
        tenants = [one for one in _TENANTS if not (self._features and one in LIMITED)]
        tenant, sweep_id = self._random.choice(tenants), self._random.randbytes(12).hex()
        shards = self._random.randrange(1, 6)
        changes = {"tenant": tenant, "backend": "", "shots": 10, "deadline_ms": None, "not_before_ms": None}
        requests = [
            self.draw()
            | changes
            | _PLAIN
            | {
                "job_id": job_id(tenant, entropy=self._random.randbytes(12)),
                "idempotency_key": "",
                "sweep_id": sweep_id,
                "shard_index": number,
            }
            for number in range(shards)
        ]
        points = [one["points"] for one in requests]
        layout = Layout(
            rows=np.array(points, dtype="<i4"),
            groups=np.zeros(shards, dtype="<i4"),
            axis=np.zeros(sum(points), dtype="<f8"),
        )
        fields = {
            "command": "declare",
            "sweep_id": sweep_id,
            "tenant": tenant,
            "principal": f"{tenant}@example.org",
            "shards": shards,
            "layout": pack_layout(layout),
            "reduce": "collect",
            "options": {},
            "experiment": "",
            "tags": [],
            "traceparent": "",
            "at_us": self._clock.wall_ms() * 1000,
        }
        return encode("sweep_command", fields), sweep_id, requests

    def cancel(self, job_id: str, tenant: str) -> bytes:
        """Return a control record by which a tenant cancels a job."""
        return self._control("cancel", "job", job_id, tenant)

    def command(self, command: str, pool: str) -> bytes:
        """Return a control record about a pool."""
        return self._control(command, "pool", pool, "operator")

    def _control(self, command: str, target: str, name: str, tenant: str) -> bytes:
        fields = {
            "command": command,
            "target": target,
            "name": name,
            "tenant": tenant,
            "principal": f"{tenant}@example.org",
            "correlation": "",
            "reason": "simulated",
            "at_us": self._clock.wall_ms() * 1000,
        }
        return encode("control", fields)
