"""A provider's limits, divided among workers that hear each other late: the sum is never exceeded."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from shotbus.workers.parts import Limits, Parts, PartTimes, Turnstile

TIMES = PartTimes(silent=10.0, fence=5.0, settle=2.0)
LONGEST_RUN = TIMES.silent - TIMES.fence


class Worker:
    """A worker as the model sees it: its view, what it has written and read, what runs."""

    def __init__(self, name, limits, now):
        self.name, self.position, self.sequence = name, 0, 0
        self.parts = Parts(name, limits.units, TIMES)
        self.turnstile = Turnstile(limits, self.parts, now)
        self.outbox = []
        self.runs = []
        self.draining = False
        self.stuck_until = 0.0


class World:
    """One compacted log, several workers, a clock."""

    def __init__(self, limits):
        self.limits, self.now = limits, 100.0
        self.log, self.workers, self.born = [], {}, 0
        self.begun = []

    def join(self):
        if len(self.workers) < 5:
            self.born += 1
            name = f"w{(7 * self.born) % 10}{self.born}"
            self.workers[name] = Worker(name, self.limits, self.now)

    def crash(self, worker):
        """Its runs die with it, as a child process does."""
        del self.workers[worker.name]

    def stuck(self, worker):
        """It neither reads nor writes for longer than others will wait for it."""
        worker.stuck_until = self.now + 14.0

    def leave(self, worker):
        worker.draining = True
        if not worker.runs and not worker.outbox:
            self.log.append((worker.name, None, 0, False))
            del self.workers[worker.name]

    def write(self, worker):
        """The record is on its way: it is in the log only once :meth:`flush` says so."""
        worker.sequence += 1
        claim = worker.turnstile.wish(ready=not worker.draining)
        worker.parts.published(worker.sequence, claim, self.now)
        worker.outbox.append((worker.name, worker.sequence, claim, not worker.draining))

    def flush(self, worker):
        self.log += worker.outbox
        worker.outbox = []

    def read(self, worker):
        """One batch, as the log stands now: of what was superseded nothing is seen."""
        newest = {record[0]: offset for offset, record in enumerate(self.log)}
        for offset in range(worker.position, len(self.log)):
            name, sequence, claim, ready = self.log[offset]
            if newest[name] != offset:
                continue
            if name == worker.name:
                worker.parts.echoed(sequence, self.now)
            elif sequence is None:
                worker.parts.gone(name)
            else:
                worker.parts.learn(name, claim, self.now, ready=ready, heard=self.now)
        worker.position = len(self.log)

    def begin(self, worker):
        if not worker.draining and worker.turnstile.begin(self.now):
            worker.runs.append(self.now)
            self.begun.append(self.now)

    def end(self, worker):
        if worker.runs:
            worker.runs.pop(0)
            worker.turnstile.end()

    def wait(self, seconds):
        self.now += seconds
        for worker in self.workers.values():
            while worker.runs and self.now - worker.runs[0] >= LONGEST_RUN:
                self.end(worker)

    def settle(self, seconds=20):
        """Everybody does as a worker does: once a second, and at every change."""
        for _ in range(seconds):
            for step in (self.write, self.flush, self.read, self.write, self.flush, self.read):
                for worker in list(self.workers.values()):
                    step(worker)
            self.wait(1.0)

    def check(self):
        running = sum(len(worker.runs) for worker in self.workers.values())
        if self.limits.max_in_flight:
            assert running <= self.limits.max_in_flight
        if self.limits.rate_per_second:
            for first, since in enumerate(self.begun):
                most = self.limits.burst + self.limits.rate_per_second * (self.now - since)
                assert len(self.begun) - first <= most + 1e-6


LIMITS = st.builds(
    Limits,
    max_in_flight=st.integers(0, 6),
    rate_per_second=st.sampled_from([0.0, 0.2, 2.0]),
    burst=st.integers(1, 5),
).filter(lambda limits: limits.units)


def live(world, worker, random, chances):
    """What a busy worker does in a moment, each thing or not; one that is stuck still begins what it may."""
    if world.now >= worker.stuck_until:
        for step, chance in zip((world.write, world.flush, world.read), chances, strict=True):
            if random.random() < chance:
                step(worker)
    while random.random() < 0.8:
        world.begin(worker)
        world.check()
    if random.random() < 0.1:
        world.end(worker)


def play(limits, random, steps=200):
    world = World(limits)
    world.join()
    world.settle(4)
    chances = [random.uniform(0.1, 0.9) for _ in range(3)]
    calm, pause = random.choice([20, 50, 100]), random.choice([0.02, 0.1, 0.5])
    for _ in range(steps):
        event = random.choices(("", "join", "leave", "crash", "stuck"), (calm, 6, 3, 2, 2))[0]
        if event == "join" or not world.workers:
            world.join()
        elif event:
            worker = world.workers[random.choice(sorted(world.workers))]
            getattr(world, event)(worker)
        for worker in random.sample(list(world.workers.values()), len(world.workers)):
            live(world, worker, random, chances)
        world.wait(2 * pause * random.random())
        world.check()
    return world


@settings(max_examples=100, deadline=None)
@given(LIMITS, st.integers(0, 1_000_000))
def test_however_late_workers_hear_each_other_the_sum_of_their_parts_is_within_the_limits(limits, seed):
    play(limits, Random(seed))


@settings(max_examples=25, deadline=None)
@given(LIMITS, st.integers(0, 10_000))
def test_once_things_are_quiet_everything_that_can_be_given_is_given_evenly(limits, seed):
    world = play(limits, Random(seed), 200)
    world.workers = {n: one for n, one in world.workers.items() if not one.draining}
    world.join()
    world.settle()
    held = [worker.parts.held(world.now) for worker in world.workers.values()]
    assert sum(held) == limits.units
    assert max(held) - min(held) <= 1


def test_the_property_bites_without_the_fence():
    """A worker that goes on with an old part while others take it over would break the limit."""
    world = World(Limits(max_in_flight=2))
    world.join()
    world.settle(4)
    (first,) = world.workers.values()
    first.parts._times = PartTimes(silent=10.0, fence=1e9, settle=2.0)
    world.settle(1)
    world.join()
    second = next(worker for worker in world.workers.values() if worker is not first)
    for _ in range(30):
        for step in (world.write, world.flush, world.read):
            step(second)
        world.wait(1.0)
    for worker in (first, first, second, second):
        world.begin(worker)
    assert sum(len(worker.runs) for worker in world.workers.values()) == 4
