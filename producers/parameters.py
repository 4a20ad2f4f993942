"""Checks a run file's ``[parameters]``: every unknown key and every wrong value at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.nearest import did_you_mean


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a plan: its ``default``, the words that say what is allowed, and the check."""

    default: Any
    limit: str
    allows: Callable[[Any], bool]


def number(default: float, low: float, high: float, unit: str = "") -> Parameter:
    """Declare a finite number from ``low`` to ``high``, both included."""
    limit = f"a number from {low:g} to {high:g} {unit}".rstrip()
    return Parameter(default, limit, lambda given: _is_number(given) and low <= given <= high)


def integer(default: int, low: int, high: int) -> Parameter:
    """Declare a whole number from ``low`` to ``high``, both included."""
    return Parameter(default, f"a whole number from {low} to {high}", lambda given: _is_int(given, low, high))


def choices(default: tuple[str, ...], *allowed: str) -> Parameter:
    """Declare a list of one or more different words out of ``allowed``."""
    limit = f"a list of {', '.join(allowed)}"
    return Parameter(default, limit, lambda given: _is_selection(given, allowed))


def read_parameters(given: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the values of all ``known`` parameters, defaults where nothing is ``given``.

    Raises:
        ShotbusError: SB-2001 for each unknown key, with the nearest known one, and SB-2002 for each
            wrong value.

    """
    problems = check_parameters(given, known)
    if problems:
        raise ShotbusError(problems)
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


def check_parameters(given: Mapping[str, Any], known: Mapping[str, Parameter]) -> list[Problem]:
    """Return what :func:`read_parameters` would raise.

    Of a plan file that declares them under the name ``PARAMETERS``, a run file's parameters are checked with
    the rest of the file, before the plan is made.
    """
    problems = [_unknown(name, known) for name in given if name not in known]
    for name, parameter in known.items():
        if name in given and not parameter.allows(given[name]):
            path = f"$.parameters.{name}"
            problems.append(Problem("SB-2002", path, limit=parameter.limit, actual=repr(given[name])))
    return problems


def _unknown(name: str, known: Mapping[str, Parameter]) -> Problem:
    hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
    return Problem("SB-2001", f"$.parameters.{name}", actual=name, hint=hint)


def _is_number(given: Any) -> bool:
    # bool is an int to Python, but nobody means it as a length.
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _is_int(given: Any, low: int, high: int) -> bool:
    return type(given) is int and low <= given <= high


def _is_selection(given: Any, allowed: tuple[str, ...]) -> bool:
    if not isinstance(given, list | tuple) or not all(isinstance(word, str) for word in given):
        return False
    return 0 < len(given) == len(set(given)) and set(given) <= set(allowed)
