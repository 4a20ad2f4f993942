"""What the rule for recompiling saves: a day of hourly calibrations, with it and without. Compiles, writes.

The device is one that Qiskit Runtime brings along, with the errors that it once had. From hour to hour each
of them moves by a factor of its own, exp(s z) with z normal: a random walk, so that a day moves an error by
about sqrt(24) s. How far real ones move differs by device; that is why s is a column.
"""

from __future__ import annotations

import asyncio
import copy
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shotbus.benchmarks.figures import Figure, Reference, Report, Table
from shotbus.benchmarks.place import Place
from shotbus.broker.config import CompileConfig
from shotbus.schemas.codec import Fields
from shotbus.schemas.ids import circuit_id
from shotbus.workers.adapters.aer_compile import RunOptions
from shotbus.workers.adapters.aer_transpiled import Transpiled
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Rule
from shotbus.workers.providers.programs import RemoteCompiler
from shotbus.workers.providers.target import TargetCalibration

DEVICE = "FakeSherbrooke"
HOURS = 24
HOUR_MS = 3_600_000
SEED = 5
_START_MS = 1_800_000_000_000
_NARROWEST = 3
#: The first is the one that the figure is about.
_HOURLY = (0.02, 0.01, 0.05, 0.1)
_SHIFTS = (0.1, 0.2, 0.5)


class Look(NamedTuple):
    """A circuit under one of the day's calibrations."""

    calibration: TargetCalibration
    circuit: Transpiled
    origin: str


def chains(count: int) -> list[Fields]:
    """Return Circuit records: layers of rotations and CX on chains of 3, 4, … qubits."""
    return [_record(_chain(_NARROWEST + number)) for number in range(count)]


def day(target: Any, hourly: float, *, seed: int = SEED, hours: int = HOURS) -> Iterator[TargetCalibration]:
    """Yield hourly calibrations of a device whose errors walk.

    Args:
        target: Qiskit's, with the errors of the first hour.
        hourly: standard deviation of an error's logarithm from one hour to the next.
        seed: of the walk.
        hours: how many.

    """
    places = [
        (name, qubits)
        for name in sorted(target.operation_names)
        for qubits, known in sorted((target[name] or {}).items(), key=str)
        if qubits is not None and known is not None and known.error
    ]
    steps = np.random.default_rng(seed).normal(0.0, hourly, (hours, len(places)))
    steps[0] = 0.0
    for hour, moved in enumerate(np.exp(np.cumsum(steps, axis=0))):
        changed = copy.deepcopy(target)
        for (name, qubits), factor in zip(places, moved, strict=True):
            properties = copy.copy(target[name][qubits])
            properties.error = min(properties.error * float(factor), 1.0)
            changed.update_instruction_properties(name, qubits, properties)
        yield TargetCalibration("walked", changed, _START_MS + hour * HOUR_MS, {})


def replay(
    circuits: Sequence[Fields], calibrations: Sequence[TargetCalibration], rule: Rule, directory: Path
) -> Iterator[Look]:
    """Compile each circuit once under each calibration, each time in a worker that has just been started."""
    for calibration in calibrations:
        compiler = RemoteCompiler()
        compiler.kept = CompileCache(directory, rule=rule)
        compiler.imitate(calibration)
        for record in circuits:
            parsed = compiler.parse(record["circuit_id"], record)
            made = compiler.transpile(record["circuit_id"], parsed, RunOptions(), bare=False)
            yield Look(calibration, made, compiler.origin)


def hit_rate(
    circuits: Sequence[Fields], calibrations: Sequence[TargetCalibration], rule: Rule, directory: Path
) -> float:
    """Return the part of the circuits that were found compiled, over all hours."""
    looks = list(replay(circuits, calibrations, rule, directory))
    return math.fsum(look.origin != "anew" for look in looks) / len(looks)


async def measure(place: Place, *, circuits: int, walks: int) -> Report:
    """Replay a day with so many circuits, under so many walks and several rules."""
    del place
    return await asyncio.to_thread(_measure, chains(circuits), sorted(_HOURLY[:walks]))


def _measure(circuits: Sequence[Fields], walks: Sequence[float]) -> Report:
    defaults = CompileConfig()
    after = defaults.recompile_after_seconds
    rates: dict[tuple[float, Rule], float] = {}
    for hourly in walks:
        calibrations = list(day(_target(), hourly))
        for rule in (EVERY_CALIBRATION, *(Rule(after, shift) for shift in _SHIFTS)):
            with tempfile.TemporaryDirectory(prefix="shotbus-calibrations-") as folder:
                rates[hourly, rule] = hit_rate(circuits, calibrations, rule, Path(folder) / "kept")
    return _report(rates, Rule(after, defaults.recompile_error_shift), len(circuits))


def _report(rates: dict[tuple[float, Rule], float], rule: Rule, circuits: int) -> Report:
    hourly, walks = _HOURLY[0], tuple(dict.fromkeys(walk for walk, _ in rates))
    reference = Reference("every calibration", 100 * rates[hourly, EVERY_CALIBRATION])
    name = f"hit rate, errors move by {hourly:.0%} an hour"
    rows = tuple(
        (
            "every calibration" if one == EVERY_CALIBRATION else f"moved by more than {one.error_shift:.0%}",
            *(f"{rates[walk, one]:.1%}" for walk in walks),
        )
        for one in dict.fromkeys(rule for _, rule in rates)
    )
    header = ("compiled anew when errors", *(f"{walk:.0%} an hour" for walk in walks))
    title = f"found compiled, {circuits} circuits under {HOURS} hourly calibrations of {DEVICE}"
    figure = Figure("calibrations", name, 100 * rates[hourly, rule], "%", reference)
    return Report([figure], [], [Table(title, header, rows)])


def _target() -> Any:
    from qiskit_ibm_runtime import fake_provider

    return getattr(fake_provider, DEVICE)().target


def _chain(qubits: int) -> str:
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{qubits}] q;", f"bit[{qubits}] c;"]
    for layer in range(2):
        lines += [f"ry({0.1 + 0.2 * layer + 0.05 * k}) q[{k}];" for k in range(qubits)]
        lines += [f"cx q[{k}], q[{k + 1}];" for k in range(qubits - 1)]
    return "\n".join([*lines, "c = measure q;", ""])


def _record(text: str) -> Fields:
    return {"circuit_id": circuit_id(text), "language": "openqasm3", "text": text}
