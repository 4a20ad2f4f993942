"""Holds answers against the quality gates of their jobs: one that fails is none. No I/O.

It comes last, after earlier shots were added: the gate is for what would be the answer. What the attempt cost
stays with it.
"""

from __future__ import annotations

from dataclasses import replace

from shotbus.broker.quality import gates_of, quality_of
from shotbus.broker.quality_judge import failures
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.workers.adapters.base import BatchItem, ItemResult, error_class_of, internal
from shotbus.workers.running import Ran


def gated(ran: Ran) -> Ran:
    """Return a run whose answers that fail a gate are failures (SB-5011, UNSTABLE)."""
    changed: dict[int, ItemResult] = {}
    for place, (item, result) in enumerate(zip(ran.items, ran.results, strict=True)):
        # Pools that compute nothing have nothing to look at, and are counted in microseconds.
        if result.payload and not result.error_class and (problems := _problems(item, result)):
            changed[place] = replace(
                result, error_class=error_class_of(problems), problems=tuple(problems), payload=b""
            )
    if not changed:
        return ran
    return ran._replace(results=[changed.get(place, result) for place, result in enumerate(ran.results)])


def _problems(item: BatchItem, result: ItemResult) -> list[Problem]:
    if not quality_of(item.request["options"]):
        return []
    gates, problems = gates_of(item.request["options"])
    try:
        return problems or failures(gates, result.payload)
    except ShotbusError as error:
        return list(error.problems)
    except Exception as error:  # noqa: BLE001 (arrays that do not fit together are the adapter's own defect)
        return list(internal(error).problems)
