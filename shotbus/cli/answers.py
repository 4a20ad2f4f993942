"""How an answer is printed: its numbers, how it was made, what it cost. No I/O but standard output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from shotbus.cli.common import Options, emit, printable
from shotbus.producers.result import JobResult
from shotbus.schemas.errors import fail
from shotbus.schemas.pub import Estimates


def print_result(options: Options, answer: JobResult, row: int = 0, late: JobResult | None = None) -> None:
    """Print an answer, of its text one ``row``, and that something came ``late``.

    Raises ShotbusError (SB-2002) for a row that it does not have.
    """
    if not 0 <= row < answer.points:
        raise fail("SB-2002", "--row", limit=f"0 to {answer.points - 1}", actual=row)
    data: dict[str, Any] = {
        "job_id": answer.job_id,
        "outcome": answer.outcome,
        "points": answer.points,
        **in_json(answer.made()),
        "came_late": None if late is None else in_json(late.made()),
        "provenance": answer.provenance,
        "metadata": answer.metadata,
        "spans": [span._asdict() for span in answer.spans],
    }
    lines = [f"{answer.job_id}  {answer.outcome} on {answer.executed_on}", *making_lines(answer.made())]
    if late is not None:
        lines.append(f"came late: {_brief(late.made())}; --late prints it")
    if answer.points > 1:
        lines.append(f"row {row} of 0 to {answer.points - 1}: --row shows another, --json all")
    numbers, text = _numbers(answer, row)
    emit(options, data | numbers, "\n".join([*lines, *text]))


def in_json(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an answer was made, for JSON, which has no number for what is infinitely far apart."""
    apart = made["deviation"]
    return {**made, "deviation": "inf" if apart == math.inf else apart}


def making_lines(made: Mapping[str, Any]) -> Iterator[str]:
    """Yield how an answer was made, unless it is a plain run, and what it cost, unless nothing."""
    if made["late"] or made["fallback_from"] or made["deviation"] is not None or made["answered_by"] != "run":
        yield f"answered by: {_making(made)}"
    if made["cost"] > 0:
        yield _cost(made)


def in_brief(made: Mapping[str, Any]) -> str:
    """Return how an answer, or a failure, was made and what it cost, in a line."""
    where = f" on {made['executed_on'] or made['pool']}" if made["executed_on"] or made["pool"] else ""
    came = "late" if made["late"] else made["outcome"]
    return printable(f"{came}: {_making({**made, 'late': False})}{where}, {_cost(made)}")


def _cost(made: Mapping[str, Any]) -> str:
    return f"cost {made['cost']:.4g}, {made['backend_seconds']:.3g} backend seconds"


def _making(made: Mapping[str, Any]) -> str:
    notes = ["after the job had been answered"] if made["late"] else []
    notes += [f"from {made['fallback_from']}"] if made["fallback_from"] else []
    notes += [f"{made['age']:.1f} s old"] if made["age"] else []
    words = made["answered_by"] + (f" ({', '.join(notes)})" if notes else "")
    return printable(words + _apart(made))


def _brief(made: Mapping[str, Any]) -> str:
    return printable(f"{made['answered_by']} on {made['executed_on']}{_apart(made)}")


def _apart(made: Mapping[str, Any]) -> str:
    return "" if made["deviation"] is None else f", deviation {made['deviation']:.3g}"


def _numbers(answer: JobResult, row: int) -> tuple[dict[str, Any], list[str]]:
    """Return an answer's numbers, all for JSON and one row as lines; none of the noop pool."""
    if isinstance(answer.payload, Estimates):
        pairs = zip(answer.evs[row], answer.stds[row], strict=True)
        lines = [f"observable {k}: {ev:.9f} ± {std:.2g}" for k, (ev, std) in enumerate(pairs)]
        return {"evs": answer.evs, "stds": answer.stds}, lines
    if answer.payload is None:
        return {}, []
    counts = [answer.counts(point) for point in range(answer.points)]
    return {"counts": counts}, histogram(counts[row])


def histogram(counts: dict[str, int], *, width: int = 40, most: int = 32) -> list[str]:
    """Return bars of the commonest outcomes as lines."""
    total, top = sum(counts.values()), max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{bits}  {'█' * max(1, width * n // top)} {n} ({n / total:.1%})" for bits, n in ranked[:most]]
    return lines + ([f"… and {len(ranked) - most} more outcomes"] if len(ranked) > most else [])
