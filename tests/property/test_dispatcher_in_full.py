"""The dispatcher with everything switched on at once: what must hold does so after every micro-batch."""

import full_kit
import pytest
from dispatcher_kit import CLASSES, commanded, item, job_id, reported
from full_endings import finish_everything
from full_kit import CIRCUITS, KEYS, POOLS, ROUTES, TENANTS, found_result
from full_world import World
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

from shotbus.broker.config import FairnessConfig
from shotbus.broker.dispatcher.bundles import RUN
from shotbus.broker.dispatcher.ladders import EXPIRED, LADDERS, UNSURE_WHEN_PAID
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.states import Phase

COMMIT = st.sampled_from([True, True, False])
INDEX = st.integers(0, 1_000)
ERRORS = ("", "", "", *LADDERS, EXPIRED, "NEVER-HEARD-OF")
WORDS = ("shots per call", "depth", "qubits", "layout", "nothing that is known")
#: After these a provider has, or has had, the job; after the others it never had it.
ENDED_THERE = ("UNSTABLE", "CANCELLED_BY_PROVIDER", "INTERNAL")


class FullRules(RuleBasedStateMachine):
    """Everything that can happen to a shard; ``machine_class`` is the code under test."""

    machine_class = Dispatcher
    config = full_kit.config()

    def __init__(self):
        super().__init__()
        self.world = World(self.config, self.machine_class)
        self.number = 0
        self.sent = []
        self.reports = []

    @initialize(bundles=st.lists(st.sampled_from([0, 1, 2, 2, 3]), min_size=6, max_size=6))
    def first_grants(self, bundles):
        for slot, granted in enumerate(bundles):
            self.world.room[POOLS[slot % 3], f"w{slot // 3}"] = granted

    def put(self, commit, *records):
        self.world.stage(*records)
        if commit:
            self.world.commit()

    # --- submissions ---

    def send(self, commit, count=1, **wishes):
        for _ in range(count):
            self.number += 1
            fields = full_kit.make_request(self.number, **wishes)
            self.sent.append(fields)
            self.world.submit(fields)
        self.put(commit)

    @rule(
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from(CLASSES),
        experiment=st.sampled_from(ROUTES),
        problem=st.booleans(),
        circuit=st.sampled_from([*CIRCUITS, CIRCUITS[0], CIRCUITS[1], "f" * 64]),
        session=st.sampled_from(["", "", "s1"]),
        sweep=st.sampled_from(["", "", "sweep"]),
        count=st.integers(1, 4),
        commit=COMMIT,
    )
    def submit(self, circuit, session, sweep, **more):
        self.send(circuit_id=circuit, session_id=session, sweep_id=sweep, **more)

    @rule(
        tenant=st.sampled_from(TENANTS),
        backend=st.sampled_from(["", "", *POOLS, "nowhere"]),
        deadline=st.sampled_from([None, 4_000, 30_000, 900_000]),
        wait=st.sampled_from([None, None, 3_000]),
        window=st.sampled_from(["", "", "night"]),
        private=st.booleans(),
        fallback=st.sampled_from(
            [[], ["free"], ["paid"], ["cache:60", "free"], ["review"], ["defer:night", "free"]]
        ),
        shots=st.sampled_from([100, 100, 900]),
        speculate=st.sampled_from(["", "", "answer", "compare", "blend"]),
        problem=st.booleans(),
        commit=COMMIT,
    )
    def submit_with_wishes(self, deadline, wait, private, **more):
        wall = self.world.wall_ms
        more["deadline_ms"] = None if deadline is None else wall + deadline + (wait or 0)
        more["not_before_ms"] = None if wait is None else wall + wait
        self.send(data_class="private" if private else "", circuit_id=CIRCUITS[0], **more)

    @rule(
        seed=st.integers(1, 2),
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from(CLASSES),
        experiment=st.sampled_from(ROUTES),
        count=st.integers(1, 3),
        commit=COMMIT,
    )
    def submit_what_others_ask_too(self, **more):
        self.send(circuit_id=CIRCUITS[0], **more)

    @rule(
        unique=st.sampled_from(KEYS),
        policy=st.sampled_from(["", "reject", "supersede", "supersede"]),
        tenant=st.sampled_from(TENANTS[:2]),
        experiment=st.sampled_from(["", "dear", "nightly"]),
        circuit=st.sampled_from(CIRCUITS),
        count=st.integers(1, 2),
        commit=COMMIT,
    )
    def submit_with_a_unique_key(self, policy, circuit, **more):
        self.send(unique_policy=policy, circuit_id=circuit, **more)

    @precondition(lambda self: self.sent)
    @rule(index=INDEX, changes=st.sampled_from([{}, {}, {"payload_hash": b"\7" * 16}]), commit=COMMIT)
    def submit_again(self, index, changes, commit):
        self.world.submit({**self.sent[index % len(self.sent)], **changes})
        self.put(commit)

    # --- what others owe ---

    @precondition(lambda self: self.world.inspections)
    @rule(index=INDEX, well=st.sampled_from([True, True, True, False]), commit=COMMIT)
    def a_circuit_was_inspected(self, index, well, commit):
        asked = list(self.world.inspections)
        self.world.inspected(asked[index % len(asked)], well=well)
        self.put(commit)

    @precondition(lambda self: self.world.recalls)
    @rule(index=INDEX, age=st.sampled_from([None, 5, 500]), tenant=st.sampled_from(TENANTS), commit=COMMIT)
    def an_earlier_result_was_looked_for(self, index, age, tenant, commit):
        asked = list(self.world.recalls)
        found = None if age is None else found_result(age, self.world.now, tenant=tenant)
        self.world.recalled(asked[index % len(asked)], found)
        self.put(commit)

    @rule(awake=st.booleans(), number=st.integers(0, 1), survives=st.booleans())
    def the_treasury_sleeps_or_crashes(self, awake, number, survives):
        self.world.awake = awake
        self.world.serve(number, commit=survives)
        self.world.hear()
        self.world.commit()

    # --- workers ---

    def flight(self, index):
        flights = self.world.in_flight()
        return flights[index % len(flights)]

    def say(self, flight, kind, items, commit, lease=""):
        flight.lease = flight.lease or "lease-1"
        if kind == "finished" and not lease:
            flight.told.update(one["job_id"] for one in items if flight.open[one["job_id"]] == one["attempt"])
        event = reported(
            kind,
            flight.forward.bundle_id,
            worker=flight.worker,
            lease=lease or flight.lease,
            items=items,
            pool=flight.forward.pool,
        )
        self.reports.append(event)
        self.put(commit, event)

    @precondition(lambda self: self.world.in_flight())
    @rule(
        which=st.sampled_from([slice(None), slice(1), slice(1, None)]),
        kind=st.sampled_from(["started", "started", "heartbeat"]),
        takes=st.booleans(),
        commit=COMMIT,
    )
    def start(self, which, kind, takes, commit):
        for flight in self.world.in_flight()[which]:
            if flight.forward.pool == "paid" and flight.forward.purpose == RUN and takes:
                self.world.witness.accepted.update(job for job, _ in self.world.owed(flight))
            self.say(flight, kind, [], commit=False)
        self.put(commit)

    @precondition(lambda self: self.world.in_flight())
    @rule(takes=st.booleans(), seconds=st.sampled_from([12.0, 25.0]))
    def every_worker_is_lost(self, takes, seconds):
        self.start(slice(None), "started", takes, commit=True)
        self.world.pass_time(seconds)
        self.world.commit()

    def still_open(self, flight):
        bundle = self.world.machine.shard.bundles.get(flight.forward.bundle_id)
        return {job for job in flight.open if bundle and bundle.open.get(job) == flight.open[job]}

    @precondition(lambda self: self.world.in_flight())
    @rule(
        which=st.sampled_from([slice(None), slice(1), slice(1, None)]),
        errors=st.lists(st.sampled_from(ERRORS), min_size=2, max_size=2),
        found=st.sampled_from(["done", "done", "absent", "running", "unknown", ""]),
        words=st.sampled_from(WORDS),
        part=st.sampled_from([slice(None), slice(None), slice(1)]),
        commit=COMMIT,
    )
    def finish(self, which, errors, found, words, part, commit):
        for flight in self.world.in_flight()[which]:
            owed = self.world.owed(flight)
            told = self.ran if flight.forward.purpose == RUN else self.looked_up
            ends = zip(owed[part], errors, strict=False)
            items = [item(*one, error, retry_after_ms=1_500) for one, error in ends]
            self.say(flight, "finished", [told(flight, one, found, words) for one in items], commit=False)
        self.put(commit)

    def ran(self, flight, told, found, words):
        """How an attempt ended; where it costs, the provider's books agree with it."""
        error, accepted = told["error_class"], self.world.witness.accepted
        for problem in told["problems"]:
            problem["limit"], problem["detail"] = "50", words
        if flight.forward.pool == "paid":
            if error in UNSURE_WHEN_PAID:
                accepted.update({told["job_id"]} if found == "running" else ())
            else:
                accepted.discard(told["job_id"])
            if not error or error in ENDED_THERE:
                told["cost"] = 1.0
        return told

    def looked_up(self, flight, told, found, words):
        """What a provider says that is asked: never that it has not what it has."""
        accepted = self.world.witness.accepted
        if told["job_id"] in accepted and found in ("absent", ""):
            found = "running"
        if told["job_id"] not in accepted and found in ("running", "done"):
            found = "absent"
        if found == "done":
            accepted.discard(told["job_id"])
            told["cost"] = 1.0
        else:
            told = told | {"error_class": "", "problems": []}
        return told | {"found": found}

    @precondition(lambda self: self.world.in_flight())
    @rule(index=INDEX, lease=st.sampled_from(["", "lease-2"]), skew=st.sampled_from([-1, 1]), commit=COMMIT)
    def finish_by_somebody_stale(self, index, lease, skew, commit):
        flight = self.flight(index)
        if flight.lease:
            items = [item(job, attempt + skew) for job, attempt in flight.open.items()]
            self.say(flight, "finished", items, commit, lease=lease)

    @precondition(lambda self: self.reports)
    @rule(index=INDEX, commit=COMMIT)
    def report_again(self, index, commit):
        self.put(commit, self.reports[index % len(self.reports)])

    @rule(pool=st.sampled_from(POOLS), worker=st.integers(0, 1), bundles=st.integers(0, 3), commit=COMMIT)
    def grant(self, pool, worker, bundles, commit):
        self.world.room[pool, f"w{worker}"] = bundles
        self.put(commit)

    @rule(
        tenant=st.sampled_from(TENANTS),
        pool=st.sampled_from(POOLS[:2]),
        jobs=st.integers(0, 5),
        ends=st.integers(0, 3),
        survives=st.sampled_from([True, True, False]),
        commit=COMMIT,
    )
    def the_other_shard_works(self, tenant, pool, jobs, ends, survives, commit):
        self.world.neighbour.wait(tenant, pool, jobs)
        self.world.neighbour_works(4, ends, commit=survives)
        self.put(commit)

    # --- control ---

    def order(self, commit, command, name, *, tenant="ada", target="job", **arguments):
        event = commanded(command, name, tenant=tenant, target=target)
        event.control["arguments"] = arguments
        self.put(commit, event)

    @rule(index=INDEX, early=st.booleans(), sweep=st.sampled_from([False, False, True]), commit=COMMIT)
    def cancel(self, index, early, sweep, commit):
        tenant = TENANTS[index % 3]
        if sweep:
            self.order(commit, "cancel", "sweep", target="sweep", tenant=tenant)
        elif early or not self.sent:
            self.order(commit, "cancel", job_id(self.number + 1), tenant=tenant)
        else:
            fields = self.sent[index % len(self.sent)]
            self.order(commit, "cancel", fields["job_id"], tenant=fields["tenant"])

    @rule(
        command=st.sampled_from(["pause", "drain", "resume", "resume", "flag", "locate"]),
        index=INDEX,
        value=st.sampled_from(["on", "off", "50", ""]),
        commit=COMMIT,
    )
    def command_something(self, command, index, value, commit):
        if command == "flag":
            self.order(commit, command, "qpu", value=value)
        elif command == "locate":
            self.order(commit, command, job_id(index % (self.number + 1)), tenant=TENANTS[index % 3])
        else:
            self.order(commit, command, POOLS[index % 3], target="pool")

    @precondition(lambda self: self.sent)
    @rule(
        index=INDEX,
        change=st.sampled_from(["class", "pool", "pool", "window", "not_before_ms", "deadline_ms"]),
        choice=INDEX,
        commit=COMMIT,
    )
    def change_a_job(self, index, change, choice, commit):
        fields, wall = self.sent[index % len(self.sent)], self.world.wall_ms
        choices = {
            "class": CLASSES,
            "pool": POOLS,
            "window": ("night", "day"),
            "not_before_ms": (str(wall + 5_000), str(wall - 1)),
            "deadline_ms": (str(wall + 20_000), str(wall + 900_000)),
        }[change]
        value = choices[choice % len(choices)]
        self.order(commit, "reprioritise", fields["job_id"], tenant=fields["tenant"], **{change: value})

    def reviewed(self):
        live = self.world.machine.live.values()
        return [job for job in live if job.phase is Phase.AWAITING_REVIEW]

    @precondition(lambda self: self.reviewed())
    @rule(index=INDEX, word=st.sampled_from(["approve", "approve", "reject"]), commit=COMMIT)
    def review(self, index, word, commit):
        waiting = self.reviewed()
        job = waiting[index % len(waiting)]
        self.order(commit, word, job.job_id, tenant=job.tenant)

    # --- time and crashes ---

    @rule(
        wall=st.sampled_from([0.01, 1.0, 5.0, 30.0, 700.0, 2_000.0, -3.0, -600.0]),
        seen=st.sampled_from([0.0, 0.25, 1.0, 5.0, 12.0, 25.0]),
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
        """Whatever happened, every job ends once everybody does his work."""
        self.world.commit()
        finish_everything(self)


RULES = settings(max_examples=100, stateful_step_count=40, report_multiple_bugs=False)
SOAK = settings(RULES, max_examples=2_000, stateful_step_count=60, derandomize=False, print_blob=True)


def test_what_must_hold_does_whatever_happens():
    run_state_machine_as_test(FullRules, settings=RULES)


class StrictRules(FullRules):
    machine_class = PackingDispatcher
    config = full_kit.config(fairness=FairnessConfig(mode="strict", ageing_seconds=20.0))


def test_it_does_so_too_when_classes_are_strict_and_waiting_jobs_are_packed():
    run_state_machine_as_test(StrictRules, settings=RULES)


@pytest.mark.slow
@pytest.mark.parametrize("rules", [FullRules, StrictRules])
def test_what_must_hold_does_for_long(rules):
    run_state_machine_as_test(rules, settings=SOAK)
