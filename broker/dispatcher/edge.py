"""The dispatcher's edge: records to events, commands to records, lookups. All I/O of a shard is here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shotbus.broker.bus.base import Bus, Outgoing, Record, TopicPartition
from shotbus.broker.clock import Clock
from shotbus.broker.config import Config
from shotbus.broker.deadletters import PREFIX, REDRIVE_COUNT, dead_letter, redriven
from shotbus.broker.dispatcher.bodies import Bodies
from shotbus.broker.dispatcher.bundles import COMPILE
from shotbus.broker.dispatcher.counters import Counters
from shotbus.broker.dispatcher.earlier import read_result
from shotbus.broker.dispatcher.headers import check_headers
from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.dispatcher.keys import Targets
from shotbus.broker.dispatcher.lookups import Lookups, recalls_of
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import (
    Bury,
    Commanded,
    Credit,
    Dispatch,
    Forward,
    Inspect,
    Learnt,
    Placed,
    Prepare,
    Recall,
    Recalled,
    Relay,
    Reported,
    Revoke,
    Submitted,
    Told,
)
from shotbus.broker.dispatcher.window import Answer
from shotbus.broker.inspection.facts import facts_of
from shotbus.broker.inspection.service import lookup
from shotbus.broker.machine import Emit, Input, Now
from shotbus.broker.stages import Timings
from shotbus.broker.store.base import Store
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, decode_untrusted, encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.payload import payload_hash

#: Requests that are read again in one micro-batch when their circuit has been inspected.
_AT_ONCE = 256
_ERRANDS = (Inspect, Recall)
#: Has a circuit inspected for a shard; see :meth:`InspectionDesk.ask`.
Ask = Callable[[str, int], bool]
FreeCredits = Callable[[], Mapping[str, Sequence[Credit]]]
Calibration = Callable[[str], str]
#: Has an earlier result looked for; see :meth:`RecallDesk.ask`.
LookFor = Callable[[str, str, int], None]
#: Which cache an answer came from, by outcome and by what its result says; the result cache is the rest.
_CACHES: Mapping[tuple[str, str], str] = {
    ("served_from_cache", "shared"): "shared",
    ("served_from_cache", "top_up"): "top_up",
    ("served_from_cache", "tolerance"): "tolerance",
    ("succeeded", "top_up"): "top_up",
    ("succeeded_by_fallback", "cache"): "history",
}
#: What a machine raises where it would break a promise, and which; its record is set aside instead.
_DEFECTS = ((b"IllegalTransitionError", "I4"), (b"AssertionError", "I1"))
_NO_PRIORS: Mapping[str, bytes] = {}


class DispatcherEdge:
    """Edge of one dispatcher shard.

    Args:
        shard: its number.
        bus: started bus.
        store: result cache; may be dead.
        topics: names and partition count.
        config: everything that can be configured.
        free_credits: called at the end of a micro-batch; see :class:`CreditBook`.
        metrics: of this process.
        clock: wall time for the policy.
        adverts: returns what the workers that are alive advertise.
        answered: told of bundles that came back, by pool.
        ask: has a circuit inspected for a shard; without it none is inspected.
        recall: has an earlier result looked for; without it none is.
        calibration: says which calibration of its backend a pool has, empty for none.

    """

    def __init__(
        self,
        shard: int,
        *,
        bus: Bus,
        store: Store,
        topics: Topics,
        config: Config,
        free_credits: FreeCredits,
        metrics: Metrics,
        clock: Clock,
        adverts: Callable[[], Sequence[Mapping[str, Any]] | None] = lambda: None,
        answered: Callable[[str, Answer], None] = lambda *_: None,
        ask: Ask | None = None,
        recall: LookFor | None = None,
        calibration: Calibration = lambda _: "",
    ) -> None:
        self._clock, self._ask, self._recall = clock, ask, recall
        self._adverts, self._answered = adverts, answered
        self._shard, self._bus, self._store, self._topics, self._config = shard, bus, store, topics, config
        self._free_credits, self._metrics = free_credits, metrics
        self._machine = Dispatcher(shard, topics.partitions, config)
        self._lookups = Lookups(store, metrics, Targets(config, calibration), self._remembers_all)
        self._recalls: Mapping[str, str] = {}
        self._requests = {topics.requests(name): name for name in config.classes}
        self._outcomes, self._control = topics.name("outcomes"), topics.name("control")
        self._grants = topics.name("grants")
        self._bodies = Bodies(bus, [TopicPartition(topic, shard) for topic in self._requests])

    @property
    def machine(self) -> Dispatcher:
        """The pure half."""
        return self._machine

    @property
    def inputs(self) -> Sequence[Input]:
        """Control before outcomes before requests; these are kept as long as results, which name them."""
        keep_ms = self._topics.retention_ms
        requests = [
            Input(TopicPartition(topic, self._shard), 2 + rank, trimmed=True, keep_ms=keep_ms)
            for rank, topic in enumerate(self._requests)
        ]
        control = Input(TopicPartition(self._control, self._shard), 0, trimmed=True)
        if self._config.budgets or self._machine.shard.running.shared:
            requests.insert(0, Input(TopicPartition(self._grants, self._shard), 1, trimmed=True))
        return [control, Input(TopicPartition(self._outcomes, self._shard), 1, trimmed=True), *requests]

    @property
    def ledger(self) -> TopicPartition:
        """Partition of ``jobs``."""
        return TopicPartition(self._topics.name("jobs"), self._shard)

    def decode(self, record: Record) -> Any:
        """Return the event. Raises ShotbusError for bytes that cannot be one."""
        if record.topic in self._requests:
            return self._submitted(record)
        if record.topic == self._outcomes:
            name, fields = decode(record.value, "outcome", "circuit_facts", "recalled")
            if name == "recalled":
                return Recalled(fields["job_id"], read_result(fields["found"] or None))
            return Reported(fields) if name == "outcome" else Learnt(facts_of(fields))
        if record.topic == self._grants:
            name, fields = decode(record.value, "grant", "place")
            return Told(fields) if name == "grant" else Placed(fields)
        return Commanded(decode_untrusted(record.value, "control"))

    def _submitted(self, record: Record) -> Submitted:
        limit = self._config.limits.max_request_bytes
        request = decode_untrusted(record.value, "circuit_request", max_bytes=limit)
        # What the record says of its own payload is not believed: an idempotency key rests on it.
        request["payload_hash"] = payload_hash(request)
        headers = dict(record.headers)
        usual = self._machine.shard.router.usual(request)
        default = request["backend"] or self._machine.shard.config.routing.default
        return Submitted(
            request,
            self._bodies.keep(record),
            len(record.value or b""),
            record.timestamp_ms,
            headers.get("traceparent", b"").decode("ascii", "replace")[:64],
            "relayed" in headers,
            usual.pool if usual is not None else default,
            contradictions=check_headers(record.headers, request),
            decision=usual,
            redriven=redriven(headers) if REDRIVE_COUNT in headers else None,
        )

    def must_catch_up(self, events: Sequence[Any]) -> bool:
        """Tell whether control must be read to its end first: never, early cancels are remembered."""
        del events
        return False

    async def attach(self, events: Sequence[Any]) -> Sequence[Any]:
        """Add what decisions need: facts of circuits, the policy's word, cached results; one call each."""
        if not any(isinstance(event, Submitted | Learnt) for event in events):
            return events
        learnt = [await self._resume(event) if isinstance(event, Learnt) else event for event in events]
        waiting = [one for event in learnt for one in _submissions(event)]
        if not waiting:
            return learnt
        routed = iter(await self._lookups.attach(await self._route(waiting)))
        return [_replaced(event, routed) for event in learnt]

    async def _resume(self, event: Learnt) -> Learnt:
        """Read again the requests that waited for a circuit, so many at a time."""
        shard = self._machine.shard
        if event.inspected.facts is None:
            return event
        self._metrics.depth.observe(event.inspected.facts.depth_bound)
        shard.router.book.put(event.inspected)
        ids = list(shard.validating.get(event.inspected.circuit_id, ()))[:_AT_ONCE]
        references = [shard.live(job_id).reference for job_id in ids]
        bodies = await self._bodies.fetch(references)
        again = tuple(self._submitted(bodies[reference]) for reference in references)
        return dataclasses.replace(event, submissions=again)

    async def _route(self, events: Sequence[Submitted]) -> list[Submitted]:
        """Ask the policy about each; where its circuit has to be looked at first, say so."""
        router = self._machine.shard.router
        wants = [
            self._ask is not None and router.wants_facts(event.request, event.decision) for event in events
        ]
        if not any(wants) and all(event.decision is not None for event in events):
            # Nothing is configured that could change where these jobs go.
            return list(events)
        ids = [event.request["circuit_id"] for event, want in zip(events, wants, strict=True) if want]
        unknown = [name for name in dict.fromkeys(ids) if router.book.get(name) is None]
        if unknown:
            for inspected in (await lookup(self._store, unknown)).values():
                router.book.put(inspected)
        return [self._decided(event, want) for event, want in zip(events, wants, strict=True)]

    def _decided(self, event: Submitted, want: bool) -> Submitted:
        router = self._machine.shard.router
        facts = router.book.get(event.request["circuit_id"]) if want else None
        if want and facts is None:
            return dataclasses.replace(event, uninspected=True, decision=None)
        if not want and event.decision is not None:
            return event
        decision = router.decide(event.request, facts, self._clock.wall_ms())
        pool = decision.pool or event.pool
        return dataclasses.replace(event, pool=pool, decision=decision, facts=facts)

    def tick(self) -> Dispatch:
        """Close the micro-batch with the credits that are free now."""
        self._bodies.expect(len(self._machine.shard.jobs))
        return Dispatch(self._free_credits(), self._adverts())

    async def materialise(self, commands: Sequence[Any]) -> list[Outgoing]:
        """Encode commands; original requests are fetched by reference."""
        bodies = await self._bodies.fetch(_references(commands))
        self._recalls = recalls_of(commands, bodies)
        priors = await self._lookups.priors(commands)
        return [
            self._encode(command, bodies, priors) for command in commands if not isinstance(command, _ERRANDS)
        ]

    def _remembers_all(self) -> bool:
        return self._config.cache.history or self._machine.shard.router.policy.recalls

    def _encode(
        self, command: Any, bodies: Mapping[Reference, Record], priors: Mapping[str, bytes] = _NO_PRIORS
    ) -> Outgoing:
        if isinstance(command, Emit):
            value = encode(command.schema, command.fields)
            topic = self._topics.name(command.topic)
            return Outgoing(topic, command.partition, command.key, value, command.headers)
        if isinstance(command, Forward):
            return self._bundle(command, bodies, priors)
        if isinstance(command, Prepare):
            return self._bundle(_as_bundle(command), bodies, priors)
        if isinstance(command, Revoke):
            return self._revocation(command)
        record = bodies[command.reference]
        if isinstance(command, Relay):
            headers = (*record.headers, ("relayed", b"1"))
            return Outgoing(record.topic, command.partition, record.key, record.value, headers)
        return self._letter(command, record)

    def _bundle(
        self, command: Forward, bodies: Mapping[Reference, Record], priors: Mapping[str, bytes]
    ) -> Outgoing:
        items = [
            {
                "job_id": item.job_id,
                "attempt": item.attempt,
                "seed": item.seed,
                "traceparent": item.traceparent,
                "request": bodies[item.reference].value,
                "overrides": item.overrides,
                "token": item.token,
                # Without the earlier shots all of them are taken.
                "shots": -1 if item.top_up and item.job_id not in priors else item.shots,
                "prior": priors.get(item.job_id, b""),
                "deadline_ms": item.deadline_ms,
            }
            for item in command.items
        ]
        fields = {
            "bundle_id": command.bundle_id,
            "pool": command.pool,
            "shard": self._shard,
            "start_by_ms": command.start_by_ms,
            "lease_ms": command.lease_ms,
            "sent_us": command.sent_us,
            "items": items,
            "purpose": command.purpose,
        }
        key = command.bundle_id.encode()
        return Outgoing(
            self._topics.work(command.pool), command.partition, key, encode("work_bundle", fields)
        )

    def _revocation(self, command: Revoke) -> Outgoing:
        fields = {**command._asdict(), "shard": self._shard}
        return Outgoing(self._topics.name("revocations"), 0, None, encode("revocation", fields))

    def _letter(self, command: Bury, record: Record) -> Outgoing:
        return dead_letter(
            record,
            topic=self._topics.name("dead-letters"),
            partition=self._shard,
            group=f"dispatcher-{self._shard}",
            error_class=command.error_class,
            code=command.problem.code,
            message=str(command.problem),
            deliveries=command.deliveries,
            pool=command.pool,
        )

    def excuse(self, record: Record, now: Now) -> list[Outgoing]:
        """Refuse a request whose handling raised, so that its submitter does not wait for ever."""
        if record.topic not in self._requests:
            return []
        try:
            event = self._submitted(record)
        except ShotbusError:
            return []
        return [self._encode(command, {}) for command in self._machine.excuse(event, now)]

    def low_waters(self) -> Mapping[TopicPartition, int]:
        """Return the oldest request that a live job still needs, by partition."""
        return {TopicPartition(*place): low for place, low in self._machine.low_offsets().items()}

    async def close(self) -> None:
        """Close what this edge opened."""
        await self._bodies.close()

    def committed(self, commands: Sequence[Any]) -> None:
        """Count what has become durable; labels are looked up once a micro-batch, not once a job."""
        ended: Counter[tuple[str, str, str]] = Counter()
        shots: Counter[str] = Counter()
        for command in commands:
            if isinstance(command, Inspect) and self._ask is not None:
                self._ask(command.circuit_id, self._shard)
            elif isinstance(command, Recall) and self._recall is not None:
                self._recall(command.job_id, self._recalls[command.job_id], self._shard)
            elif not isinstance(command, Emit):
                self._count_letter(command)
            elif command.schema == "circuit_result":
                fields = command.fields
                if fields.get("late"):
                    continue
                ended[fields["outcome"], fields["pool"], fields.get("answered_by", "")] += 1
                shots[fields["pool"]] += fields["shots"]
                self._metrics.observe(Timings.unpack(fields["timings"]))
            elif command.schema == "refusal":
                self._metrics.refused.labels(command.fields["problems"][0]["code"]).inc()
        self._count_ended(ended, shots)
        self._count_decisions(self._machine.take_counters())

    def _count_letter(self, command: Any) -> None:
        if isinstance(command, Bury):
            self._metrics.dlq.labels(command.error_class).inc()
        elif isinstance(command, Outgoing) and (error_class := dict(command.headers).get("error-class")):
            self._metrics.dlq.labels(error_class.decode()).inc()
            message = dict(command.headers).get(f"{PREFIX}message", b"")
            for defect, invariant in _DEFECTS:
                if error_class == b"POISON" and defect in message:
                    self._metrics.violations.labels(invariant).inc()

    def _count_ended(self, ended: Mapping[tuple[str, str, str], int], shots: Mapping[str, int]) -> None:
        for (outcome, pool, answered_by), count in ended.items():
            self._metrics.terminal.labels(outcome, pool).inc(count)
            cache = _CACHES.get((outcome, answered_by))
            if cache or outcome == "served_from_cache":
                self._metrics.cache_hits.labels(cache or "result").inc(count)
            if outcome == "succeeded_by_fallback":
                settings = self._machine.shard.config.pools.get(pool)
                kind = "cache" if answered_by == "cache" else settings.kind if settings else ""
                self._metrics.fallback.labels(pool, kind).inc(count)
        for pool, count in shots.items():
            self._metrics.shots.labels(pool).inc(count)

    def _count_decisions(self, counters: Counters) -> None:
        for priority, count in counters.accepted.items():
            self._metrics.submitted.labels(priority).inc(count)
        classes = {priority for priority, _ in counters.ended}
        waits = {priority: self._metrics.end_to_end.labels(priority) for priority in sorted(classes)}
        for priority, seconds in counters.ended:
            waits[priority].observe(seconds)
        self._metrics.fenced.inc(counters.fenced)
        self._metrics.dedup.inc(counters.dedup_hits)
        for error_class, count in counters.retries.items():
            self._metrics.retries.labels(error_class).inc(count)
        for pool, answer in counters.answered:
            self._answered(pool, answer)
        for shed, count in counters.sheds.items():
            self._metrics.sheds.labels(*shed).inc(count)
        for forecast, count in counters.forecasts.items():
            self._metrics.forecasts.labels(*forecast).inc(count)


def _as_bundle(command: Prepare) -> Forward:
    pool, partition, start_by_ms, sent_us, item = command
    name = f"{item.job_id}.{COMPILE}"
    return Forward(name, pool, partition, start_by_ms, 0, sent_us, (item,), COMPILE)


def _submissions(event: Any) -> Sequence[Submitted]:
    if isinstance(event, Submitted):
        return (event,)
    return event.submissions if isinstance(event, Learnt) else ()


def _replaced(event: Any, routed: Iterator[Submitted]) -> Any:
    """Put the submissions back where they came from, in their order."""
    if isinstance(event, Submitted):
        return next(routed)
    if isinstance(event, Learnt):
        return dataclasses.replace(event, submissions=tuple(next(routed) for _ in event.submissions))
    return event


def _references(commands: Sequence[Any]) -> list[Reference]:
    found: list[Reference] = []
    for command in commands:
        if isinstance(command, Forward):
            found += [item.reference for item in command.items]
        elif isinstance(command, Prepare):
            found.append(command.item.reference)
        elif isinstance(command, Relay | Bury | Recall):
            found.append(command.reference)
    return found
