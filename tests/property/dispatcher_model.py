"""What the dispatcher must do, said a second time: a plain model without queues, heaps or ledger.

``Model.judge`` takes an event with the commands that the machine answered and fails when the answer is not the
one answer that is right; ``Model.dispatched`` does the same for the tick, where the choice among waiting jobs is
free but who may go, and that nobody is forgotten, is not.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from dispatcher_kit import PARTITIONS, SHARD, emitted, forwards

from shotbus.broker.dispatcher.bundles import START_MARGIN_MS
from shotbus.broker.dispatcher.messages import Bury, Commanded, Relay, Reported, Revoke, Submitted
from shotbus.broker.dispatcher.retry import Failure, History, Means, judge
from shotbus.broker.dispatcher.standing import INTENT_SECONDS
from shotbus.broker.dispatcher.states import TABLE, TERMINAL, WITH_A_WORKER, WORDS, Cause, Phase
from shotbus.broker.machine import Emit
from shotbus.schemas.ids import partition_of

PHASES = {words: phase for phase, words in WORDS.items()}
ENDS = {
    "succeeded": Phase.DONE,
    "served_from_cache": Phase.DONE,
    "cancelled": Phase.CANCELLED,
    "expired": Phase.ERROR,
    "failed": Phase.ERROR,
    "timed_out": Phase.ERROR,
    "dead_lettered": Phase.ERROR,
}

#: What a worker has begun goes on past its deadline; what it only has in hand does not.
BEGUN = WITH_A_WORKER - {Phase.FORWARDED}


@dataclass
class Life:
    """One accepted job."""

    job_id: str
    tenant: str
    payload: bytes
    pool: str
    sweep: str
    deadline: int
    due: int
    seed: int | None
    reference: tuple
    phase: Phase = Phase.WAITING
    outcome: str = ""
    flight: str = ""
    attempt: int = 0
    history: History = History()


@dataclass
class Flight:
    """One bundle that a worker owes an answer for; ``open`` maps job id to attempt."""

    bundle_id: str
    pool: str
    worker: str
    start_by: int
    until: float
    lease: str = ""
    open: dict = field(default_factory=dict)

    def lapsed(self, now):
        return now.seen >= self.until


class Model:
    """The specification; ``grants`` is what each (pool, worker) has granted."""

    def __init__(self, config):
        self.config = config
        self.jobs: dict[str, Life] = {}
        self.flights: dict[str, Flight] = {}
        self.intents: dict[tuple[str, str], int] = {}
        self.paused: set[str] = set()
        self.grants: dict[tuple[str, str], int] = {}
        self.told: dict[str, Phase] = {}
        self.sequence = 0
        self.wall_ms = 0

    @property
    def live(self):
        return {job_id: life for job_id, life in self.jobs.items() if not life.outcome}

    def load(self):
        return Counter((flight.pool, flight.worker) for flight in self.flights.values())

    def judge(self, event, commands, now):
        """Check the answer to one event. Raises AssertionError."""
        self.look_at_the_clock(now)
        told, expected = sorted(described(commands)), sorted(self.answer(event, now))
        assert told == expected, f"{event}: {told} instead of {expected}"
        for fields in emitted(commands, "circuit_result"):
            self.check_result(fields)

    def answer(self, event, now):
        if isinstance(event, Submitted):
            return self.submitted(event, now)
        if isinstance(event, Reported):
            return self.reported(event.outcome, now)
        assert isinstance(event, Commanded)
        return self.commanded(event.control, now)

    # --- submissions ---

    def submitted(self, event, now):
        request = event.request
        job_id = request["job_id"]
        known = self.jobs.get(job_id)
        if known is not None:
            return self.repeated(known, request)
        code = self.wrong(event, now)
        if code == "" and partition_of(job_id, PARTITIONS) != SHARD:
            return [("refused", job_id, "SB-1109")] if event.relayed else [("relay", event.reference)]
        if code == "" and len(self.live) >= self.config.limits.max_waiting // PARTITIONS:
            code = "SB-1111"
        if code:
            return [("refused", job_id, code)]
        return self.accepted(event, now)

    def repeated(self, known, request):
        if (known.payload, known.tenant) != (request["payload_hash"], request["tenant"]):
            return [("refused", known.job_id, "SB-1106")]
        return [("located", known.job_id, "FINISHED", known.outcome)] if known.outcome else []

    def wrong(self, event, now):
        request = event.request
        if len(request["job_id"]) != 32:
            return "SB-1109"
        if request["deadline_ms"] is not None and request["deadline_ms"] <= now.wall_ms:
            return "SB-1104"
        if not event.reference.topic.endswith(request["priority"]):
            return "SB-1101"
        return "" if event.pool in self.config.pools else "SB-1102"

    def accepted(self, event, now):
        request = event.request
        life = Life(
            request["job_id"],
            request["tenant"],
            request["payload_hash"],
            event.pool,
            request["sweep_id"],
            request["deadline_ms"] or 0,
            request["not_before_ms"] or 0,
            request["seed"],
            event.reference,
        )
        self.jobs[life.job_id] = life
        if life.due > now.wall_ms:
            life.phase = Phase.SCHEDULED
        if any((name, life.tenant) in self.intents for name in (life.job_id, life.sweep)):
            return self.end(life, "cancelled")
        return self.end(life, "served_from_cache") if event.cached else []

    # --- outcomes ---

    def reported(self, outcome, now):
        flight = self.flights.get(outcome["bundle_id"])
        if flight is None or (flight.lease and flight.lease != outcome["lease_id"]):
            return []
        if not flight.lease:
            for life in self.aboard(flight):
                life.phase = Phase.RUNNING
        flight.lease, flight.worker = outcome["lease_id"], outcome["worker"]
        flight.until = now.seen + self.config.pools[flight.pool].lease_seconds
        if outcome["kind"] != "finished":
            return []
        return [line for item in outcome["items"] for line in self.ended(flight, item, now)]

    def aboard(self, flight):
        lives = [self.jobs[job_id] for job_id in flight.open]
        return [life for life in lives if life.flight == flight.bundle_id and not life.outcome]

    def ended(self, flight, item, now):
        if flight.open.get(item["job_id"]) != item["attempt"]:
            return []
        life = self.jobs[item["job_id"]]
        counts = life in self.aboard(flight)
        del flight.open[life.job_id]
        if not flight.open:
            del self.flights[flight.bundle_id]
        if not counts:
            return []
        if not item["error_class"]:
            return self.end(life, "succeeded")
        if item["error_class"] == "EXPIRED" and life.deadline:
            return self.end(life, "expired")
        return self.failed(life, item["error_class"], now, item["retry_after_ms"])

    def failed(self, life, error_class, now, retry_after_ms=0):
        failed = Failure(error_class, retry_after_ms=retry_after_ms)
        expected_ms = int(1000 * self.config.pools[life.pool].seconds_per_point)
        means = Means(deadline_ms=life.deadline, shots=100, expected_ms=expected_ms)
        verdict = judge(
            failed,
            replace(life.history, attempt=life.attempt),
            means,
            job=life.job_id,
            now_ms=now.wall_ms,
            policy=self.config.retry,
        )
        life.history = life.history.after(verdict, now.wall_ms)
        life.flight = ""
        if verdict.delay_ms is None:
            buried = [("bury", life.job_id)] if verdict.outcome == "dead_lettered" else []
            return self.end(life, verdict.outcome) + buried
        life.phase, life.due = Phase.RETRYING, now.wall_ms + verdict.delay_ms
        return []

    def end(self, life, outcome):
        assert not life.outcome, f"{life.job_id} ended twice"
        life.outcome, life.phase, life.flight = outcome, ENDS[outcome], ""
        return [("result", life.job_id, outcome)]

    # --- control ---

    def commanded(self, control, now):
        command, name = control["command"], control["name"]
        if command == "locate":
            return [self.located(name, control["tenant"])]
        if command == "cancel":
            return self.cancelled(control["target"], name, control["tenant"], now)
        if name in self.config.pools:
            (self.paused.discard if command == "resume" else self.paused.add)(name)
        return []

    def located(self, name, tenant):
        life = self.jobs.get(name)
        if life is None or life.tenant != tenant:
            return ("located", name, "UNKNOWN", "")
        return ("located", name, "FINISHED" if life.outcome else WORDS[life.phase].status, life.outcome)

    def cancelled(self, target, name, tenant, now):
        if len(name) != 32 if target == "job" else not name:
            return []
        if target == "job":
            found = [self.jobs[name]] if name in self.jobs else []
        else:
            found = [life for life in self.jobs.values() if life.sweep == name]
        if target == "sweep" or not found:
            self.intents[name, tenant] = now.wall_ms // 1000 + INTENT_SECONDS
        mine = [life for life in found if life.tenant == tenant and not life.outcome]
        return [line for life in mine for line in self.end(life, "cancelled")]

    # --- the tick ---

    def dispatched(self, commands, now, free):
        """Check what a tick did with the credits in ``free``. Raises AssertionError."""
        self.look_at_the_clock(now)
        expected = self.lapse(now) + self.expire(now)
        self.wake(now)
        self.intents = {key: until for key, until in self.intents.items() if until * 1000 > now.wall_ms}
        told = [line for line in described(commands) if line[0] != "forward"]
        assert sorted(told) == sorted(expected), f"the tick said {told} instead of {expected}"
        for fields in emitted(commands, "circuit_result"):
            self.check_result(fields)
        for forward in forwards(commands):
            self.forwarded(forward, now)
        self.check_work_is_conserved(commands, free)
        for batch in emitted(commands, "event_batch"):
            self.told_events(batch)

    def look_at_the_clock(self, now):
        """Repeats wait for so long, whatever the wall clock is set to."""
        back, self.wall_ms = self.wall_ms - now.wall_ms, now.wall_ms
        if back > 1_000:
            for life in self.live.values():
                if life.phase is Phase.RETRYING:
                    life.due -= back

    def lapse(self, now):
        lines = []
        for flight in [flight for flight in self.flights.values() if flight.lapsed(now)]:
            del self.flights[flight.bundle_id]
            error_class = "LOST" if flight.lease else "NOT_STARTED"
            lines += [line for life in self.aboard(flight) for line in self.failed(life, error_class, now)]
        return lines

    def expire(self, now):
        late = [life for life in self.live.values() if life.deadline and life.deadline <= now.wall_ms]
        return [line for life in late if life.phase not in BEGUN for line in self.end(life, "expired")]

    def wake(self, now):
        for life in self.live.values():
            if life.phase in (Phase.SCHEDULED, Phase.RETRYING) and life.due <= now.wall_ms:
                life.phase = Phase.WAITING

    def forwarded(self, forward, now):
        assert forward.pool not in self.paused
        pool = self.config.pools[forward.pool]
        worker = f"w{forward.partition}"
        start_by = now.wall_ms + int(1000 * pool.start_seconds)
        assert forward.bundle_id not in self.flights
        assert 0 < len(forward.items) <= pool.bundle_jobs
        until = now.seen + pool.start_seconds + START_MARGIN_MS / 1000
        flight = Flight(forward.bundle_id, forward.pool, worker, start_by, until)
        self.flights[forward.bundle_id] = flight
        room = self.grants.get((forward.pool, worker), 0)
        assert self.load()[forward.pool, worker] <= room, f"{worker} has more in flight than it granted"
        for one in forward.items:
            self.boarded(flight, one, now)

    def boarded(self, flight, one, now):
        life = self.jobs[one.job_id]
        assert life.phase is Phase.WAITING, f"{life} was forwarded"
        assert life.pool == flight.pool
        assert not life.deadline or life.deadline > now.wall_ms
        assert one.reference == life.reference
        assert one.attempt == life.attempt + 1, "attempt numbers are the fencing tokens"
        life.seed = one.seed if life.seed is None else life.seed
        assert one.seed == life.seed, "every attempt of a job has the same seed"
        life.attempt, life.phase, life.flight = one.attempt, Phase.FORWARDED, flight.bundle_id
        flight.open[life.job_id] = one.attempt

    # --- what always holds ---

    def check_result(self, fields):
        life = self.jobs[fields["job_id"]]
        assert (fields["tenant"], fields["attempt"]) == (life.tenant, life.attempt)
        assert (
            fields["request_topic"],
            fields["request_partition"],
            fields["request_offset"],
        ) == life.reference
        assert bool(fields["payload"]) == (fields["outcome"] in ("succeeded", "served_from_cache"))

    def check_work_is_conserved(self, commands, free):
        for pool, granted in free.items():
            waits = [life for life in self.live.values() if life.pool == pool and life.phase is Phase.WAITING]
            used = sum(forward.pool == pool for forward in forwards(commands))
            idle = sum(credit.bundles for credit in granted) > used and pool not in self.paused
            assert not (waits and idle), f"{waits[0]} waits although there is room in {pool}"

    def told_events(self, batch):
        assert batch["sequence"] > self.sequence, "sequence numbers rise"
        self.sequence = batch["sequence"]
        for event in batch["events"]:
            if not event["job_id"]:
                continue  # it is about a pool
            before = self.told.get(event["job_id"])
            after = PHASES[event["state"], event["sub_status"]]
            moves = [TABLE.get((before, cause)) for cause in Cause]
            assert after in moves, f"{event['job_id']} went from {before} to {after}"
            self.told[event["job_id"]] = after

    def check_told(self):
        """Check that the event records have told each job's phase."""
        assert self.told == {job_id: life.phase for job_id, life in self.jobs.items()}
        assert all(life.phase in TERMINAL for life in self.jobs.values() if life.outcome)

    def restarted(self, wall_ms):
        """A shard was taken: every lease has a full period from time seen 0, what is unread its own time."""
        self.wall_ms = 0
        longest = max(pool.lease_seconds for pool in self.config.pools.values())
        for flight in self.flights.values():
            flight.until = longest
            if not flight.lease:
                most = self.config.pools[flight.pool].start_seconds
                left = min(max(0.0, (flight.start_by - wall_ms) / 1000), most) + START_MARGIN_MS / 1000
                flight.until = max(flight.until, left)


def described(commands):
    """Commands as comparable lines, without what only decorates them."""
    return [line for one in commands if (line := describe(one)) is not None]


def describe(command):
    if isinstance(command, Emit):
        fields = command.fields
        if command.schema == "circuit_result":
            return ("result", fields["job_id"], fields["outcome"])
        if command.schema == "refusal":
            return ("refused", fields["job_id"], fields["problems"][0]["code"])
        if command.schema == "located":
            return ("located", fields["job_id"], fields["status"], fields["outcome"])
        return None
    if isinstance(command, Relay):
        return ("relay", command.reference)
    if isinstance(command, Revoke):
        return None
    return ("bury", command.job_id) if isinstance(command, Bury) else ("forward", command.bundle_id)
