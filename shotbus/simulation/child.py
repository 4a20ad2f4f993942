"""What stands in for a worker's process in simulated time: it takes a while, fails, dies or hangs. Pure."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from random import Random
from typing import Any

from shotbus.broker.children.process import ChildDiedError, ChildTimeoutError
from shotbus.broker.clock import Clock
from shotbus.broker.dispatcher.bundles import CANCEL, RUN
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem
from shotbus.simulation.features import PER_SHOT
from shotbus.simulation.provider import NoAnswerError, Provider, ThrottledError
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    Batch,
    BatchItem,
    ItemResult,
    error_class_of,
)
from shotbus.workers.late import late_among, not_begun, part
from shotbus.workers.outcomes import Claim, item_fields
from shotbus.workers.process import Child, Fetch, RunReport
from shotbus.workers.running import ASKING

#: No call of the provider takes longer, in seconds.
_LONGEST_CALL = 0.2
#: A request with this option kills every process that runs it.
POISON = {"fault": "crash"}


@dataclass(frozen=True, slots=True)
class Temper:
    """How a simulated process behaves: probabilities a bundle or a job, ``seconds`` a point on average."""

    seconds: float = 0.01
    dies: float = 0.0
    hangs: float = 0.0
    fails: float = 0.0
    rejects: float = 0.0


class SimulatedAdapter:
    """What a simulated pool declares; its children run and cancel nothing through it."""

    def __init__(self, pool: str, *, paid: bool) -> None:
        self._capabilities = AdapterCapabilities(
            pool=pool,
            kind="simulator",
            modes=("sample", "estimate"),
            max_qubits=100,
            inline=False,
            paid=paid,
            executed_on=f"simulated.{pool}",
        )

    @property
    def capabilities(self) -> AdapterCapabilities:
        """What the pool is."""
        return self._capabilities

    def run(self, batch: Batch) -> list[ItemResult]:
        """Answer at once; nobody asks."""
        return [ItemResult() for _ in batch.items]

    def cancel(self, tokens: AbstractSet[str]) -> None:
        """Take no note: the children hear of it themselves."""
        del tokens

    def provenance(self, batch: Batch) -> dict[str, Any]:
        """Return nothing worth knowing."""
        del batch
        return {"backend": self._capabilities.executed_on}


class SimulatedChild(Child):
    """Runs bundles like :class:`Child`, without a process."""

    def __init__(self, random: Random, temper: Temper, clock: Clock, bites: Counter[str]) -> None:
        super().__init__("noop", memory_bytes=0, start_seconds=1.0)
        self._random, self._temper, self._clock, self._bites = random, temper, clock, bites
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
        items = [_item(one) for one in fields["items"]]
        results = await self._timely(fields, items, seconds)
        claim = Claim(fields["bundle_id"], fields["pool"], head["worker"], head["lease_id"])
        told = [item_fields(item, result) for item, result in zip(items, results, strict=True)]
        if fields["purpose"] in ASKING:
            told = [{**one, "found": self._found(i)} for one, i in zip(told, fields["items"], strict=True)]
        # The lease is part of it, so that a result tells whose report it is.
        about = {"backend": f"simulated.{fields['pool']}", "kind": "simulator", "host": head["worker"]}
        told_of = {**about, "versions": {"shotbus": "simulated"}, "lease": head["lease_id"]}
        provenance = json.dumps(told_of, separators=(",", ":")).encode()
        records = claim.finished(
            self._clock.wall_ms() * 1000,
            told,
            executed_on=f"simulated.{fields['pool']}",
            provenance=provenance,
        )
        late = late_among(results)
        return RunReport(records, sum(bool(result.error_class) for result in results) - late, late=late)

    def _found(self, item: Mapping[str, Any]) -> str:
        """Return what a provider says of an item; there is none."""
        del item
        return ""

    async def kill(self) -> None:
        """Forget the process."""
        self._alive = False

    async def _timely(
        self, bundle: Mapping[str, Any], items: Sequence[BatchItem], seconds: float
    ) -> list[ItemResult]:
        """Have what is not past its deadline done, and return what became of each item."""
        now_ms = self._clock.wall_ms()
        timely, late = part(items, now_ms) if bundle["purpose"] == RUN else (items, ())
        results = {one.job_id: not_begun(one, now_ms) for one in late}
        if late:
            self._bites["deadline_over"] += len(late)
        if timely:
            kept = [one for one in bundle["items"] if one["job_id"] not in results]
            done = await self._results({**bundle, "items": kept}, timely, seconds)
            results |= {item.job_id: result for item, result in zip(timely, done, strict=True)}
        return [results[item.job_id] for item in items]

    async def _results(
        self, bundle: Mapping[str, Any], items: Sequence[BatchItem], seconds: float
    ) -> list[ItemResult]:
        """Take the time that the points need, and return what became of each item."""
        per_point = self._temper.seconds * self._random.uniform(0.5, 1.5)
        await asyncio.sleep(per_point * sum(item.request["points"] for item in items))
        await self._maybe_end(items, seconds)
        results = [self._result(item) for item in items]
        for item, result in zip(items, results, strict=True):
            if bundle["purpose"] == RUN:
                # One that failed has taken its time, too.
                result.timings.add("execute", per_point * item.request["points"])
        return results

    async def _maybe_end(self, items: Sequence[BatchItem], seconds: float) -> None:
        fate = self._random.random()
        if any(item.request["options"] == POISON for item in items):
            self._bites["poison"] += 1
            self._alive = False
            raise ChildDiedError("signal 11")
        if fate < self._temper.dies:
            self._bites["child_dies"] += 1
            self._alive = False
            raise ChildDiedError("signal 9")
        if fate < self._temper.dies + self._temper.hangs:
            self._bites["child_hangs"] += 1
            await asyncio.sleep(seconds)
            self._alive = False
            raise ChildTimeoutError(f"no answer within {seconds:g} s")

    def _result(self, item: BatchItem) -> ItemResult:
        fate = self._random.random()
        if fate < self._temper.fails:
            self._bites["attempt_fails"] += 1
            return _failed(Problem("SB-5001", "$", detail="simulated"))
        if fate < self._temper.fails + self._temper.rejects:
            self._bites["backend_rejects"] += 1
            return _failed(Problem("SB-1301", "$.bindings", detail="simulated"))
        return ItemResult(shots=_shots(item))


class Leases:
    """Draws a worker's lease ids and remembers when: a lease is no older than its id."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._drawn: dict[str, float] = {}

    def draw(self, size: int) -> bytes:
        """Return random bytes."""
        drawn = self._random.randbytes(size)
        self._drawn[drawn.hex()] = asyncio.get_running_loop().time()
        return drawn

    def seconds_left(self, lease_id: str, lease_ms: int) -> float:
        """Return for how long a lease is certainly held, were it never renewed."""
        return self._drawn[lease_id] + lease_ms / 1000 - asyncio.get_running_loop().time()


class PaidChild(SimulatedChild):
    """Submits to a provider, one item after the other, and waits for the results together.

    Nothing is submitted on a lease that may have lapsed: by then the provider may have been asked, said that
    it never had the job, and been given it by another worker.
    """

    def __init__(
        self,
        random: Random,
        temper: Temper,
        clock: Clock,
        bites: Counter[str],
        *,
        provider: Provider,
        leases: Leases,
    ) -> None:
        super().__init__(random, temper, clock, bites)
        self._provider, self._leases = provider, leases
        self._lease = ("", 0)
        self._tokens: Mapping[str, str] = {}
        self._unwanted: set[str] = set()
        self._cancelled: set[str] = set()

    def call_off(self, bundle_id: str, jobs: Collection[str]) -> None:
        """Have the provider cancel what it has of these jobs, and hand in no others of them."""
        del bundle_id
        self._unwanted.update(jobs)
        self._cancel([self._tokens[job] for job in jobs if job in self._tokens])

    def _cancel(self, tokens: Sequence[str]) -> None:
        self._cancelled.update(token for token in tokens if self._provider.cancel(token))

    async def run(self, head: Mapping[str, Any], bundle: bytes, fetch: Fetch, *, seconds: float) -> RunReport:
        """Run like any child, on a lease that is watched."""
        fields = decode(bundle, "work_bundle")[1]
        self._lease = (head["lease_id"], fields["lease_ms"])
        self._tokens = {item["job_id"]: self.token(item) for item in fields["items"]}
        try:
            return await super().run(head, bundle, fetch, seconds=seconds)
        finally:
            self._tokens, self._unwanted, self._cancelled = {}, set(), set()

    async def _results(
        self, bundle: Mapping[str, Any], items: Sequence[BatchItem], seconds: float
    ) -> list[ItemResult]:
        tokens = [self.token(one) for one in bundle["items"]]
        if bundle["purpose"] in ASKING:
            self._bites["look_up"] += len(items)
            await asyncio.sleep(self._random.uniform(0.01, 0.1))
            if bundle["purpose"] == CANCEL:
                self._cancel(tokens)
            return [self._answer(item, token) for item, token in zip(items, tokens, strict=True)]
        results = [await self._submit(item, token) for item, token in zip(items, tokens, strict=True)]
        for token, result in zip(tokens, results, strict=True):
            if not result.error_class or result.provider_job_id:
                await self._provider.wait(token)
        await self._maybe_end(items, seconds)
        ends = zip(tokens, results, strict=True)
        return [_revoked(token) if token in self._cancelled else result for token, result in ends]

    def _answer(self, item: BatchItem, token: str) -> ItemResult:
        """Return what a submission that was accepted comes to."""
        took = self._provider.took(token)
        if not self._provider.spoilt(token):
            # The broker reckons what it costs by itself.
            return ItemResult(shots=_shots(item), backend_seconds=took)
        self._bites["spoilt"] += 1
        problem = Problem("SB-5010", "$", detail="simulated")
        cost = self._provider.bill(token)
        return ItemResult("UNSTABLE", (problem,), cost=cost, backend_seconds=took, provider_job_id=token)

    def may_submit(self) -> bool:
        """Tell whether a submission would be over before the lease is."""
        return self._leases.seconds_left(*self._lease) > _LONGEST_CALL

    def _found(self, item: Mapping[str, Any]) -> str:
        return self._provider.find(self.token(item))

    @staticmethod
    def token(item: Mapping[str, Any]) -> str:
        """Return the job's submission token: the same for all attempts until one is proven absent."""
        token: str = item.get("token", "")
        return token or item["job_id"]

    async def _submit(self, item: BatchItem, token: str) -> ItemResult:
        tenant = item.request["tenant"]
        if part([item], now_ms := self._clock.wall_ms())[1]:
            self._bites["deadline_over"] += 1
            return not_begun(item, now_ms)
        if item.job_id in self._unwanted:
            return _revoked("")
        if not self.may_submit():
            self._bites["lease_over"] += 1
            return ItemResult("NOT_STARTED", (Problem("SB-5006", "$", detail="its lease was over"),))
        try:
            await self._provider.submit(token, item.job_id, item.attempt, tenant=tenant, cost=_price(item))
        except ThrottledError as error:
            problem = Problem("SB-5001", "$", detail="throttled")
            return ItemResult("THROTTLED", (problem,), retry_after_ms=error.retry_after_ms)
        except NoAnswerError:
            return ItemResult("UNKNOWN_OUTCOME", (Problem("SB-5001", "$", detail="no answer"),))
        finally:
            if item.job_id in self._unwanted:
                # It was called off while the submission was on its way.
                self._cancel([token])
        return _revoked(token) if token in self._cancelled else self._answer(item, token)


def _item(fields: Mapping[str, Any]) -> BatchItem:
    job_id, attempt, seed = fields["job_id"], fields["attempt"], fields["seed"]
    return BatchItem(job_id, attempt, seed, fields["request"], deadline_ms=fields["deadline_ms"])


def _shots(item: BatchItem) -> int:
    shots: int = item.request["shots"] * item.request["points"]
    return shots


def _price(item: BatchItem) -> float:
    """Return what the provider takes for a job's shots, in the units of the features' budgets."""
    return PER_SHOT * _shots(item)


def _revoked(token: str) -> ItemResult:
    return ItemResult("REVOKED", (Problem("SB-4002", "$", detail="simulated"),), provider_job_id=token)


def _failed(problem: Problem) -> ItemResult:
    return ItemResult(error_class_of([problem]), (problem,))
