"""What a worker service is told and what it counts. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from shotbus.broker.clock import Clock
from shotbus.broker.config import TimeoutsConfig
from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Rule
from shotbus.workers.parts import Limits, PartTimes


class Prepared(NamedTuple):
    """Something to be compiled without anybody having asked for it.

    ``request`` is an encoded CircuitRequest about it, ``circuit`` the encoded Circuit, whose id is
    ``circuit_id``.
    """

    circuit_id: str
    circuit: bytes
    request: bytes


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """A worker of one pool.

    ``slots`` child processes, each with ``prefetch`` bundles waiting in hand. ``inline_bundles`` credits
    are granted instead by adapters that run inline. Seconds throughout: ``attempt_seconds`` bounds a
    bundle's run and, when that fails, each of its jobs alone, ``timeouts`` single stages of either;
    ``isolation_seconds`` bounds those runs together; ``stop_seconds`` bounds a graceful stop.
    ``memory_bytes`` caps a child's address space. A revocation is remembered for ``revocation_seconds``,
    longer than a bundle may lie on the bus. ``awaits_grants``: on a pool that costs nothing is submitted
    before its dispatcher has recorded the claim. ``limits`` are the provider's, for all workers of the pool
    together, and ``part_times`` how they are divided among them. ``options`` are the adapter's own. An
    adapter that knows how its backend is is asked every ``advertise_seconds`` while nothing waits, else
    after a bundle at most every ``sense_seconds``, and has ``sense_timeout_seconds`` to answer.
    ``compile_cache`` is the directory in which compiled circuits are kept, at most ``compile_cache_bytes`` of
    them; without it each child process keeps the last few for itself. ``compile_rule``: when those of an
    earlier calibration are compiled anew. ``templates`` are compiled before anything comes.
    """

    pool: str
    adapter: str
    worker: str
    slots: int = 2
    prefetch: int = 1
    inline_bundles: int = 8
    inline_records: int = 64
    attempt_seconds: float = 600.0
    isolation_seconds: float = 1_800.0
    child_start_seconds: float = 60.0
    stop_seconds: float = 30.0
    advertise_seconds: float = 1.0
    dispatcher_silent_seconds: float = 5.0
    memory_bytes: int = 8 << 30
    revocation_seconds: float = 600.0
    awaits_grants: bool = False
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)
    limits: Limits = field(default_factory=Limits)
    part_times: PartTimes = field(default_factory=PartTimes)
    options: Mapping[str, str] = field(default_factory=dict)
    sense_seconds: float = 3.0
    sense_timeout_seconds: float = 30.0
    compile_cache: Path | None = None
    compile_cache_bytes: int = 512 << 20
    compile_rule: Rule = EVERY_CALIBRATION
    templates: tuple[Prepared, ...] = ()

    @property
    def group(self) -> str:
        """Name of the pool's group, without the prefix."""
        return f"workers.{self.pool}"

    @property
    def status_key(self) -> bytes:
        """Key of this worker's record on ``pools``."""
        return f"w/{self.pool}/{self.worker}".encode()


#: The fields of :class:`WorkerCounters` that may fall.
WORKER_GAUGES = ("in_hand", "running", "service_seconds", "error_rate")
# What the newest job counts in a moving mean.
_FORGETTING = 0.95


#: What a child's counts of its compile cache are called here.
_COMPILED = {
    "memory": "compiled_from_memory",
    "disk": "compiled_from_disk",
    "anew": "compiled_anew",
    "reused": "compiled_reused",
    "seconds": "compile_seconds",
    "damaged": "compile_cache_damaged",
    "evicted": "compile_cache_evicted",
    "failed": "compile_cache_failed",
}


@dataclass(slots=True)
class WorkerCounters:
    """What has happened since the start; written by the service alone, read by telemetry."""

    bundles_started: int = 0
    bundles_late: int = 0
    bundles_unreadable: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    jobs_revoked: int = 0
    jobs_late: int = 0
    children_started: int = 0
    children_crashed: int = 0
    children_timed_out: int = 0
    heartbeats: int = 0
    circuits_from_host: int = 0
    circuits_from_store: int = 0
    circuits_from_bus: int = 0
    circuits_missing: int = 0
    compiled_from_memory: int = 0
    compiled_from_disk: int = 0
    compiled_anew: int = 0
    compiled_reused: int = 0
    compile_seconds: float = 0.0
    compile_cache_damaged: int = 0
    compile_cache_evicted: int = 0
    compile_cache_failed: int = 0
    ahead_compiled: int = 0
    ahead_failed: int = 0
    ahead_dropped: int = 0
    gaps: int = 0
    bus_errors: int = 0
    in_hand: int = 0
    running: int = 0
    service_seconds: float = field(default=0.0)
    error_rate: float = field(default=0.0)

    def compiled(self, counts: Mapping[str, float]) -> None:
        """Count what a child has compiled: the fields of :class:`CompileCounts`."""
        for field_name, name in _COMPILED.items():
            setattr(self, name, getattr(self, name) + counts.get(field_name, 0))

    def finished(
        self,
        bundled: int,
        failures: int,
        seconds: float,
        *,
        faults: int = 0,
        late: int = 0,
        revoked: int = 0,
    ) -> None:
        """Count a bundle, of whose jobs ``faults`` failed by the backend's fault.

        ``late`` did not begin, and of the ``revoked`` nothing came: they count neither as done nor as failed.

        ``service_seconds`` is the moving mean of a job, weighted by jobs; ``error_rate`` the moving share of
        jobs that failed so, from none at the start.
        """
        jobs = bundled - late - revoked
        self.jobs_late += late
        self.jobs_revoked += revoked
        self.jobs_done += jobs
        self.jobs_failed += failures
        if jobs:
            newest = 1.0 - _FORGETTING**jobs
            share = 1.0 if self.jobs_done == jobs else newest
            self.service_seconds += share * (seconds / jobs - self.service_seconds)
            self.error_rate += newest * (faults / jobs - self.error_rate)


class Means(NamedTuple):
    """What the parts of a service share: time, what is counted, and random bytes of a length."""

    clock: Clock
    counters: WorkerCounters
    entropy: Callable[[int], bytes]
