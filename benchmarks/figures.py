"""What a benchmark yields: figures with references and targets, notes, and stage tables. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Reference(NamedTuple):
    """What a figure is compared with, in the figure's own unit, measured in the same run."""

    name: str
    value: float


class Target(NamedTuple):
    """A demand on a figure, or on its ratio to the reference where it has one; ``high`` ends "within"."""

    relation: Literal["at least", "at most", "below", "exactly", "within"]
    limit: float
    high: float = math.inf

    def met_by(self, value: float) -> bool:
        """Tell whether ``value`` meets it."""
        return _RELATIONS[self.relation].holds(value, self.limit, self.high)

    def __str__(self) -> str:
        sign = _RELATIONS[self.relation].sign
        return f"{sign} {self.limit:,g}" if sign else f"{self.limit:,g} to {self.high:,g}"


class _Relation(NamedTuple):
    sign: str
    holds: Callable[[float, float, float], bool]


_RELATIONS = {
    "at least": _Relation("≥", lambda value, low, _: value >= low),
    "at most": _Relation("≤", lambda value, low, _: value <= low),
    "below": _Relation("<", lambda value, low, _: value < low),
    "exactly": _Relation("=", lambda value, low, _: value == low),
    "within": _Relation("", lambda value, low, high: low <= value <= high),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; ``noise`` says how it moved between repeats, where it was repeated."""

    benchmark: str
    name: str
    value: float
    unit: str
    reference: Reference | None = None
    target: Target | None = None
    noise: str = ""
    given_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value over reference: of the medians of the repeats when those were interleaved pairs."""
        if self.given_ratio is not None:
            return self.given_ratio
        return self.value / self.reference.value if self.reference and self.reference.value else None

    @property
    def met(self) -> bool | None:
        """Tell whether the target is met; None without one."""
        if self.target is None:
            return None
        judged = self.ratio if self.reference else self.value
        return judged is not None and self.target.met_by(judged)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as `--json` prints them."""
        return {
            "benchmark": self.benchmark,
            "figure": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference._asdict() if self.reference else None,
            "ratio": self.ratio,
            "target": str(self.target) if self.target else None,
            "met": self.met,
            "noise": self.noise,
        }


@dataclass(slots=True)
class Report:
    """What one benchmark says: its figures, what must be known to read them, tables beside them."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that are no figures, such as the stages of a job."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-th quantile, the nearest value at or above it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def paired(
    benchmark: str,
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    against: str,
    target: Target,
) -> Figure:
    """Return medians of interleaved repeats with the median of the pairs' ratios: the machine drifts."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = f"ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
    reference = Reference(against, statistics.median(theirs))
    middle = statistics.median(ratios)
    value = statistics.median(ours)
    return Figure(benchmark, name, value, unit, reference, target, noise=spread, given_ratio=middle)
