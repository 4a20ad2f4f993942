"""What a job costs: an estimate before it runs, the bill after. Pure, integer micro-units, rounded up.

The formula, per job: ``per_shot * shots + per_task * tasks + per_second * seconds + per_session * sessions``,
but at least ``minimum``. Prices are taken as the decimals that were written, not as binary fractions.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from shotbus.broker.config import PriceConfig

MICRO = 1_000_000
_FREE = PriceConfig()


class Cost(NamedTuple):
    """What a job takes: money in micro-units of the currency, backend time in microseconds, shots."""

    money: int = 0
    backend_us: int = 0
    shots: int = 0


class Usage(NamedTuple):
    """What is billed: all shots of all points, tasks, backend seconds, sessions that were opened."""

    shots: int = 0
    tasks: int = 1
    seconds: float = 0.0
    sessions: int = 0


class Term(NamedTuple):
    """One line of a bill; ``money`` in micro-units."""

    name: str
    quantity: str
    price: str
    money: int


def micro(value: float) -> int:
    """Return a decimal number in micro-units, rounded up. Raises ValueError for what is no finite number."""
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return int((number * MICRO).to_integral_value(ROUND_CEILING))


def estimate(
    price: PriceConfig,
    *,
    points: int,
    shots: int,
    seconds: float,
    circuits: int,
    sessions: int,
) -> Cost:
    """Return what a job costs that takes so long.

    Args:
        price: of the pool.
        points: rows of the binding matrix.
        shots: of each point and circuit; 0 is exact mode, which takes none.
        seconds: backend time of the whole job.
        circuits: measured circuits a point, at most one an observable.
        sessions: 1 when the job opens its session on this pool.

    Raises:
        ValueError: for a negative or not finite number.

    """
    return actual(price, Usage(shots=points * shots * circuits, seconds=seconds, sessions=sessions))


def actual(price: PriceConfig, usage: Usage, *, billed: float | None = None) -> Cost:
    """Return what a job has cost; ``billed`` is what the provider says, in currency units, and wins.

    Raises ValueError for a negative or not finite number, as a provider may send one.
    """
    if min(usage) < 0 or (billed is not None and billed < 0):
        raise ValueError(f"usage cannot be negative: {usage}")
    backend_us = micro(usage.seconds)
    if billed is not None:
        return Cost(micro(billed), backend_us, usage.shots)
    money = 0 if price == _FREE else sum(term.money for term in terms(price, usage))
    return Cost(money, backend_us, usage.shots)


def terms(price: PriceConfig, usage: Usage) -> list[Term]:
    """Return the bill line by line, without lines of zero; the last one fills up to the minimum charge."""
    lines = [
        _line("shots", usage.shots, price.per_shot),
        _line("tasks", usage.tasks, price.per_task),
        _line("seconds", usage.seconds, price.per_second),
        _line("sessions", usage.sessions, price.per_session),
    ]
    missing = micro(price.minimum) - sum(line.money for line in lines)
    lines.append(Term("minimum charge", "1", str(price.minimum), max(0, missing)))
    return [line for line in lines if line.money]


def _line(name: str, quantity: float, price: float) -> Term:
    money = (Decimal(str(quantity)) * Decimal(str(price)) * MICRO).to_integral_value(ROUND_CEILING)
    return Term(name, str(quantity), str(price), int(money))
