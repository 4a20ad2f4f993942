"""The runner's rules: time seen, what is poison and who is blamed, catching up, positions, trimming."""

import pytest
from shard_kit import EXCUSES, FIRST, IN, LEDGER, LETTERS, MORE, CountingEdge, Plant, Probe, check_said, drain

from shotbus.broker.bus.base import BusError, FencedError, OffsetGapError
from shotbus.broker.deadletters import PREFIX
from shotbus.broker.runner import RunnerSettings

TICK = 0.25


@pytest.fixture
def plant():
    return Plant()


async def taken(plant, **options):
    runner = plant.runner(await plant.bus(), **options)
    await runner.take()
    return runner


async def values_said(plant):
    return [value for _, value in (await plant.said()).get(b"k", [])]


# --- poison ---


async def test_a_record_whose_handling_raises_is_set_aside_with_its_bytes_and_headers(plant):
    runner = await taken(plant)
    offsets = await plant.put(b"before", b"poison!", b"after")
    await drain(runner)
    (letter,) = await plant.read(LETTERS)
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"k", b"poison!")
    assert [header for header in letter.headers if header[0] == "a"] == [("a", b"1"), ("a", b"2")]
    assert headers[PREFIX + "topic"] == b"in"
    assert headers[PREFIX + "partition"] == b"0"
    assert headers[PREFIX + "offset"] == str(offsets[1]).encode()
    assert headers[PREFIX + "group"] == b"counting-0"
    assert b"ValueError: cannot handle" in headers[PREFIX + "message"]
    assert (headers["error-class"], headers["error-code"]) == (b"POISON", b"SB-9001")


async def test_the_neighbours_of_poison_go_on_and_its_state_is_undone(plant):
    runner = await taken(plant)
    await plant.put(b"before", b"poison!", b"after")
    await drain(runner)
    check_said(await plant.said(), {b"k": {b"before": 1, b"after": 1}})


async def test_who_sent_poison_is_told_and_an_excuse_that_fails_stops_nobody(plant):
    runner = await taken(plant)
    await plant.put(b"before", b"poison!", b"poison without excuse", b"garbage", b"after")
    await drain(runner)
    assert [record.value for record in await plant.read(EXCUSES)] == [b"poison!"]
    assert [letter.value for letter in await plant.read(LETTERS)] == [
        b"poison!",
        b"poison without excuse",
        b"garbage",
    ]
    assert await values_said(plant) == [b"before", b"after"]


async def test_an_undecodable_record_is_set_aside_as_invalid_without_a_restart(plant):
    probe = Probe()
    runner = await taken(plant, probe=probe)
    await plant.put(b"garbage", b"good")
    await drain(runner)
    (letter,) = await plant.read(LETTERS)
    assert dict(letter.headers)["error-class"] == b"INVALID"
    assert dict(letter.headers)["error-code"] == b"SB-1001"
    assert await values_said(plant) == [b"good"]
    assert probe.names.count("taken") == 1


@pytest.mark.parametrize("bad", [b"unspeakable", b"huge"])
async def test_an_output_that_cannot_be_written_costs_only_the_record_behind_it(plant, bad):
    runner = await taken(plant)
    await plant.put(b"one", bad, b"two", b"three")
    await drain(runner)
    assert await values_said(plant) == [b"one", b"two", b"three"]
    assert [letter.value for letter in await plant.read(LETTERS)] == [bad]


async def test_several_bad_records_among_good_ones_are_each_found(plant):
    runner = await taken(plant)
    await plant.put(b"huge", b"1", b"poison", b"2", b"unspeakable", b"3", b"garbage", b"huge2", b"4")
    await drain(runner)
    assert await values_said(plant) == [b"1", b"2", b"3", b"4"]
    assert len(await plant.read(LETTERS)) == 5


async def test_poison_is_forgotten_once_it_is_behind(plant):
    runner = await taken(plant)
    await plant.put(b"poison", b"good")
    await drain(runner)
    assert runner._poison == {}


async def test_a_tick_that_raises_is_no_records_fault(plant):
    runner = await taken(plant)

    def defect(event, now):
        raise ValueError("in the tick")

    runner.edge.machine.handle = defect
    with pytest.raises(ValueError, match="in the tick"):
        await runner.step(wait=0)
    assert await plant.read(LETTERS) == []


# --- catching up ---


async def test_catching_up_keeps_the_order_of_the_first_rank(plant):
    runner = await taken(plant, settings=RunnerSettings(tick=TICK, batch=2))
    await plant.put(b"1", b"2", b"3", b"4", b"5", place=FIRST)
    await plant.put(b"needs first", place=IN)
    await drain(runner)
    assert await values_said(plant) == [b"1", b"2", b"3", b"4", b"5", b"needs first"]


async def test_what_catching_up_brings_is_blamed_for_itself(plant):
    """The one record of a small batch must not be set aside for one that was read to judge it."""
    runner = await taken(plant, settings=RunnerSettings(tick=TICK, batch=1))
    await plant.put(b"unspeakable", place=FIRST)
    await plant.put(b"needs first", place=IN)
    runner._held.reader.poll = only_from(runner._held.reader, IN)
    await drain(runner)
    assert await values_said(plant) == [b"needs first"]
    assert [letter.value for letter in await plant.read(LETTERS)] == [b"unspeakable"]


def only_from(reader, place):
    """A poll that, unless told otherwise, finds the records of one partition first."""
    poll = reader.poll

    async def first_there(*, max_records, timeout, only=None):
        return await poll(max_records=max_records, timeout=timeout, only=only or [place])

    return first_there


# --- time seen ---


async def test_time_seen_advances_by_at_most_two_ticks_a_tick(plant):
    runner = await taken(plant)
    machine = runner.edge.machine
    for step, expected in [(TICK, TICK), (0.1, TICK), (0.15, 2 * TICK), (3_600.0, 4 * TICK), (0.0, 4 * TICK)]:
        plant.clock.now += step
        await runner.step(wait=0)
        assert machine.times[-1] == pytest.approx(expected)


async def test_time_seen_stands_still_while_urgent_inputs_are_unread(plant):
    runner = await taken(plant, settings=RunnerSettings(tick=TICK, batch=1))
    machine = runner.edge.machine
    await plant.put(b"1", b"2", b"3", place=IN)
    seen = []
    for _ in range(4):
        plant.clock.now += 1.0
        await runner.step(wait=0)
        seen.append(machine.times[-1])
    assert seen == [0.0, 0.0, 2 * TICK, 4 * TICK]


async def test_a_backlog_of_requests_does_not_stop_time(plant):
    runner = await taken(plant, settings=RunnerSettings(tick=TICK, batch=1))
    await plant.put(*[b"%d" % n for n in range(10)], place=MORE)
    plant.clock.now += 1.0
    await runner.step(wait=0)
    assert runner.edge.machine.times[-1] == 2 * TICK


async def test_a_taken_shard_begins_at_time_seen_zero(plant):
    runner = await taken(plant)
    for _ in range(5):
        plant.clock.now += 1.0
        await runner.step(wait=0)
    await runner.take()
    assert runner.edge.machine.times == [0.0]


# --- positions ---


async def test_positions_that_moved_without_a_decision_are_written_after_a_while(plant):
    runner = await taken(plant)
    await plant.put(b"nothing")
    await drain(runner)
    assert (await plant.positions_and_rows())[0] == {}
    plant.clock.now += 5.0
    await runner.step(wait=0)
    positions, _ = await plant.positions_and_rows()
    assert positions[IN] == (await plant.ends(IN))[IN]


async def test_an_idle_shard_writes_nothing(plant):
    runner = await taken(plant)
    for _ in range(5):
        plant.clock.now += 60.0
        await runner.step(wait=0)
    assert await plant.read(LEDGER) == []


async def test_inputs_are_trimmed_behind_durable_positions_only(plant):
    runner = await taken(plant)
    await plant.put(b"a", b"b", b"nothing", b"nothing")
    await drain(runner)
    plant.clock.now += 1.0
    await plant.put(b"nothing")
    await drain(runner)
    plant.clock.now += 10.0
    await runner.step(wait=0)
    positions, _ = await plant.positions_and_rows()
    bus = await plant.bus()
    assert (await bus.begins([IN]))[IN] == positions[IN]
    await (await taken(plant)).step(wait=0)


async def test_what_is_kept_for_a_time_is_not_trimmed_before(plant):
    runner = await taken(plant)
    place = runner._held.edge.inputs[1]
    runner._held.edge.inputs[1] = place._replace(keep_ms=60_000)
    offsets, begins, bus = await plant.put(b"a"), list[int](), await plant.bus()
    await drain(runner)
    for seconds in (20.0, 31.0):
        plant.clock.now += seconds
        # Positions that moved are written, then what is behind them may go.
        offsets += await plant.put(b"nothing")
        await drain(runner)
        plant.clock.now += 10.0
        await runner.step(wait=0)
        begins.append((await bus.begins([IN]))[IN])
    assert begins == offsets[:2]


async def test_a_gap_in_the_inputs_is_an_error_and_never_a_skip(plant):
    runner = await taken(plant)
    await plant.put(b"a")
    await drain(runner)
    await runner.release()
    offsets = await plant.put(b"lost", b"kept")
    bus = await plant.bus()
    await bus.trim({IN: offsets[1]})
    successor = await taken(plant)
    with pytest.raises(OffsetGapError):
        await successor.step(wait=0)


# --- lives ---


async def test_a_shard_must_be_taken_before_it_runs(plant):
    with pytest.raises(RuntimeError):
        await plant.runner(await plant.bus()).step(wait=0)


async def test_whoever_was_fenced_says_so_and_writes_nothing(plant):
    zombie = await taken(plant)
    await taken(plant)
    await plant.put(b"a")
    with pytest.raises(FencedError):
        await zombie.step(wait=0)
    assert await plant.said() == {}


async def test_a_taking_that_fails_closes_what_it_had_opened(plant):
    bus = await plant.bus()
    opened = []

    class Doomed(CountingEdge):
        def __init__(self, bus):
            super().__init__(bus)
            opened.append(self)

        @property
        def inputs(self):
            raise BusError("away")

        @inputs.setter
        def inputs(self, _):
            pass

        async def close(self):
            opened.remove(self)

    runner = plant.runner(bus, build=lambda: Doomed(bus))
    with pytest.raises(BusError):
        await runner.take()
    assert opened == []
    assert runner.edge is None
