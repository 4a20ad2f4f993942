"""Jobs for tests of the waiting queue, which knows them by key."""

from dataclasses import dataclass, field
from itertools import count

from shotbus.broker.config import FairnessConfig
from shotbus.broker.dispatcher.concurrency import Concurrency
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
