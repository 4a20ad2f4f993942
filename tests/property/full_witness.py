"""The witness of a dispatcher in full: what was asked and told, and which promises follow from it.

It believes only what was staged and what was published; of the machine it looks at what is live, and at bundles,
to know which of a worker's words count.
"""

import json
from collections import Counter
from dataclasses import dataclass, field

from dispatcher_kit import emitted, forwards
from treasury_kit import fresh

from shotbus.broker.dispatcher.breaker import Gate
from shotbus.broker.dispatcher.bundles import LOOK_UP, RUN
from shotbus.broker.dispatcher.ladders import UNSURE_WHEN_PAID
from shotbus.broker.dispatcher.messages import Bury, Commanded, Reported, Revoke, Submitted
from shotbus.broker.dispatcher.standing import INTENT_SECONDS
from shotbus.broker.dispatcher.states import TABLE, TERMINAL, WORDS, Cause, Phase
from shotbus.broker.policy.windows import Window
from shotbus.broker.treasury.prices import estimate
from shotbus.schemas.outcomes import OUTCOMES, SUCCESSES

PHASES = {words: phase for phase, words in WORDS.items()}


# --- what was promised ---


@dataclass
class Life:
    """What is remembered of one submission."""

    fields: dict
    arrived_ms: int
    phase: Phase | None = None
    outcome: str = ""
    refused: bool = False
    attempt: int = 0
    not_before: int = 0
    #: Where the policy sent it, and before when it was not to go there.
    opens: tuple = ("", 0)
    #: In which alone it runs, but for what comes before.
    windows: tuple = ()
    placed: bool = False
    gone: bool = False
    #: A provider may have it, and has not said otherwise.
    doubt: bool = False
    #: The job that it runs beside.
    main: str = ""
    #: What became of it, for messages.
    story: list = field(default_factory=list)


def _admits(settings, data_class):
    return not data_class or data_class in settings.access.data_classes


def _is_staged(item, machine):
    """Tell whether an attempt is one of those on cheap pools before the job goes to its own."""
    return "stages" in (machine.shard.jobs.look(item.job_id).extras or {})


class Witness:
    """Remembers what was asked and told; raises AssertionError when a promise is broken."""

    def __init__(self, config):
        self.config = config
        self.windows = {name: Window.compile(one) for name, one in config.windows.items()}
        self.lives = {}
        self.intents = {}
        self.paused = set()
        self.latest_ms = 0
        self.down_until = {}
        #: What the fake provider has accepted and not ended.
        self.accepted = set()
        self.spent = Counter()
        self.reports = []

    def restarted(self, machine):
        pause = self.config.pools["paid"].breaker.pause_seconds
        kept = self.down_until
        self.down_until = {
            pool: pause for pool in kept if machine.shard.guard.breakers.view(pool, 0.0).gate is Gate.OPEN
        }

    # --- events ---

    def before(self, event, machine, now):
        """Note what is asked; returns the items of a report that count."""
        self.latest_ms = max(self.latest_ms, now.wall_ms)
        if isinstance(event, Submitted):
            self._submitted(event, machine, now)
        elif isinstance(event, Commanded):
            self._commanded(event.control, machine, now)
        elif isinstance(event, Reported):
            return self._reported(event.outcome, machine, now)
        return []

    def _submitted(self, event, machine, now):
        fields = event.request
        job_id = fields["job_id"]
        life = self.lives.get(job_id)
        if life is not None and not life.refused:
            return
        life = self.lives[job_id] = Life(fields, now.wall_ms)
        life.not_before = fields["not_before_ms"] or 0
        names = ((job_id, fields["tenant"]), (fields["sweep_id"], fields["tenant"]))
        life.gone = any(self.intents.get(name, 0) * 1000 > now.wall_ms for name in names)

    def _commanded(self, control, machine, now):
        command, name, tenant = control["command"], control["name"], control["tenant"]
        if command in ("pause", "drain"):
            self.paused.add(name)
        elif command == "resume":
            self.paused.discard(name)
        elif command == "cancel":
            for life in self.lives.values():
                meant = life.fields["job_id" if control["target"] == "job" else "sweep_id"] == name
                if meant and life.fields["tenant"] == tenant and not life.outcome and not life.refused:
                    life.gone = True
            if name and name not in machine.live:
                self.intents[name, tenant] = now.wall_ms // 1000 + INTENT_SECONDS

    def _reported(self, outcome, machine, now):
        bundle = machine.shard.bundles.get(outcome["bundle_id"])
        if bundle is None or (bundle.lease_id and bundle.lease_id != outcome["lease_id"]):
            return []
        paid = machine.shard.is_paid(bundle.pool)
        items = [one for one in outcome["items"] if bundle.open.get(one["job_id"]) == one["attempt"]]
        if paid and bundle.purpose == RUN:
            for job_id in bundle.open:
                self.lives[job_id].doubt = True
        for item in items if paid else ():
            self._answered(self.lives[item["job_id"]], bundle.purpose, item)
        if any(one["error_class"] == "BACKEND_DOWN" for one in items):
            pause = self.config.pools[bundle.pool].breaker.pause_seconds
            gate = machine.shard.guard.breakers.view(bundle.pool, now.seen).gate
            if gate is not Gate.OPEN:
                self.down_until[bundle.pool] = now.seen + pause
        return items

    def _answered(self, life, purpose, item):
        """Take what a worker of a pool that costs says about an attempt."""
        if purpose == LOOK_UP:
            life.doubt = item["found"] not in ("absent", "done")
        elif item["error_class"] not in UNSURE_WHEN_PAID:
            life.doubt = False

    def after(self, event, commands, items, now):
        """Judge what was answered at once."""
        good = {one["job_id"] for one in items if not one["error_class"]}
        for fields in emitted(commands, "circuit_result"):
            if fields["outcome"] == "succeeded" and not fields.get("late"):
                assert fields["job_id"] in good, "a success that no worker has told"
        for fields in emitted(commands, "located"):
            if fields["status"] == "CHANGED" and isinstance(event, Commanded) and fields["changed"]:
                self._changed(event.control, now)
        for one in (event,) if isinstance(event, Submitted) else getattr(event, "submissions", ()):
            life = self.lives[one.request["job_id"]]
            # Who submits it again learns of the first one's place.
            if one.decision is not None and not life.placed:
                life.placed = True
                life.opens = one.decision.pool, one.decision.not_before_ms
                life.windows = one.decision.windows

    def _changed(self, control, now):
        """A wish for another time was granted."""
        arguments = control["arguments"]
        life = self.lives.get(control["name"])
        if control["command"] != "reprioritise" or life is None:
            return
        if "not_before_ms" in arguments:
            life.not_before, life.opens = int(arguments["not_before_ms"]), ("", 0)
        elif "window" in arguments:
            life.not_before, life.opens, life.windows = 0, ("", 0), ()

    # --- the tick ---

    def dispatched(self, commands, machine, free, now):
        self.latest_ms = max(self.latest_ms, now.wall_ms)
        self.intents = {name: until for name, until in self.intents.items() if until * 1000 > now.wall_ms}
        room = {
            (pool, credit.partition): credit.bundles for pool, offers in free.items() for credit in offers
        }
        runs = Counter()
        for event in [event for batch in emitted(commands, "event_batch") for event in batch["events"]]:
            if event["job_id"]:
                self._life_of(event)
        for one in forwards(commands):
            place = one.pool, one.partition
            room[place] = room.get(place, 0) - 1
            assert room[place] >= 0, f"{place} got a bundle without a credit"
            assert one.pool not in self.paused, f"{one.pool} is paused"
            if one.purpose == RUN:
                runs[one.pool] += 1
                self._may_run(one, machine, now)
            for item in one.items:
                life = self.lives[item.job_id]
                assert item.attempt > life.attempt, "attempts must rise"
                life.attempt = item.attempt
        for pool, count in runs.items():
            breaker = machine.shard.guard.breakers._breakers.get(pool)
            if breaker is not None and breaker.gate is Gate.HALF_OPEN:
                probes = breaker._settings.probes
                assert max(count, len(breaker._probes) + breaker._passed) <= probes, f"too many try {pool}"

    def _may_run(self, forward, machine, now):
        pool = forward.pool
        settings, shard = self.config.pools[pool], machine.shard
        if settings.access.hours:
            assert self.windows[settings.access.hours].is_open(now.wall_ms), f"{pool} is closed"
        assert now.seen >= self.down_until.get(pool, 0.0), f"{pool} was said to be down"
        gate = shard.guard.breakers.view(pool, now.seen).gate
        assert gate is not Gate.OPEN, f"the breaker of {pool} is open"
        assert gate is Gate.CLOSED or len(forward.items) == 1
        for item in forward.items:
            life = self.lives[item.job_id]
            gone = life.gone or (life.main != "" and self.lives[life.main].gone)
            wrong = {
                "it was cancelled": gone,
                "it has ended": life.outcome or life.refused,
                "it is too early": self.latest_ms
                < max(life.not_before, life.opens[1] * (pool == life.opens[0])),
                "it is outside its window": not (self._in_windows(life, now) or _is_staged(item, machine)),
                "others have reserved it": self._is_reserved(settings, life, now),
                "it may not be seen there": not _admits(settings, life.fields["data_class"]),
                "its provider may have it": shard.is_paid(pool) and life.doubt,
                "its provider has it": shard.is_paid(pool) and item.job_id in self.accepted,
                "nothing is set aside for it": shard.is_paid(pool)
                and not self._is_covered(item, life, machine),
            }
            told = [why for why, holds in wrong.items() if holds]
            assert not told, f"{item.job_id} goes to {pool}, but {told}: {life}"

    def _in_windows(self, life, now):
        return all(self.windows[name].is_open(now.wall_ms) for name in life.windows)

    def _is_reserved(self, settings, life, now):
        """Tell whether a pool is there for another tenant only."""
        told = (text.rpartition("@") for text in settings.access.reservations)
        opens = {tenant: self.windows[name].is_open(now.wall_ms) for tenant, _, name in told}
        return any(held for tenant, held in opens.items() if tenant != life.fields["tenant"])

    def _is_covered(self, item, life, machine):
        """Tell whether a job of the tenant with a budget of money has set aside what it may cost."""
        if life.fields["tenant"] != "ada":
            return True
        price, shots = self.config.pools["paid"].price, life.fields["shots"]
        longest = self.config.pools["paid"].attempt_seconds
        wanted = estimate(price, points=1, shots=shots, seconds=longest, circuits=1, sessions=0).money
        held = machine.shard.funds.allowance.reserved(item.job_id)
        return sum(units for purse, units in held.items() if purse.resource == "money") >= wanted

    # --- what was published ---

    def told(self, commands, now):
        buried = {one.job_id for one in commands if isinstance(one, Bury)}
        for batch in emitted(commands, "event_batch"):
            for event in batch["events"]:
                if event["job_id"]:
                    self._moved(event)
        for fields in emitted(commands, "circuit_result"):
            self._ended(fields, buried)
        for fields in emitted(commands, "refusal"):
            life = self.lives[fields["job_id"]]
            if (
                (life.fields["tenant"]) == fields["tenant"]
                and not life.outcome
                and life.phase
                in (
                    None,
                    Phase.REFUSED,
                )
            ):
                life.refused, life.phase = True, None
        for one in commands:
            assert not isinstance(one, Revoke) or bool(one.jobs) != bool(one.granted)

    def _life_of(self, event):
        """Return the life that an event is about; a companion's begins with its first one."""
        detail = json.loads(event["detail"]) if event["detail"] else {}
        main = detail.get("companion_of")
        if main and event["job_id"] not in self.lives:
            asked = self.lives[main]
            self.lives[event["job_id"]] = Life(asked.fields, asked.arrived_ms, main=main)
        return self.lives[event["job_id"]], detail

    def _moved(self, event):
        life, detail = self._life_of(event)
        if life.phase is Phase.REFUSED:
            # It came again.
            life.phase = None
        phase, word = PHASES[event["state"], event["sub_status"]], event["cause"]
        told = {one.value: one for one in Cause}
        if word in OUTCOMES:
            causes = [
                cause for (source, cause), target in TABLE.items() if (source, target) == (life.phase, phase)
            ]
        elif word.startswith("retry after"):
            causes = [Cause.RETRY]
        else:
            causes = [told[word]]
        assert any(TABLE.get((life.phase, cause)) is phase for cause in causes), (
            f"{life.phase} to {phase} by {word}"
        )
        assert not life.outcome, f"{event['job_id']} moves after its end"
        if phase in (Phase.DEFERRED, Phase.RETRYING) and Cause.CHANGE not in causes:
            assert detail["until_ms"] > 0, event
        life.phase = phase
        life.story.append((word, phase.value, event["pool"], event["detail"]))
        if life.main and phase in TERMINAL:
            # It has no result of its own.
            life.outcome = word

    def _ended(self, fields, buried):
        job_id, outcome = fields["job_id"], fields["outcome"]
        life = self.lives[job_id]
        if fields.get("late"):
            assert life.outcome or fields["answered_by"] == "shadow", f"{job_id} is not answered yet"
            return
        assert not life.outcome, f"a second result of {job_id}"
        assert not life.refused, f"a result of {job_id}, which was refused"
        life.outcome = outcome
        assert (job_id in buried) == (outcome == "dead_lettered")
        assert (outcome in SUCCESSES) == (not fields["problems"])

    # --- always ---

    def check(self, machine, treasuries, now):
        live = machine.live
        expected = {one for one, life in self.lives.items() if not life.outcome and not life.refused}
        assert set(live) == expected, f"lost, or alive after the end: {sorted(set(live) ^ expected)}"
        for job_id, job in live.items():
            assert job.phase is self.lives[job_id].phase, "an event is missing"
        assert machine.paused == self.paused & set(machine.shard.queues)
        for node in treasuries:
            for account in fresh(node, now)._accounts.values():
                gone = account.spent - account.overdrawn + account.held
                assert gone <= account.limit, f"{account.purse}: {gone} of {account.limit}"
                assert account.purse.resource != "money" or not account.overdrawn, "nobody billed so much"
        for holding in machine.shard.funds.allowance._holdings.values():
            assert holding.free >= 0
        held = {job_id for job_id, one in machine.shard.funds.allowance._reserved.items() if one.parts}
        assert held <= set(live), "units are reserved for jobs that are gone"
