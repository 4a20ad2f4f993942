"""What callers pass for bindings, observables and times, as what travels. Pure; all errors at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.pub import Bindings, PauliSums, check_finite


def bindings_of(given: Any, parameters: Sequence[str]) -> Bindings:
    """Return a full matrix, one row a point, columns named.

    Args:
        given: None, :class:`Bindings`, a mapping from parameter to number or to one value a point, or a
            matrix (points x parameters) in the order of ``parameters``.
        parameters: the circuit's parameters.

    Raises:
        ShotbusError: SB-1301 unbound, SB-1302 surplus, SB-1303 not finite, SB-1304 shapes; all at once.

    """
    if given is None:
        given = {}
    if isinstance(given, Bindings):
        given = dict(zip(given.names, np.asarray(given.matrix).T, strict=True)) or np.zeros((given.points, 0))
    if isinstance(given, Mapping):
        return _from_mapping(given, tuple(parameters))
    matrix = _numbers(given, "$.bindings")
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or matrix.shape[1] != len(parameters):
        raise fail("SB-1304", "$.bindings", limit=f"points x {len(parameters)}", actual=str(matrix.shape))
    return _finite(Bindings(tuple(parameters), matrix))


def _from_mapping(given: Mapping[Any, Any], parameters: tuple[str, ...]) -> Bindings:
    named = {getattr(key, "name", str(key)): value for key, value in given.items()}
    problems = [
        Problem("SB-1301", f"$.bindings.{name}", hint="give it a value")
        for name in parameters
        if name not in named
    ]
    known = ", ".join(parameters) or "none"
    problems += [
        Problem("SB-1302", f"$.bindings.{name}", limit=f"parameters: {known}", hint="drop it")
        for name in named
        if name not in parameters
    ]
    if problems:
        raise ShotbusError(problems)
    columns = [np.atleast_1d(_numbers(named[name], f"$.bindings.{name}")) for name in parameters]
    points = max((column.size for column in columns), default=1)
    wrong = [
        Problem("SB-1304", f"$.bindings.{name}", limit=f"1 or {points} values", actual=str(column.shape))
        for name, column in zip(parameters, columns, strict=True)
        if column.ndim != 1 or column.size not in (1, points)
    ]
    if wrong:
        raise ShotbusError(wrong)
    matrix = (
        np.stack([np.broadcast_to(column, points) for column in columns], axis=1)
        if columns
        else np.zeros((1, 0))
    )
    return _finite(Bindings(parameters, np.ascontiguousarray(matrix, dtype="<f8")))


def _numbers(value: Any, path: str) -> Any:
    try:
        return np.asarray(value, dtype="<f8")
    except (TypeError, ValueError) as error:
        raise fail("SB-1304", path, limit="numbers", actual=type(value).__name__) from error


def _finite(bindings: Bindings) -> Bindings:
    problems = check_finite(bindings.matrix)
    if problems:
        raise ShotbusError(problems)
    return bindings


def observables_of(given: Any) -> PauliSums | None:
    """Return Pauli sums.

    Args:
        given: None, :class:`PauliSums`, one label, one observable as (label, weight) pairs, a list of
            observables, or Qiskit ``SparsePauliOp`` objects. Labels are Qiskit's: qubit 0 is rightmost.

    Raises:
        ShotbusError: SB-1401.

    """
    if given is None or isinstance(given, PauliSums):
        return given
    if isinstance(given, str) or hasattr(given, "to_list") or _is_pair(given):
        given = [given]
    if given and all(_is_pair(one) for one in given):
        given = [given]
    return PauliSums.from_terms([_terms(one) for one in given])


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _terms(one: Any) -> list[tuple[str, float]]:
    if isinstance(one, str):
        return [(one, 1.0)]
    if hasattr(one, "to_list"):
        return [(label, _real(weight)) for label, weight in one.to_list()]
    if _is_pair(one):
        return [(one[0], _real(one[1]))]
    return [(label, _real(weight)) for label, weight in one]


def _real(weight: Any) -> float:
    value = complex(weight)
    if abs(value.imag) > 1e-12 * max(1.0, abs(value.real)):
        raise fail("SB-1401", "$.observables", limit="real weights", actual=str(weight))
    return value.real


def wall_ms(when: Any, path: str, now_ms: int) -> int | None:
    """Return wall time in milliseconds.

    Args:
        when: None, seconds from now, or an aware ``datetime``.
        path: where it stands, for the error.
        now_ms: the present.

    Raises:
        ShotbusError: SB-1108 for a datetime without a zone or anything else.

    """
    if when is None:
        return None
    if isinstance(when, dt.timedelta):
        when = when.total_seconds()
    if isinstance(when, dt.datetime):
        if when.tzinfo is None:
            raise fail("SB-1108", path, limit="a datetime with a zone", actual=str(when))
        return int(when.timestamp() * 1000)
    if isinstance(when, int | float) and not isinstance(when, bool) and np.isfinite(when):
        return now_ms + int(when * 1000)
    raise fail("SB-1108", path, limit="seconds from now or an aware datetime", actual=str(when))
