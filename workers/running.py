"""Running an adapter safely and describing the run; in children and inline alike. No I/O of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from platform import node, python_version
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.bundles import CANCEL, LOOK_UP, RUN
from shotbus.schemas.codec import Fields
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.workers.adapters.base import (
    Adapter,
    Batch,
    BatchItem,
    CanCancel,
    CanCompile,
    CanLookUp,
    ItemResult,
    failed,
    internal,
)
from shotbus.workers.backend import calibration_of, steadied
from shotbus.workers.late import not_begun, part

#: Versions of what our own code does before and after a backend runs: raised where the numbers change by it.
#: ``pre``: from text and bindings to what runs, measurement bases and seeds included; ``post``: from raw
#: outcomes to counts, expectation values and their errors.
PROCESSING: Mapping[str, int] = {"pre": 1, "post": 1}
#: Purposes of bundles that submit nothing.
ASKING = frozenset({LOOK_UP, CANCEL})


class Ran(NamedTuple):
    """Items that ran together, one result each, and what describes the run of them all.

    ``calibrations`` are the ids of all that the description names; ``calibration_id`` is that of the run.
    """

    items: Sequence[BatchItem]
    results: list[ItemResult]
    provenance: bytes
    calibration_id: str
    calibrations: Sequence[str] = ()


def run_bundle(
    adapter: Adapter,
    purpose: str,
    items: Sequence[BatchItem],
    circuits: Mapping[str, Fields],
    wall_ms: Callable[[], int],
) -> Iterator[Ran]:
    """Run the items of a bundle, or look them up, as ``purpose`` says; ``wall_ms`` is the wall clock.

    What is to run and is past its deadline when its turn has come is not begun (SB-4003).

    Those for which something else replaces what their requests ask run apart, because the description of
    a run is that of every job in it: it must name what applied to this job, and nothing of others. What
    succeeded while the backend was calibrated anew is UNSTABLE (SB-5010). A purpose of later versions is
    not taken for another: nothing runs (SB-5006).
    """
    work = _WORK.get(purpose) or partial(_leave, purpose)
    for group in _groups(items):
        now_ms = wall_ms()
        timely, late = part(group, now_ms) if purpose == RUN else (group, ())
        if late:
            yield Ran(late, [not_begun(item, now_ms) for item in late], b"", "")
        if timely:
            batch = Batch(timely, circuits)
            judged = purpose not in ASKING and not adapter.capabilities.dated
            before = calibration_of(adapter) if judged else ""
            results = steadied(adapter, before, work(adapter, batch))
            # What answers within microseconds has no times worth a clock.
            ran_ms = None if adapter.capabilities.inline else (now_ms, wall_ms())
            yield Ran(timely, results, *_described(adapter, batch, ran_ms))


def _groups(items: Sequence[BatchItem]) -> Sequence[Sequence[BatchItem]]:
    """Part the items by what is replaced for them; almost always they are one group."""
    if not any(item.overrides or item.shots >= 0 for item in items):
        return [items]
    groups: dict[str, list[BatchItem]] = {}
    for item in items:
        groups.setdefault(json.dumps(item.replaced, sort_keys=True), []).append(item)
    return list(groups.values())


def run_safely(adapter: Adapter, batch: Batch) -> list[ItemResult]:
    """Run a batch; a defect in the adapter becomes an item's result instead of a dead process.

    Which item brought the defect out is found by running each alone, so that its neighbours succeed. Where
    a run costs, nothing runs twice: nobody knows what was submitted before the defect.
    """
    if adapter.capabilities.paid:
        return _checked(adapter.run, batch, _not_known)
    results = _checked(adapter.run, batch, internal if len(batch.items) == 1 else None)
    return results or [run_safely(adapter, replace(batch, items=[item]))[0] for item in batch.items]


def look_up_safely(adapter: Adapter, batch: Batch) -> list[ItemResult]:
    """Ask an adapter what became of a batch; one that cannot be asked answers by what it is."""
    if isinstance(adapter, CanLookUp):
        return _checked(adapter.look_up, batch, lambda _: ItemResult(found="unknown"))
    return [ItemResult(found="unknown" if adapter.capabilities.paid else "absent") for _ in batch.items]


def cancel_safely(adapter: Adapter, batch: Batch) -> list[ItemResult]:
    """Look a batch up that nobody wants; where the adapter can, its provider is asked to cancel it."""
    if not isinstance(adapter, CanCancel):
        return look_up_safely(adapter, batch)
    adapter.cancel({item.token for item in batch.items})
    try:
        return look_up_safely(adapter, batch)
    finally:
        adapter.cancel(frozenset())


def compile_safely(adapter: Adapter, batch: Batch) -> int:
    """Compile what a batch needs and run nothing; returns how many items could not be compiled.

    Why they could not is told when they run: nobody waits for an answer now.
    """
    if not isinstance(adapter, CanCompile):
        return len(batch.items)
    try:
        return sum(bool(one.problems) for one in adapter.compile(batch))
    except Exception:  # noqa: BLE001 (whatever the adapter raises is its own defect, and comes again)
        return len(batch.items)


def _leave(purpose: str, adapter: Adapter, batch: Batch) -> list[ItemResult]:
    del adapter
    known = ", ".join(_WORK)
    return [failed(fail("SB-5006", "$.purpose", limit=known, actual=purpose)) for _ in batch.items]


#: What is done with a batch, by the purpose of its bundle.
_WORK: Mapping[str, Callable[[Adapter, Batch], list[ItemResult]]] = {
    RUN: run_safely,
    LOOK_UP: look_up_safely,
    CANCEL: cancel_safely,
}


def _checked(
    work: Callable[[Batch], list[ItemResult]],
    batch: Batch,
    otherwise: Callable[[BaseException], ItemResult] | None,
) -> list[ItemResult]:
    """Return one result an item; after a defect those that ``otherwise`` makes, without it none."""
    try:
        results = work(batch)
        assert len(results) == len(batch.items), "one result an item"
    except Exception as error:  # noqa: BLE001 (whatever the adapter raises is its own defect)
        return [otherwise(error) for _ in batch.items] if otherwise else []
    return results


def _not_known(error: BaseException) -> ItemResult:
    return failed(fail("SB-5007", "$", detail=type(error).__name__))


@cache
def _own_versions() -> dict[str, str]:
    return {"shotbus": version("shotbus"), "python": python_version()}


def _templates(items: Sequence[BatchItem]) -> dict[str, str]:
    """Return the circuits that were asked for by a template's name, by that."""
    found: dict[str, str] = {}
    for item in items:
        try:
            asked = item.request
        except ShotbusError:  # why it cannot be read is its result
            continue
        if asked["template"]:
            found[asked["template"]] = asked["circuit_id"]
    return found


@cache
def _host() -> str:
    return node()


def _described(
    adapter: Adapter, batch: Batch, ran_ms: tuple[int, int] | None
) -> tuple[bytes, str, Sequence[str]]:
    """Return the JSON bytes that say how the batch was run, and the calibration it ran under.

    ``ran_ms``: when it began and ended, wall time.
    """
    facts: dict[str, Any] = adapter.provenance(batch)
    versions = {**_own_versions(), **facts.pop("versions", {})}
    told = {"kind": adapter.capabilities.kind, "host": _host(), "versions": versions, **facts}
    if ran_ms is not None:
        told |= {"processing": PROCESSING, "ran_ms": ran_ms}
    if batch.items and (replaced := batch.items[0].replaced):
        told["overrides"] = replaced
    if adapter.capabilities.needs_circuits and (templates := _templates(batch.items)):
        told["templates"] = templates
    calibration = facts.get("calibration_id", "")
    named = facts.get("calibrations", [calibration] if calibration else ())
    return json.dumps(told, separators=(",", ":")).encode(), calibration, named
