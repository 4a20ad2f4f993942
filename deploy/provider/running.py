"""Runs a submission on the device's simulator. CPU only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from shotbus.deploy.provider.device import Calibration
from shotbus.deploy.provider.submissions import Submission

#: Counts by hex outcome: of each program, each row, each run.
Results = list[list[list[dict[str, int]]]]


class ProgramError(Exception):
    """The parser or the simulator does not take a program; what it says stays here."""


def run(submission: Submission, calibration: Calibration, seed: int) -> Results:
    """Return the counts of a submission. Raises ProgramError."""
    seeds = np.random.default_rng(seed)
    try:
        return [
            [_rows(_loaded(text), row, submission, calibration, seeds) for row in submission.bindings]
            for text in submission.programs
        ]
    except BaseException as error:  # a panic of a Rust parser is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise ProgramError(type(error).__name__) from error


def _rows(
    circuit: Any, row: tuple[float, ...], submission: Submission, calibration: Calibration, seeds: Any
) -> list[dict[str, int]]:
    values = dict(zip(submission.parameters, row, strict=True))
    bound = circuit.assign_parameters({one: values[one.name] for one in circuit.parameters})
    return [_counts(bound, shots, calibration, int(seeds.integers(2**31))) for shots in submission.shots]


def _counts(circuit: Any, shots: int, calibration: Calibration, seed: int) -> dict[str, int]:
    result = calibration.simulator.run(circuit, shots=shots, seed_simulator=seed).result()
    if not result.success:
        raise ProgramError(str(result.status))
    return {str(key): int(count) for key, count in result.results[0].data.counts.items()}


@lru_cache(maxsize=64)
def _loaded(text: str) -> Any:
    from qiskit import qasm3

    return qasm3.loads(text)
