"""Angles of gates, for many points at once. Pure; an angle that is not linear is read through Qiskit.

Everything is computed element by element, so the values of a point do not depend on which others are with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shotbus.schemas.errors import fail
from shotbus.schemas.packed import Array
from shotbus.workers.adapters.aer_run import refusals

#: Parameter name -> its value at every point.
Columns = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Angle:
    """``constant`` plus the weighted parameters of ``terms``; or ``scale`` times what ``expression`` says.

    Equal angles are equal objects: what is computed from one is computed once.
    """

    terms: tuple[tuple[str, float], ...] = ()
    constant: float = 0.0
    expression: Any = None
    scale: float = 1.0

    @property
    def fixed(self) -> bool:
        """Whether it is the same at all points."""
        return not self.terms and self.expression is None

    def times(self, factor: float) -> Angle:
        """Return a multiple."""
        terms = tuple((name, factor * weight) for name, weight in self.terms)
        return replace(self, terms=terms, constant=factor * self.constant, scale=factor * self.scale)

    def values(self, columns: Columns) -> Array:
        """Return its value at every point; one for all if it is fixed.

        Raises ShotbusError (SB-1220) where it has none, such as a division by zero.
        """
        if self.expression is not None:
            return self.scale * _evaluated(self.expression, columns)
        total: Array = np.full(1, self.constant)
        for name, weight in self.terms:
            total = total + weight * columns[name]
        return total


def read_angle(given: Any) -> Angle:
    """Return a gate's angle as Qiskit holds it: a number, a parameter or an expression."""
    if not getattr(given, "parameters", ()):
        return Angle(constant=float(given))
    parameters = sorted(given.parameters, key=lambda parameter: str(parameter.name))
    weights = [_plain(given.gradient(parameter)) for parameter in parameters]
    if any(weight is None for weight in weights):
        return Angle(expression=given)
    at_zero = float(given.bind_all(dict.fromkeys(parameters, 0.0)))
    terms = zip((parameter.name for parameter in parameters), weights, strict=True)
    return Angle(tuple((name, weight) for name, weight in terms if weight is not None), at_zero)


def _plain(slope: Any) -> float | None:
    """Return a slope that is a number, None for one that depends on parameters."""
    if getattr(slope, "parameters", ()):
        return None
    number = complex(slope)
    return number.real if number.imag == 0 else None


def _evaluated(expression: Any, columns: Columns) -> Array:
    used = sorted(expression.parameters, key=lambda parameter: str(parameter.name))
    points = zip(*(columns[parameter.name].tolist() for parameter in used), strict=True)
    with refusals():
        values = np.array(
            [float(expression.bind_all(dict(zip(used, point, strict=True)))) for point in points]
        )
    if not np.isfinite(values).all():
        raise fail("SB-1220", "$.circuit", detail="an angle is not finite for these bindings")
    return values
