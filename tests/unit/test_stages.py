"""The table of stages: one order on the wire, only ever appended to."""

import struct

import pytest

from shotbus.broker.stages import INDEX, STAGES, Timings

# The packed order. New stages go behind the last one.
GOLDEN = (
    *("client-prepare", "serialise", "submit-ack", "admit", "queue", "lease", "compile", "provider-submit"),
    *("provider-queue", "execute", "retrieve", "decode", "reduce", "deliver", "think"),
)


def test_the_order_on_the_wire_is_frozen():
    assert tuple(stage.name for stage in STAGES)[: len(GOLDEN)] == GOLDEN
    assert INDEX["execute"] == 9


def test_each_stage_is_measured_by_a_component_that_exists():
    assert {stage.where for stage in STAGES} <= {"client", "dispatcher", "worker", "reducer"}


def test_timings_survive_the_wire():
    timings = Timings()
    timings.add("execute", 1.5, bytes_in=10, bytes_out=20)
    timings.add("execute", 0.25, bytes_in=1)
    back = Timings.unpack(timings.pack())
    assert back.as_dict() == {"execute": 1.75}
    assert back.rows() == [(INDEX["execute"], 1.75, 11, 20)]
    assert back.bytes_by_stage() == {"execute": (11, 20)}


def test_only_passed_stages_travel_in_the_tables_order():
    timings = Timings()
    timings.add("think", 1.0)
    timings.add("admit", 2.0)
    assert len(timings.pack()) == 2 * 25
    assert list(Timings.unpack(timings.pack()).as_dict()) == ["admit", "think"]


def test_a_stage_from_a_later_version_is_passed_over():
    row = struct.pack("<BdQQ", 200, 1.0, 2, 3)
    assert Timings.unpack(row).as_dict() == {}


def test_shares_and_merges_keep_the_sum():
    timings = Timings()
    timings.add("execute", 2.0, bytes_in=10, bytes_out=4)
    half = timings.share(0.5)
    half.merge(half.share(1.0))
    assert half.rows() == timings.rows()
    assert half.seconds("execute") == 2.0
    assert half.seconds("compile") == 0.0


def test_clocks_of_two_machines_never_make_time_negative():
    timings = Timings()
    timings.add("deliver", -3.0)
    assert timings.as_dict() == {}


@pytest.mark.parametrize("data", [b"", b"short", bytes(7), struct.pack("<d", 1.0)])
def test_what_is_absent_or_of_another_length_reads_as_nothing(data):
    assert Timings.unpack(data).as_dict() == {}


def test_an_unknown_stage_is_a_defect():
    with pytest.raises(KeyError):
        Timings().add("lunch", 1.0)
