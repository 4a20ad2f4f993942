"""What stands in for a worker's process in simulated time: it takes a while, fails, dies or hangs. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from shotbus.broker.children.process import ChildDiedError, ChildTimeoutError
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem
from shotbus.simulation.loop import EPOCH_MS
from shotbus.workers.adapters.base import BatchItem, ItemResult, error_class_of
from shotbus.workers.outcomes import Claim, item_fields
from shotbus.workers.process import Child, Fetch, RunReport


@dataclass(frozen=True, slots=True)
class Temper:
    """How a simulated process behaves: probabilities a bundle or a job, ``seconds`` a point on average."""

    seconds: float = 0.01
    dies: float = 0.0
    hangs: float = 0.0
    fails: float = 0.0
    rejects: float = 0.0


class SimulatedChild(Child):
    """Runs bundles like :class:`Child`, without a process."""

    def __init__(self, random: Random, temper: Temper) -> None:
        super().__init__("noop", memory_bytes=0, start_seconds=1.0)
        self._random, self._temper = random, temper
        self._alive = False

    @property
    def pid(self) -> int | None:
        """There is no process."""
        return None

    async def run(self, head: Mapping[str, Any], bundle: bytes, fetch: Fetch, *, seconds: float) -> RunReport:
        """Take simulated time, then answer, die or hang; see :meth:`Child.run`."""
        del fetch
        if not self._alive:
            self.starts, self.runs, self._alive = self.starts + 1, 0, True
            await asyncio.sleep(0.2)
        self.runs += 1
        fields = decode(bundle, "work_bundle")[1]
        items = [BatchItem(i["job_id"], i["attempt"], i["seed"], i["request"]) for i in fields["items"]]
        points = sum(item.request["points"] for item in items)
        await asyncio.sleep(points * self._temper.seconds * self._random.uniform(0.5, 1.5))
        await self._maybe_end(seconds)
        results = [self._result(item) for item in items]
        claim = Claim(fields["bundle_id"], fields["pool"], head["worker"], head["lease_id"])
        at_us = int((EPOCH_MS / 1e3 + asyncio.get_running_loop().time()) * 1e6)
        told = [item_fields(item, result) for item, result in zip(items, results, strict=True)]
        records = claim.finished(at_us, told, executed_on="simulated", provenance=b"{}")
        return RunReport(records, sum(bool(result.error_class) for result in results))

    async def kill(self) -> None:
        """Forget the process."""
        self._alive = False

    async def _maybe_end(self, seconds: float) -> None:
        fate = self._random.random()
        if fate < self._temper.dies:
            self._alive = False
            raise ChildDiedError("signal 9")
        if fate < self._temper.dies + self._temper.hangs:
            await asyncio.sleep(seconds)
            self._alive = False
            raise ChildTimeoutError(f"no answer within {seconds:g} s")

    def _result(self, item: BatchItem) -> ItemResult:
        fate = self._random.random()
        if fate < self._temper.fails:
            return _failed(Problem("SB-5001", "$", detail="simulated"))
        if fate < self._temper.fails + self._temper.rejects:
            return _failed(Problem("SB-1301", "$.bindings", detail="simulated"))
        return ItemResult(shots=item.request["shots"] * item.request["points"])


def _failed(problem: Problem) -> ItemResult:
    return ItemResult(error_class_of([problem]), (problem,))
