"""Jobs for tests of the waiting queue, which knows them by key, and queues of several shards as one."""

from dataclasses import dataclass, field
from itertools import count

from shotbus.broker.config import FairnessConfig, PoolConfig
from shotbus.broker.dispatcher.arbiter import Arbiter, claim_of
from shotbus.broker.dispatcher.clocks import Clocks
from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.waiting import WaitingQueue

WEIGHTS = {"interactive": 8.0, "production": 4.0, "experiment": 2.0, "bulk": 1.0}
NO_AGEING = FairnessConfig(ageing_seconds=0)
NUMBERS = count(1)


@dataclass(eq=False)
class Waiting:
    tenant: str = "ada"
    priority: str = "bulk"
    cost: float = 1.0
    due_ms: int = 1_000
    session_id: str = ""
    accepted_ms: int = 0
    number: int = field(default_factory=lambda: next(NUMBERS))

    @property
    def order(self):
        return (self.accepted_ms * 1000 << 20) + self.number


class Queue:
    """The queue and the jobs behind its keys."""

    def __init__(self, *jobs, fairness=NO_AGEING, limits=None, pool="aer"):
        self.jobs, self.gone = {}, 0
        self.limits = Concurrency(limits or {})
        self.waiting = WaitingQueue(
            WEIGHTS,
            fairness,
            pool=pool,
            limits=self.limits,
            session_of=lambda key: self.jobs[key].session_id,
        )
        self.push(*jobs)

    def push(self, *jobs):
        for job in jobs:
            self.jobs[job.number] = job
            self.waiting.push(job, job.number)

    def remove(self, job):
        self.waiting.remove(job, job.number)
        del self.jobs[job.number]

    def pop(self, now_ms=0):
        key = self.waiting.pop(now_ms)
        return None if key is None else self.jobs.pop(key)

    def drain(self, now_ms=0):
        found = []
        while (job := self.pop(now_ms)) is not None:
            found.append(job)
        return found

    def end(self, job):
        """A popped job's worker has answered."""
        self.limits.give(job.tenant, job.session_id, "aer")


class Shards:
    """Queues of one pool that share their clocks, and the credits of their process."""

    def __init__(self, count, *, fairness=NO_AGEING, limits=None, bundle_jobs=1):
        clocks = Clocks()
        self.queues = [Queue(fairness=fairness, limits=limits) for _ in range(count)]
        for queue in self.queues:
            queue.waiting.use(clocks)
        self.settings = PoolConfig(bundle_jobs=bundle_jobs, bundle_seconds=1e9)
        self.arbiter = Arbiter({"aer": self.settings})
        self.now, self.free, self.served = 0.0, 0, []

    def claims(self, now_ms=0):
        found = {n: claim_of(queue.waiting, self.settings, now_ms) for n, queue in enumerate(self.queues)}
        return {"aer": {n: claim for n, claim in found.items() if claim is not None}}

    def ask(self, shard):
        """Let a shard come; it uses what it is given. Returns who is called for the rest, and what was given."""
        free = {"aer": [Credit("w", 0, self.free)]} if self.free else {}
        dealt = self.arbiter.ask(shard, free, self.claims(), self.now)
        given = sum(credit.bundles for credit in dealt.credits.get("aer", ()))
        assert given <= self.free
        for _ in range(given):
            jobs = [self.queues[shard].pop() for _ in range(self.settings.bundle_jobs)]
            jobs = [job for job in jobs if job is not None]
            self.served += [(shard, job) for job in jobs]
            self.free -= bool(jobs)
        return dealt.others, given

    def turn(self, shard, freed=1):
        """Free credits; ``shard`` hears of it first, the others come when they are called."""
        self.free += freed
        called, rounds = [shard], 0
        while called and self.free:
            others, _ = self.ask(called.pop(0))
            called += [other for other in others if other not in called]
            rounds += 1
            assert rounds < 50, "shards call each other without end"
