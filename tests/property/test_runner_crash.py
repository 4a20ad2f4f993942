"""The runner loses nothing and does nothing twice, wherever it is crashed, killed, fenced or left in doubt."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_kit import IN, LETTERS, MORE, Crash, Plant, Probe, check_said, drain

from shotbus.broker.bus.base import BusError, CommitUnknownError, FencedError
from shotbus.broker.bus.memory import MemoryBus, MemoryShardWriter

VALUES = [b"a", b"garbage", b"b", b"poison", b"c", b"unspeakable", b"d", b"huge", b"nothing", b"e"]
SAID = Counter({b"a": 1, b"b": 1, b"c": 1, b"d": 1, b"e": 1, b"late": 1})
SET_ASIDE = [b"garbage", b"huge", b"poison", b"unspeakable"]


async def live(plant, runner):
    """One life of the scenario: what is there, then a late record, which only the first life to come so far sends."""
    await runner.take()
    await drain(runner)
    if not await plant.read(MORE):
        await plant.put(b"late", place=MORE)
    await drain(runner)


async def survive(plant, bus, runner):
    """Live; a life that was lost is followed by another, in another process. Returns the number of lives."""
    for lives in range(1, 10):
        try:
            await live(plant, runner)
        except (Crash, BusError):
            bus.kill()
            bus = await plant.bus()
            runner = plant.runner(bus)
        else:
            return lives
    raise AssertionError("no life was long enough")


async def check_everything(plant):
    """Every good record was counted once, in order, the bad ones were set aside once, and the ledger says so."""
    check_said(await plant.said(), {b"k": SAID})
    assert sorted(letter.value for letter in await plant.read(LETTERS)) == SET_ASIDE
    positions, rows = await plant.positions_and_rows()
    assert rows == {b"k": b"6"}
    assert positions[IN] == (await plant.ends(IN))[IN]


async def survives_crashes(make_runner=Plant.runner):
    """Crash at the first, the second, … step until the scenario passes untouched; returns how many steps there were."""
    for step in range(1, 1_000):
        plant, probe = Plant(), Probe(step)
        await plant.put(*VALUES)
        bus = await plant.bus()
        lives = await survive(plant, bus, make_runner(plant, bus, probe))
        await check_everything(plant)
        if lives == 1:
            return step - 1
    raise AssertionError("never untouched")


async def test_a_crash_between_any_two_steps_loses_and_doubles_nothing():
    assert await survives_crashes() > 30


async def test_a_kill_while_a_commit_is_under_way_loses_and_doubles_nothing():
    """The transaction is open, half written, or committed but not acknowledged: the successor finds out which."""
    for commit in range(1, 8):
        for turns in range(4):
            plant = Plant()
            await plant.put(*VALUES)
            bus = await plant.bus()
            runner = plant.runner(bus, KillSoon(bus, commit, turns))
            assert await survive(plant, bus, runner) <= 2
            await check_everything(plant)


class KillSoon:
    """A probe that kills its bus some turns of the loop after the n-th commit has begun."""

    def __init__(self, bus, commit, turns):
        self.bus, self.left, self.turns = bus, commit, turns

    def __call__(self, name):
        self.left -= name == "committing"
        if name == "committing" and self.left == 0:
            self.later(self.turns)

    def later(self, turns):
        if turns:
            asyncio.get_running_loop().call_soon(self.later, turns - 1)
        else:
            self.bus.kill()


@pytest.mark.parametrize("happened", [True, False])
async def test_a_commit_of_unknown_result_is_found_out_by_taking_the_shard_again(happened):
    for doubtful in range(1, 7):
        plant = Plant()
        await plant.put(*VALUES)
        bus = await plant.bus(lambda cluster, n=doubtful: DoubtfulBus(cluster, n, happened))
        runner = plant.runner(bus)
        with pytest.raises(CommitUnknownError):
            await live(plant, runner)
        await live(plant, runner)
        await check_everything(plant)


class DoubtfulBus(MemoryBus):
    """Its n-th commit ends without an answer, whether or not it happened."""

    def __init__(self, cluster, doubtful, happened):
        super().__init__(cluster)
        self.left, self.happened = doubtful, happened

    async def fence(self, shard):
        await super().fence(shard)
        return DoubtfulWriter(self, shard, self.cluster._epochs[shard])


class DoubtfulWriter(MemoryShardWriter):
    async def commit(self, records):
        self._bus.left -= 1
        if self._bus.left != 0 or self._bus.happened:
            await super().commit(records)
        if self._bus.left == 0:
            raise CommitUnknownError("the answer was lost")


# --- two processes that both believe they hold the shard ---

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["take", "step", "step", "step", "put", "put", "turn", "turn", "time"]),
        st.integers(0, 1),
        st.integers(1, 6),
    ),
    max_size=40,
)


class Rivals:
    """Two runners in two processes; each has at most one call under way, and they interleave at every await."""

    def __init__(self, make_runner=Plant.runner):
        self.plant, self.make_runner = Plant(), make_runner
        self.tasks = [None, None]
        self.held = [False, False]
        self.sent = Counter()
        self.fenced = 0

    async def play(self, moves):
        self.buses = [await self.plant.bus(), await self.plant.bus()]
        self.runners = [self.make_runner(self.plant, bus) for bus in self.buses]
        for move, who, amount in moves:
            await getattr(self, move)(who, amount)
        for who in (0, 1):
            await self.settle(who)
        await live(self.plant, self.plant.runner(await self.plant.bus()))

    async def take(self, who, _):
        await self.settle(who)
        self.tasks[who] = asyncio.create_task(self.runners[who].take())
        self.held[who] = True

    async def step(self, who, _):
        await self.settle(who)
        if self.held[who]:
            self.tasks[who] = asyncio.create_task(self.runners[who].step(wait=0))

    async def put(self, _, amount):
        values = [b"%d" % (sum(self.sent.values()) + n) for n in range(amount)]
        values[0] = b"poison" + values[0] if amount == 6 else values[0]
        self.sent.update(values)
        await self.plant.put(*values)

    async def turn(self, _, amount):
        for _ in range(amount):
            await asyncio.sleep(0)

    async def time(self, _, amount):
        self.plant.clock.now += amount

    async def settle(self, who):
        """Wait for the call that is under way; who was fenced has lost the shard."""
        task, self.tasks[who] = self.tasks[who], None
        try:
            if task:
                await task
        except FencedError:
            self.fenced += 1
            self.held[who] = False


@settings(max_examples=150)
@given(moves=MOVES)
def test_a_zombie_is_fenced_whatever_the_interleaving(moves):
    assert_rivals(moves)


def assert_rivals(moves, make_runner=Plant.runner):
    rivals = Rivals(make_runner)
    asyncio.run(check_rivals(rivals, moves))


async def check_rivals(rivals, moves):
    await rivals.play(moves)
    good = Counter({value: n for value, n in rivals.sent.items() if not value.startswith(b"poison")})
    check_said(await rivals.plant.said(), {b"k": good + Counter({b"late": 1})})
    letters = Counter(letter.value for letter in await rivals.plant.read(LETTERS))
    assert letters == rivals.sent - good


def test_the_interleavings_do_fence_somebody():
    rivals = Rivals()
    moves = [("take", 0, 1), ("turn", 0, 6), ("put", 0, 3), ("step", 0, 1), ("take", 1, 1), ("step", 0, 1)]
    asyncio.run(check_rivals(rivals, moves))
    assert rivals.fenced
