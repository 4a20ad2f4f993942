"""What a run file's ``plan`` function returns: sweeps of jobs, and what to make of their reductions. Pure.

A plan is data. Whoever runs it cuts jobs into requests, declares the sweeps, submits, waits for the
final reductions and hands them to :attr:`Plan.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from shotbus.producers.program import Program
from shotbus.schemas.codec import decode
from shotbus.schemas.packed import Array, unpack
from shotbus.schemas.pub import Bindings, PauliSums, ProblemStatement


@dataclass(frozen=True, slots=True, eq=False)
class JobPlan:
    """One shard of a sweep.

    ``circuit``: OpenQASM text, a template's ``name@version``, or a program that was made of either.
    ``bindings``: one row a point, None for a circuit without parameters or one that a classical backend does
    not run. ``observables``: None samples, otherwise estimates. ``shots``
    a point (and measurement basis); 0 is exact. ``group``: the rows of all jobs with the same number are
    reduced together. ``axis``: the coordinate of each point along which the reduction works (float64,
    points). ``backend``: pool asked for, empty lets the policy choose. ``problem``: what the circuit is
    about, so that a classical solver can answer the same job. ``family`` and ``family_version``: what
    the circuit is called among its like; empty takes the run's.
    """

    circuit: str | Program
    bindings: Bindings | None
    observables: PauliSums | None
    shots: int
    seed: int | None
    group: int
    axis: Array
    backend: str = ""
    problem: ProblemStatement | None = None
    family: str = ""
    family_version: str = ""

    @property
    def points(self) -> int:
        """Number of rows this job answers with."""
        return int(self.axis.size)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Jobs with one reduction; ``reduce`` and ``options`` are those of ``reducers/reductions.py``."""

    name: str
    jobs: tuple[JobPlan, ...]
    reduce: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A ``sweep_reduction`` record with its payload unpacked.

    ``shards`` waited for, ``done`` = ``succeeded`` + ``failed``; ``from_cache`` is part of ``succeeded``.
    ``points`` and ``shots`` are what was taken. ``arrays`` and ``meta`` are the reduction's own.
    """

    sweep_id: str
    reduce: str
    final: bool
    shards: int
    done: int
    succeeded: int
    failed: int
    from_cache: int
    points: int
    shots: int
    executed_on: Mapping[str, int]
    failed_shards: tuple[int, ...]
    arrays: Mapping[str, Array]
    meta: Mapping[str, Any]

    @property
    def versions(self) -> tuple[Mapping[str, Any], ...]:
        """The ``versions`` of packages that shards were run with, and by how many ``shards``.

        A sweep that ran on one set of versions has one. Shards that do not tell theirs are in none.
        """
        return tuple(self.meta.get("versions", ()))

    @classmethod
    def from_record(cls, data: bytes) -> Reduction:
        """Read a framed record. Raises ShotbusError (SB-1001, SB-1004)."""
        _, fields = decode(data, "sweep_reduction")
        arrays, meta = unpack(fields.pop("payload"))
        for name in ("tenant", "traceparent", "at_us"):
            del fields[name]
        fields["failed_shards"] = tuple(fields["failed_shards"])
        return cls(arrays=arrays, meta=meta, **fields)


@dataclass(frozen=True, slots=True)
class Output:
    """Where a report goes; ``png`` is None when no picture is wanted."""

    console: Console
    png: Path | None = None


Report = Callable[[Mapping[str, Reduction], Output], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Sweeps, and the function that reports on their final reductions (by name of the sweep)."""

    sweeps: tuple[SweepPlan, ...]
    report: Report
