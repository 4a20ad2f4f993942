"""What callers pass for bindings, observables and times, as what travels. Pure; all errors at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shotbus.producers.wishes import is_number
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.pub import EMPTY_BINDINGS, MAX_POINTS, MAX_VALUES, Bindings, PauliSums, check_finite


def bindings_of(given: Any, parameters: Sequence[str], aliases: Mapping[str, str] | None = None) -> Bindings:
    """Return a full matrix, one row a point, columns named.

    Args:
        given: None, :class:`Bindings`, a mapping from parameter (name, Qiskit ``Parameter`` or
            ``ParameterVector``, the last with one column an element) to number or to one value a point,
            or a matrix (points x parameters) in the order of ``parameters``.
        parameters: the circuit's parameters.
        aliases: the caller's names of parameters that the circuit's text names otherwise.

    Raises:
        ShotbusError: SB-1301 unbound, SB-1302 surplus, SB-1303 not finite, SB-1304 shapes, SB-1305 no or
            too many points, SB-1306 given twice; all at once.

    """
    if given is None:
        if not parameters:
            return EMPTY_BINDINGS
        given = {}
    if isinstance(given, Bindings):
        given = dict(zip(given.names, np.asarray(given.matrix).T, strict=True)) or np.zeros((given.points, 0))
    if isinstance(given, Mapping):
        return _from_mapping(given, tuple(parameters), aliases or {})
    matrix = _numbers(given, "$.bindings")
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or matrix.shape[1] != len(parameters):
        raise fail("SB-1304", "$.bindings", limit=f"points x {len(parameters)}", actual=str(matrix.shape))
    problems = check_finite(matrix) + _check_size(*matrix.shape)
    if problems:
        raise ShotbusError(problems)
    return Bindings(tuple(parameters), matrix)


def _from_mapping(
    given: Mapping[Any, Any], parameters: tuple[str, ...], aliases: Mapping[str, str]
) -> Bindings:
    problems: list[Problem] = []
    named = _named(given, aliases, problems)
    said = {wire: name for name, wire in aliases.items()}
    problems += [
        Problem("SB-1301", f"$.bindings.{said.get(name, name)}", hint="give it a value")
        for name in parameters
        if name not in named
    ]
    known = ", ".join(said.get(name, name) for name in parameters) or "none"
    problems += [
        Problem("SB-1302", f"$.bindings.{said.get(name, name)}", limit=f"parameters: {known}", hint="drop it")
        for name in named
        if name not in parameters
    ]
    columns = {name: _column(*named[name], problems) for name in parameters if name in named}
    points = _count_points({said.get(name, name): column for name, column in columns.items()}, problems)
    problems += _check_size(points, len(parameters))
    if problems:
        raise ShotbusError(problems)
    matrix = np.zeros((points, len(parameters)), dtype="<f8")
    for number, name in enumerate(parameters):
        matrix[:, number] = columns[name]
    return Bindings(parameters, matrix)


def _named(
    given: Mapping[Any, Any], aliases: Mapping[str, str], problems: list[Problem]
) -> dict[str, tuple[str, Any]]:
    """Return the caller's name and value by the text's name; a ``Parameter`` and its name are one."""
    named: dict[str, tuple[str, Any]] = {}
    for name, value in _flatten(given, problems):
        wire = aliases.get(name, name)
        if wire in named:
            problems.append(Problem("SB-1306", f"$.bindings.{name}"))
        named.setdefault(wire, (name, value))
    return named


def _flatten(given: Mapping[Any, Any], problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """Name every parameter; a vector's last axis runs over its elements."""
    for key, value in given.items():
        name = str(getattr(key, "name", key))
        if not hasattr(key, "params"):
            yield name, value
            continue
        elements = list(key.params)
        array = np.asarray(value)
        if array.ndim not in (1, 2) or array.shape[-1] != len(elements):
            limit = f"{len(elements)} elements"
            problems.append(Problem("SB-1304", f"$.bindings.{name}", limit=limit, actual=str(array.shape)))
            array = np.zeros(len(elements))
        yield from ((one.name, array[..., number]) for number, one in enumerate(elements))


def _column(name: str, value: Any, problems: list[Problem]) -> Any:
    path = f"$.bindings.{name}"
    try:
        column = np.atleast_1d(_numbers(value, path))
    except ShotbusError as error:
        problems += error.problems
        return np.zeros(1)
    problems += [
        Problem("SB-1303", f"{path}{place}", limit="a finite number", actual=str(column[tuple(place)]))
        for place in np.argwhere(~np.isfinite(column))[:5].tolist()
    ]
    return column


def _count_points(columns: Mapping[str, Any], problems: list[Problem]) -> int:
    """Return how many points the columns make, each of them one value or as many as the longest."""
    points = max((int(column.size) for column in columns.values()), default=1)
    for name, column in columns.items():
        if column.ndim != 1 or column.size not in (1, points):
            path, limit = f"$.bindings.{name}", f"1 or {points} values"
            problems.append(Problem("SB-1304", path, limit=limit, actual=str(column.shape)))
    return points


def check_numbers_alone(given: Any) -> None:
    """Check values whose circuit is not readable: all that can be said of them without its parameters.

    Raises ShotbusError: SB-1303, SB-1304, SB-1305; paths are those of :func:`bindings_of`.
    """
    if given is None:
        return
    problems: list[Problem] = []
    if isinstance(given, Bindings):
        given = dict(zip(given.names, np.asarray(given.matrix).T, strict=True))
    if isinstance(given, Mapping):
        columns = {name: _column(name, value, problems) for name, value in _flatten(given, problems)}
        problems += _check_size(_count_points(columns, problems), len(columns))
    else:
        matrix = np.atleast_2d(_numbers(given, "$.bindings"))
        if matrix.ndim != 2:
            raise fail("SB-1304", "$.bindings", limit="points x parameters", actual=matrix.shape)
        problems += check_finite(matrix) + _check_size(*matrix.shape)
    if problems:
        raise ShotbusError(problems)


def _numbers(value: Any, path: str) -> Any:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise fail("SB-1304", path, limit="real numbers", detail=str(error)) from error
    if array.dtype.kind not in "biuf":
        raise fail("SB-1304", path, limit="real numbers", actual=type(value).__name__)
    return array.astype("<f8")


def _check_size(points: int, columns: int) -> list[Problem]:
    problems = []
    if not 1 <= points <= MAX_POINTS:
        problems.append(Problem("SB-1305", "$.bindings", limit=f"1 to {MAX_POINTS}", actual=str(points)))
    if points * columns > MAX_VALUES:
        limit, actual = f"{MAX_VALUES} values", f"{points} x {columns}"
        problems.append(
            Problem("SB-1305", "$.bindings", limit=limit, actual=actual, hint="cut it into sweeps")
        )
    return problems


def observables_of(given: Any) -> PauliSums | None:
    """Return Pauli sums.

    Args:
        given: None, :class:`PauliSums`, one label, one observable as (label, weight) pairs or as a
            mapping, a list of observables, or Qiskit ``Pauli`` or ``SparsePauliOp`` objects. Labels are
            Qiskit's: qubit 0 is rightmost.

    Raises:
        ShotbusError: SB-1401.

    """
    if given is None or isinstance(given, PauliSums):
        return given
    if (
        isinstance(given, str | Mapping)
        or hasattr(given, "to_list")
        or hasattr(given, "to_label")
        or _is_pair(given)
    ):
        given = [given]
    try:
        if given and all(_is_pair(one) for one in given):
            given = [given]
        terms = [_terms(one) for one in given]
    except (TypeError, ValueError) as error:
        hint = "pass labels, (label, weight) pairs or SparsePauliOp objects"
        raise fail("SB-1401", "$.observables", actual=type(given).__name__, hint=hint) from error
    return PauliSums.from_terms(terms)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _terms(one: Any) -> list[tuple[str, float]]:
    if isinstance(one, str):
        return [(one, 1.0)]
    if isinstance(one, Mapping):
        return [(label, _real(weight)) for label, weight in one.items()]
    if hasattr(one, "to_label"):
        return [(one.to_label(), 1.0)]
    if hasattr(one, "to_list"):
        return [(label, _real(weight)) for label, weight in one.to_list()]
    if _is_pair(one):
        return [(one[0], _real(one[1]))]
    return [(label, _real(weight)) for label, weight in one]


def _real(weight: Any) -> float:
    try:
        value = complex(weight)
    except (TypeError, ValueError) as error:
        raise fail("SB-1401", "$.observables", limit="real weights", actual=str(weight)) from error
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
    if is_number(when):
        return now_ms + int(float(when) * 1000)
    raise fail("SB-1108", path, limit="seconds from now or an aware datetime", actual=str(when))
