"""A shard takes its ledger back as it is read: every row in order for who wants it, the last ones for others."""

from shard_kit import LEDGER, Counting, Plant, drain

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.ledger import LastRows, positions_row, read_ledger, replay_ledger
from shotbus.reducers.fold import Fold

INPUT = TopicPartition("in", 0)
#: A ledger that was never compacted.
WHOLE = TopicPartition("out", 0)


async def written(*rows):
    plant = Plant()
    bus = await plant.bus()
    await bus.publish([Outgoing(*WHOLE, key, row) for key, row in rows])
    return bus


async def test_every_row_comes_in_order_and_the_last_positions_count():
    positions = [positions_row(WHOLE, {INPUT: number}) for number in (3, 7)]
    bus = await written((b"a", b"1"), (positions[0].key, positions[0].value), (b"a", b"2"), (b"b", b"1"))
    await bus.publish([Outgoing(*WHOLE, b"a", None), positions[1]])
    taken = []
    found = await replay_ledger(bus, WHOLE, lambda key, row: taken.append((key, row)))
    assert taken == [(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"a", None)]
    assert found == {INPUT: 7}
    assert await read_ledger(bus, WHOLE) == {b"b": b"1"}


async def test_an_empty_ledger_has_neither_rows_nor_positions():
    rows = LastRows()
    assert (await replay_ledger(await written(), LEDGER, rows.take), rows.rows) == ({}, {})


class Streamed(Counting):
    """Takes rows as they come."""

    def restore(self, key, snapshot):
        raise AssertionError("rows come one by one")

    def restore_row(self, key, row):
        if row is None:
            self.counts.pop(key, None)
        else:
            super().restore(key, row)


async def test_a_machine_that_takes_rows_is_not_given_them_twice():
    plant, machine = Plant(), Streamed()
    runner = plant.runner(await plant.bus())
    await runner.take()
    for value in (b"first", b"second"):
        await plant.put(value)
        await drain(runner)
    edge = runner._build()
    edge.machine = machine
    runner._build = lambda: edge
    await runner.take()
    assert machine.counts == {b"k": 2}


def test_a_fold_forgets_what_was_written_and_then_removed():
    fold = Fold(4, 1_000)
    fold.restore_row(b"s/1", None)
    assert not fold.knows("s")
    for key in (b"s", b"s/0", b"s/1"):
        fold.restore_row(key, b"row")
    fold.restore_row(b"s/1", b"again")
    assert fold.snapshot(b"s/1") == b"again"
    for key in (b"s/1", b"s", b"s/0"):
        assert fold.knows("s")
        fold.restore_row(key, None)
    assert not fold.knows("s")
