"""The dispatcher against its model, under anything that may happen to it; and planted bugs, which must be caught."""

from dispatcher_kit import (
    CLASSES,
    POOLS,
    cached_result,
    commanded,
    config,
    item,
    job_id,
    payload,
    reported,
    request,
    submitted,
)
from dispatcher_world import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from packing_kit import PackingDispatcher

from shotbus.broker.dispatcher.machine import Dispatcher

TENANTS = ("ada", "bob")
SWEEPS = ("", "s1", "s2")
ERRORS = ("", "", "", "INVALID", "TRANSIENT", "THROTTLED", "CRASHED", "TIMEOUT", "EXPIRED", "NEVER-HEARD-OF")
COMMIT = st.sampled_from([True, True, False])
INDEX = st.integers(0, 1_000)


class DispatcherRules(RuleBasedStateMachine):
    """Everything that can happen to a shard; ``machine_class`` is the code under test."""

    machine_class = Dispatcher

    def __init__(self):
        super().__init__()
        self.world = World(config(max_waiting=40), self.machine_class)
        self.number = 0
        self.requests = []
        self.reports = []

    @initialize(bundles=st.lists(st.sampled_from([0, 1, 1, 2]), min_size=4, max_size=4))
    def first_grants(self, bundles):
        for slot, granted in enumerate(bundles):
            self.world.grant(POOLS[slot % 2], slot // 2, granted)

    def put(self, event, commit):
        self.world.stage(event)
        if commit:
            self.world.commit()

    def fresh(self, *, pool="aer", shard=0, **changes):
        self.number += 1
        fields = request(self.number, shard=shard, payload_hash=payload(self.number), **changes)
        return {"pool": pool, "offset": self.number, "fields": fields}

    def send(self, made, commit, **options):
        fields = made["fields"]
        self.put(submitted(fields, offset=made["offset"], pool=made["pool"], **options), commit)

    # --- submissions ---

    @rule(
        who=st.sampled_from(TENANTS),
        priority=st.sampled_from(CLASSES),
        pool=st.sampled_from(POOLS),
        seed=st.sampled_from([None, 7]),
        sweep=st.sampled_from(SWEEPS),
        deadline=st.sampled_from([None, 500, 20_000, 20_000]),
        wait=st.sampled_from([None, None, -5, 3_000]),
        count=st.integers(1, 5),
        commit=COMMIT,
    )
    def submit(self, count, commit, **wishes):
        for number in range(count):
            self.submit_one(commit=commit and number == count - 1, **wishes)

    def submit_one(self, who, priority, pool, seed, sweep, deadline, wait, commit):
        wall = self.world.wall_ms
        made = self.fresh(
            pool=pool,
            tenant=who,
            priority=priority,
            seed=seed,
            sweep_id=sweep,
            not_before_ms=None if wait is None else wall + wait,
            deadline_ms=None if deadline is None else wall + deadline + max(0, wait or 0),
        )
        self.requests.append(made)
        self.send(made, commit)

    @rule(commit=COMMIT)
    def submit_what_the_cache_has(self, commit):
        made = self.fresh(seed=7)
        self.requests.append(made)
        self.send(made, commit, cached=cached_result())

    @precondition(lambda self: self.requests)
    @rule(
        index=INDEX,
        changes=st.sampled_from([{}, {}, {"payload_hash": b"\7" * 16}, {"tenant": "eve"}]),
        commit=COMMIT,
    )
    def submit_again(self, index, changes, commit):
        made = self.requests[index % len(self.requests)]
        fields = made["fields"]
        # The same request, later: its deadline may have passed by now, and the answer is the same.
        self.number += 1
        self.send({**made, "offset": self.number, "fields": {**fields, **changes}}, commit)

    @rule(
        flaw=st.sampled_from(["pool", "topic", "deadline", "shard", "relayed", "id"]),
        index=INDEX,
        commit=COMMIT,
    )
    def submit_what_cannot_be_taken(self, flaw, index, commit):
        made = self.fresh(shard=1 if flaw in ("shard", "relayed") else 0)
        fields = made["fields"]
        if flaw == "deadline":
            fields["deadline_ms"] = self.world.wall_ms
        if flaw == "id":
            fields["job_id"] = ("", "no job id", "z" * 31)[index % 3]
        topic = "shotbus.requests.bulk" if flaw == "topic" else None
        pool = "nowhere" if flaw == "pool" else "aer"
        self.send({**made, "pool": pool}, commit, topic=topic, relayed=flaw == "relayed")

    # --- workers ---

    def flight(self, index):
        flights = list(self.world.model.flights.values())
        return flights[index % len(flights)]

    def say(self, flight, kind, lease, items, commit):
        event = reported(
            kind, flight.bundle_id, worker=flight.worker, lease=lease, items=items, pool=flight.pool
        )
        self.reports.append(event)
        self.put(event, commit)

    @precondition(lambda self: self.world.model.flights)
    @rule(index=INDEX, kind=st.sampled_from(["started", "started", "heartbeat"]), commit=COMMIT)
    def start(self, index, kind, commit):
        self.say(self.flight(index), kind, "lease-1", [], commit)

    @precondition(lambda self: self.world.model.flights)
    @rule(
        index=INDEX,
        errors=st.lists(st.sampled_from(ERRORS), min_size=3, max_size=3),
        part=st.sampled_from([slice(None), slice(None), slice(1), slice(1, None)]),
        commit=COMMIT,
    )
    def finish(self, index, errors, part, commit):
        flight = self.flight(index)
        attempts = zip(list(flight.open.items())[part], errors, strict=False)
        items = [item(job, attempt, error, retry_after_ms=1_500) for (job, attempt), error in attempts]
        self.say(flight, "finished", flight.lease or "lease-1", items, commit)

    @precondition(lambda self: self.world.model.flights)
    @rule(index=INDEX, lease=st.sampled_from(["", "lease-2"]), skew=st.integers(-1, 1), commit=COMMIT)
    def finish_by_somebody_stale(self, index, lease, skew, commit):
        flight = self.flight(index)
        items = [item(job, attempt + skew) for job, attempt in flight.open.items()]
        self.say(flight, "finished", lease or flight.lease or "lease-1", items, commit)

    @precondition(lambda self: self.world.model.flights)
    @rule(index=INDEX, commit=COMMIT)
    def a_successor_takes_the_workers_partition(self, index, commit):
        flight = self.flight(index)
        self.put(
            reported("started", flight.bundle_id, worker="w9", lease="lease-9", pool=flight.pool), commit
        )

    @precondition(lambda self: self.reports)
    @rule(index=INDEX, commit=COMMIT)
    def report_again(self, index, commit):
        self.put(self.reports[index % len(self.reports)], commit)

    @precondition(lambda self: self.requests)
    @rule(index=INDEX, commit=COMMIT)
    def report_an_unknown_bundle(self, index, commit):
        job = self.requests[index % len(self.requests)]["fields"]["job_id"]
        self.put(reported("finished", "nobody.1", items=[item(job, 1)]), commit)

    @precondition(lambda self: self.world.model.flights and self.requests)
    @rule(index=INDEX, other=INDEX, commit=COMMIT)
    def report_a_job_of_another_bundle(self, index, other, commit):
        flight = self.flight(index)
        job = self.requests[other % len(self.requests)]["fields"]["job_id"]
        lease = flight.lease or "lease-1"
        if job not in flight.open:
            event = reported(
                "finished", flight.bundle_id, worker=flight.worker, lease=lease, items=[item(job, 1)]
            )
            self.put(event, commit)

    @rule(pool=st.sampled_from(POOLS), worker=st.integers(0, 1), bundles=st.integers(0, 3), commit=COMMIT)
    def grant(self, pool, worker, bundles, commit):
        self.world.grant(pool, worker, bundles)
        if commit:
            self.world.commit()

    # --- control ---

    @rule(
        number=st.integers(-2, 40),
        who=st.sampled_from([*TENANTS, "ada", "eve"]),
        commit=COMMIT,
    )
    def cancel_a_job(self, number, who, commit):
        name = "no job id" if number < 0 else job_id(number)
        self.put(commanded("cancel", name, tenant=who), commit)

    @rule(sweep=st.sampled_from(SWEEPS), who=st.sampled_from([*TENANTS, "eve"]), commit=COMMIT)
    def cancel_a_sweep(self, sweep, who, commit):
        self.put(commanded("cancel", sweep, target="sweep", tenant=who), commit)

    @rule(
        command=st.sampled_from(["pause", "resume", "resume", "drain"]),
        pool=st.sampled_from([*POOLS, "nowhere"]),
        commit=COMMIT,
    )
    def command_a_pool(self, command, pool, commit):
        self.put(commanded(command, pool, target="pool"), commit)

    @rule(number=st.integers(-2, 30), who=st.sampled_from([*TENANTS, "eve"]), commit=COMMIT)
    def locate(self, number, who, commit):
        name = "no job id" if number < 0 else job_id(number)
        self.put(commanded("locate", name, tenant=who), commit)

    # --- time and crashes ---

    @rule(
        wall=st.sampled_from([0.01, 1.0, 5.0, 30.0, 700.0, -3.0]),
        seen=st.sampled_from([0.0, 0.25, 5.0, 12.0, 25.0]),
    )
    def time_passes(self, wall, seen):
        self.world.pass_time(wall, seen)
        self.world.commit()

    @rule()
    def tick(self):
        self.world.commit()

    @rule()
    def crash(self):
        self.world.crash()

    def teardown(self):
        """Whatever happened, every job ends once the workers do their work."""
        self.world.commit()
        finish_everything(self.world)


def finish_everything(world):
    for pool in POOLS:
        world.stage(commanded("resume", pool, target="pool"))
        world.grant(pool, 0, 8)
    for _ in range(60):
        world.pass_time(60.0)
        for flight in list(world.model.flights.values()):
            items = [item(job, attempt) for job, attempt in flight.open.items()]
            lease = flight.lease or "lease-1"
            event = reported("finished", flight.bundle_id, worker=flight.worker, lease=lease, items=items)
            world.stage(event)
        world.commit()
        if not world.model.live:
            return
    raise AssertionError(f"never ended: {world.model.live}")


RULES = settings(max_examples=150, stateful_step_count=40, report_multiple_bugs=False)


def test_dispatcher_does_what_its_model_says_whatever_happens():
    run_state_machine_as_test(DispatcherRules, settings=RULES)


class PackingRules(DispatcherRules):
    machine_class = PackingDispatcher


def test_it_does_so_too_when_every_waiting_job_is_packed():
    run_state_machine_as_test(PackingRules, settings=RULES)
