"""Batches as hostile producers make them: bombs become one record, names that are no text are repaired."""

import struct

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus.kafka_batches import MAX_UNPACKED_BYTES, repair, tame
from shotbus.broker.bus.limits import OVERSIZE_BATCH

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def batch(records, codec=0, *, base=0):
    """A batch of (key, value, headers) as a producer sends it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1_000 + number, key, value, list(headers))
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    return bytes(built)


def resealed(data):
    """The batch with the CRC that belongs to its bytes."""
    built = bytearray(data)
    struct.pack_into(">I", built, 17, calc_crc32c(bytes(built[21:])))
    return bytes(built)


def read(data):
    """(offset, key, value, headers) of every record, and the offset behind the last batch."""
    records, found, end = MemoryRecords(data), [], None
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        end = one.next_offset
        found += [(record.offset, record.key, record.value, list(record.headers)) for record in one]
    return found, end


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_is_of_a_bearable_size_stays_as_it_is(codec):
    data = batch([(b"k", b"v" * 10_000, [("a", b"1")])] * 20, codec, base=7)
    assert tame(data) == data
    assert read(data)[1] == 27


@pytest.mark.parametrize("codec", list(CODECS.values())[1:], ids=list(CODECS)[1:])
def test_a_bomb_becomes_one_record_with_the_batch_as_it_came_and_nobody_else_is_hit(codec):
    bomb = batch([(b"k", bytes(60_000_000), [])] * 2, codec, base=5)
    good = batch([(b"k", b"v", [])], codec, base=3)
    found, end = read(tame(good + bomb + batch([(b"k", b"w", [])], base=7)))
    assert [offset for offset, *_ in found] == [3, 6, 7]
    assert found[1][1:] == (None, bomb, [(OVERSIZE_BATCH, str(len(bomb)).encode())])
    assert ([one[2] for one in (found[0], found[2])], end) == ([b"v", b"w"], 8)


def test_the_blocks_of_java_s_snappy_are_counted_too():
    raw = batch([(b"k", bytes(1_000), [])])[61:]

    def framed(blocks):
        parts = [b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)]
        for block in blocks:
            packed = bytes(cramjam.snappy.compress_raw(block))
            parts += [struct.pack(">i", len(packed)), packed]
        head = bytearray(batch([(b"k", bytes(1_000), [])])[:61])
        head[22] |= CODECS["snappy"]
        built = bytes(head) + b"".join(parts)
        return resealed(built[:8] + struct.pack(">i", len(built) - 12) + built[12:])

    good = framed([raw])
    assert tame(good) == good
    ((_, _, value, ((name, _),)),), _ = read(tame(framed([bytes(1_000_000)] * 10)))
    assert name == OVERSIZE_BATCH
    assert len(value) > 400_000


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
def test_what_cannot_be_unpacked_at_all_becomes_one_record_too(codec):
    data = bytearray(batch([(b"k", b"v" * 100, [])] * 3, base=9))
    data[22] |= codec
    ((offset, _, value, _),), end = read(tame(resealed(data)))
    assert (offset, end) == (11, 12)
    assert len(value) == len(data)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_name_that_is_no_text_is_repaired_and_everything_else_stays(codec):
    # As long as the name will be: what is patched afterwards must not move.
    data = batch([(b"k", b"v", [("ab", b"1"), ("cd", b"2")]), (None, None, [])], 0, base=4)
    data = bytearray(data.replace(b"ab", b"\xff\xfe"))
    if codec:
        names = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
        packer = getattr(cramjam, names[codec])
        body = bytes(
            packer.compress_raw(bytes(data[61:])) if codec == 2 else packer.compress(bytes(data[61:]))
        )
        data = data[:61] + body
        data[22] |= codec
        struct.pack_into(">i", data, 8, len(data) - 12)
    data = resealed(data)
    with pytest.raises(UnicodeDecodeError):
        read(data)
    found, end = read(repair(tame(data)))
    assert found == [(4, b"k", b"v", [("\ufffd\ufffd", b"1"), ("cd", b"2")]), (5, None, None, [])]
    assert end == 6


def test_a_batch_cut_off_at_the_end_of_a_fetch_is_left_out():
    data = batch([(b"k", b"v", [])], 1)
    assert read(tame(data + data[:40]))[0] == read(data)[0]
    assert read(repair(data + data[:40]))[0] == read(data)[0]


def test_records_compacted_away_behind_the_last_one_keep_their_offsets():
    data = bytearray(batch([(b"k", b"v", [])], base=4))
    struct.pack_into(">i", data, 23, 9)
    assert read(repair(resealed(data)))[1] == 14


RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=200),
        st.lists(
            st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), st.binary(max_size=20)), max_size=3
        ),
    ),
    min_size=1,
    max_size=8,
)


@given(RECORDS, st.sampled_from(list(CODECS.values())), st.integers(0, 2**40))
def test_repairing_what_needs_none_changes_no_record(records, codec, base):
    data = batch(records, codec, base=base)
    assert read(repair(tame(data))) == read(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data):
    assert len(tame(data)) <= max(len(data), MAX_UNPACKED_BYTES)
    repair(data)
