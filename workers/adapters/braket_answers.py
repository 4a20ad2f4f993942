"""What Braket puts into S3 of a task, checked like a stranger's word. Pure.

Whatever does not fit is :class:`ImplausibleError`; nothing else is raised, whatever the documents say. Shots
come as one list each, and become one array at once; a program set's parts may lie in objects of their own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.packed import Array
from shotbus.workers.adapters.braket_compile import Slots, flat_circuits, slots_of
from shotbus.workers.adapters.braket_errors import partial
from shotbus.workers.adapters.entries import Entries, joined, read_entries
from shotbus.workers.adapters.increments import added
from shotbus.workers.adapters.samples import counted
from shotbus.workers.providers.base import Fetched, ImplausibleError
from shotbus.workers.providers.programs import Order

_MEASURE = re.compile(r"^b\[(\d{1,6})\] = measure (?:q\[|\$)(\d{1,6})\]?;$", re.MULTILINE)
_OUTCOME = re.compile(r"[01]{1,100000}")
_PROGRAM, _SET = "braket.task_result.gate_model_task_result", "braket.task_result.program_set_task_result"
_MOST_BYTES = 1 << 30
#: How far a share of shots may be from a whole number of them, by rounding.
_NEAR = 1e-3


class FailedError(Exception):
    """A part of a program set has no result; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def read_result(raw: bytes, load: Callable[[str], bytes], arn: str, order: Order) -> Fetched:
    """Return a task's result.

    Args:
        raw: of the object that Braket calls the task's results.
        load: fetches another one, by its name relative to that one's folder.
        arn: of the task.
        order: what was asked for.

    """
    loaded = [raw]

    def noted(name: str) -> bytes:
        loaded.append(load(name))
        return loaded[-1]

    try:
        outcomes, seconds = _read(raw, noted, arn, order)
    except ImplausibleError as error:
        return Fetched(b"".join(loaded), wrong=str(error))
    except ShotbusError as error:
        return Fetched(b"".join(loaded), failure=error.problems[0])
    except FailedError as error:
        return Fetched(b"".join(loaded), failure=error.problem)
    return Fetched(b"".join(loaded), outcomes, backend_seconds=seconds)


def _read(
    raw: bytes, load: Callable[[str], bytes], arn: str, order: Order
) -> tuple[tuple[Entries, ...], float]:
    told = _document(raw)
    kind = _object(told.get("braketSchemaHeader"), "header").get("name")
    slots = [slots_of(circuit) for circuit in flat_circuits(order.compiled)]
    if kind == _PROGRAM:
        _check_task(_object(told.get("taskMetadata"), "metadata"), arn)
        more = _object(told.get("additionalMetadata") or {}, "metadata")
        source = _object(more.get("action") or {}, "action").get("source")
        if len(slots) * order.rows * len(order.shots) != 1:
            raise ImplausibleError("the result is of one program")
        entries = _entries(told, str(source or ""), slots[0], order.compiled.bits[0], order.shots[0])
        return (entries,), _duration(more)
    if kind != _SET:
        raise ImplausibleError("the result is of no kind that is known")
    return _read_set(told, load, arn, order, slots), -1.0


def _read_set(
    told: Mapping[str, Any],
    load: Callable[[str], bytes],
    arn: str,
    order: Order,
    slots: Sequence[Slots],
) -> tuple[Entries, ...]:
    metadata = told.get("taskMetadata")
    _check_task(
        _document(load(metadata)) if isinstance(metadata, str) else _object(metadata, "metadata"), arn
    )
    executables = [one for program in _list(told.get("programResults")) for one in _program(program, load)]
    each = order.rows * len(order.shots)
    if len(executables) != each * len(slots):
        raise ImplausibleError(f"{len(executables)} executables, not {each * len(slots)}")
    found = []
    for number, places in enumerate(slots):
        rows = [
            _entries(one, source, places, order.compiled.bits[number], order.shots[0])
            for one, source in executables[number * each : (number + 1) * each]
        ]
        # All rows of a run, then those of the next.
        runs = [rows[start : start + order.rows] for start in range(0, each, order.rows)]
        found.append(added(joined(run, _MOST_BYTES) for run in runs))
    return tuple(found)


def _program(told: Any, load: Callable[[str], bytes]) -> list[tuple[dict[str, Any], str]]:
    """Return a program's executables in the order of their inputs, each with the text that ran."""
    folder = ""
    if isinstance(told, str):
        folder, _, _ = told.rpartition("/")
        told = _document(load(told))
    parts = [
        _document(load(f"{folder}/{one}")) if isinstance(one, str) else _object(one, "executable")
        for one in _list(_object(told, "program").get("executableResults"))
    ]
    for part in parts:
        if "failureMetadata" in part:
            raise FailedError(partial(part["failureMetadata"]))
    source = told.get("source")
    if isinstance(source, str):
        source = _document(load(f"{folder}/{source}"))
    text = str(_object(source or {}, "source").get("source") or "")
    by_place = {part["inputsIndex"]: part for part in parts if type(part.get("inputsIndex")) is int}
    if sorted(by_place) != list(range(len(parts))):
        raise ImplausibleError("executables do not count their inputs")
    return [(by_place[place], text) for place in range(len(parts))]


def _check_task(metadata: Mapping[str, Any], arn: str) -> None:
    if metadata.get("id") != arn:
        raise ImplausibleError("the result is of another task")


def _duration(metadata: Mapping[str, Any]) -> float:
    """Return what a simulator says it took, seconds; negative where nothing is said."""
    told = metadata.get("simulatorMetadata")
    taken: Any = told.get("executionDuration") if isinstance(told, dict) else None
    return taken / 1e3 if type(taken) in (int, float) and 0 <= taken < math.inf else -1.0


def _entries(told: Mapping[str, Any], source: str, slots: Slots, bits: int, shots: int) -> Entries:
    """Return the outcomes of one executable."""
    columns = _columns(told.get("measuredQubits"), source, len(slots))
    if told.get("measurements") is None:
        return _from_shares(told.get("measurementProbabilities"), columns, slots, bits, shots)
    samples = _samples(told["measurements"], shots)
    if samples.shape[1] <= max(columns, default=-1):
        raise ImplausibleError("an outcome lacks a qubit")
    placed = np.zeros((shots, bits), dtype=np.uint8)
    for column, places in zip(columns, slots, strict=True):
        placed[:, places] = samples[:, column, None]
    packed = np.packbits(placed, axis=1, bitorder="little") if bits else np.zeros((shots, 1), dtype=np.uint8)
    return counted(packed[None])


def _samples(told: Any, shots: int) -> Array:
    try:
        samples = np.array(told)
    except (ValueError, OverflowError):
        raise ImplausibleError("outcomes are not of the same length") from None
    if samples.ndim != 2 or samples.dtype.kind not in "iu" or len(samples) != shots:
        raise ImplausibleError(f"not {shots} shots")
    if samples.size and (samples.min() < 0 or samples.max() > 1):
        raise ImplausibleError("an outcome is no bits")
    return samples.astype(np.uint8)


def _from_shares(told: Any, columns: Sequence[int], slots: Slots, bits: int, shots: int) -> Entries:
    """Count shots of which only the shares are told, each of which has to be a whole number of them."""
    table: dict[str, int] = {}
    for word, share in _object(told, "outcomes").items():
        count = share * shots if type(share) in (int, float) and 0 <= share <= 1 else math.nan
        # Not a number is not near any.
        whole = round(count) if math.isfinite(count) else 0
        if (
            not _OUTCOME.fullmatch(word)
            or len(word) <= max(columns, default=-1)
            or not abs(count - whole) < _NEAR
        ):
            raise ImplausibleError("a share of outcomes is no number of shots")
        places = (
            1 << bit for column, to in zip(columns, slots, strict=True) if word[column] == "1" for bit in to
        )
        key = hex(sum(places))
        if whole:
            table[key] = table.get(key, 0) + whole
    if sum(table.values()) != shots:
        raise ImplausibleError(f"counts add up to {sum(table.values())}, not to {shots} shots")
    return read_entries([table], bits)


def _columns(measured: Any, source: str, count: int) -> list[int]:
    """Return the column of each slot: by the text that ran where it is told, else in their order."""
    told = dict(_MEASURE.findall(source))
    qubits = [str(one) for one in measured] if isinstance(measured, list) else []
    wanted = [told.get(str(slot)) for slot in range(count)]
    if told and qubits:
        if any(one not in qubits for one in wanted) or len(set(qubits)) != len(qubits):
            raise ImplausibleError("a qubit was not measured")
        return [qubits.index(str(one)) for one in wanted]
    return list(range(count))


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(raw), "answer")
    except (ValueError, RecursionError):
        raise ImplausibleError("it is no JSON") from None


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ImplausibleError(f"{name} is no object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ImplausibleError("results are no list")
    return value
