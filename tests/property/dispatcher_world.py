"""A dispatcher, its model and its ledger in step: every micro-batch is judged, every state is rebuilt and compared."""

from collections import Counter

import pytest
from dispatcher_kit import Driver, restore
from dispatcher_model import Model

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.machine import Now


class World(Driver):
    """Feeds one machine as the runner would and holds it against the model.

    ``stage`` collects the records of a micro-batch; ``commit`` handles them; ``crash`` handles them too, loses the
    machine before the commit, and leaves them to be read again.
    """

    def __init__(self, config, machine_class=Dispatcher):
        super().__init__(lambda: machine_class(0, 2, config))
        self.model = Model(config)
        self.staged = []

    def stage(self, event):
        self.staged.append(event)

    def grant(self, pool, worker, bundles):
        self.model.grants[pool, f"w{worker}"] = bundles

    def credits(self):
        load = self.machine.load()
        free = {}
        for (pool, worker), granted in self.model.grants.items():
            room = granted - load.get((pool, worker), 0)
            if room > 0:
                free.setdefault(pool, []).append(Credit(worker, int(worker[1:]), room))
        return free

    def crash(self):
        for event in self.staged:
            self.machine.handle(event, self.now)
        self.machine.handle(Dispatch(self.credits()), self.now)
        self.restart()

    def restart(self):
        super().restart()
        self.model.restarted(self.wall_ms)

    def commit(self):
        """Handle what is staged and the tick; judge, write rows, look at everything. Returns the commands."""
        commands = []
        for event in self.staged:
            answer = list(self.machine.handle(event, self.now))
            self.model.judge(event, answer, self.now)
            commands += answer
        self.staged = []
        free = self.credits()
        answer = list(self.machine.handle(Dispatch(free), self.now))
        self.model.dispatched(answer, self.now, free)
        self.write_rows()
        self.check()
        return commands + answer

    def check(self):
        machine, model = self.machine, self.model
        assert set(machine.live) == set(model.live), "a job was lost, or lives after its end"
        assert dict(machine.load()) == dict(model.load())
        assert machine.paused == model.paused
        model.check_told()
        check_places(machine)
        check_ledger(machine, self.ledger)
        assert image(restore(self.build, self.ledger, self.now)) == image(machine)


def check_places(machine):
    """Every live job is in exactly one of queue, timer and bundle, and the queues' sums are right."""
    shard = machine.shard
    queued = Counter(key for queue in shard.queues.values() for key in queue)
    for queue in shard.queues.values():
        assert queue.length == len(list(queue))
        costs = [shard.jobs.glance(key).cost for key in queue]
        assert queue.seconds == pytest.approx(sum(costs), abs=1e-9)
    timed = shard.agenda.timed()
    for job_id, job in machine.live.items():
        key = shard.jobs.key_of(job_id)
        bundle = shard.bundles.get(job.bundle_id)
        aboard = bundle is not None and bundle.open.get(job_id) == job.attempt
        places = [queued[key] == 1, key in timed, aboard]
        assert places.count(True) == 1, f"{job_id} ({job.phase}) is in queue, timers, bundles: {places}"
    assert machine.wake_at(Now(0, 0.0)) is not None or not any(map(can_move, machine.live.values()))


def can_move(job):
    return job.phase is not Phase.WAITING or job.deadline_ms


def check_ledger(machine, ledger):
    """What the ledger holds is what the machine would write now: no change was forgotten."""
    for key, row in ledger.items():
        assert machine.snapshot(key) == row, f"the row {key} is stale"
    assert {job_id.encode() for job_id in machine.live} <= set(ledger)


def image(machine):
    """Everything that decides, comparable between a machine and its restored twin."""
    shard = machine.shard
    bundles = shard.bundles._bundles.values()
    ids = {key: shard.jobs.glance(key).job_id for key in shard.jobs}
    return {
        "queues": {pool: sorted(ids[key] for key in queue) for pool, queue in shard.queues.items()},
        "timers": sorted(ids[key] for key in shard.agenda.timed()),
        "bundles": {one.bundle_id: (one.seat(), one.pool, one.open) for one in bundles},
        "load": dict(machine.load()),
        "standing": (machine.paused, shard.standing._intents),
        "done": ({number: bytes(page) for number, page in shard.done._pages.items()}, len(shard.done)),
        "lows": machine.low_offsets(),
        "waiting": {pool: jobs for pool, (jobs, _) in machine.waiting().items()},
    }
