"""The embedded bus in one process: compaction, retention, what it refuses to open, and its small parts."""

import asyncio
import os
import sqlite3
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus import sqlite_tidy
from shotbus.broker.bus.base import BusError, FencedError, OffsetGapError, Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.doorbell import Doorbell
from shotbus.broker.bus.sqlite import SqliteBus
from shotbus.broker.bus.sqlite_files import WriteLock, prepare_directory, refuse_network_file_system
from shotbus.broker.bus.sqlite_schema import pack_headers, unpack_headers

A = TopicPartition("a", 0)
DAY_MS = 86_400_000


@pytest.fixture
async def bus(tmp_path):
    bus = SqliteBus(tmp_path / "log")
    await bus.start()
    yield bus
    await bus.close()


async def write(bus, run):
    """Run ``run(connection)`` where housekeeping runs."""
    return await bus._open().writer.call(run)


def rows(bus):
    return bus._open().read("SELECT count(*) FROM log")[0][0]


async def eventually(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def read_all(bus, start=0):
    reader, end, records = bus.reader({A: start}), (await bus.ends([A]))[A], []
    while reader.position(A) < end:
        records += await reader.poll(max_records=1_000, timeout=0)
    return records


def now_ms():
    return time.time_ns() // 1_000_000


async def test_normal_synchronisation_is_declared_as_weaker(tmp_path):
    assert SqliteBus(tmp_path).capabilities.durable_on_ack
    assert not SqliteBus(tmp_path, synchronous="NORMAL").capabilities.durable_on_ack


async def test_superseded_rows_are_removed_in_the_background(bus):
    await bus.create_topics([TopicSpec("a", 1, "compact")])
    for step in range(30):
        await bus.publish([Outgoing("a", 0, b"%d" % key, b"%d" % step) for key in range(100)])
    await eventually(lambda: rows(bus) == 100)
    assert {record.value for record in await read_all(bus)} == {b"29"}
    assert (await bus.ends([A]))[A] == 3_000


async def test_compaction_left_over_by_another_process_is_done_after_a_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_tidy.Tidier, "appended", lambda self, logs: None)
    first = SqliteBus(tmp_path)
    await first.start()
    await first.create_topics([TopicSpec("a", 1, "compact")])
    await first.publish([Outgoing("a", 0, b"k", b"%d" % step) for step in range(500)])
    assert rows(first) == 500
    await first.close()
    second = SqliteBus(tmp_path)
    await second.start()
    await eventually(lambda: rows(second) == 1)
    await second.close()


async def test_tombstones_vanish_after_their_time_and_the_end_stays(bus):
    await bus.create_topics([TopicSpec("a", 1, "compact")])
    await bus.publish([Outgoing("a", 0, b"k", b"v"), Outgoing("a", 0, b"k", None)])
    await eventually(lambda: rows(bus) == 1)
    await write(bus, lambda connection: sqlite_tidy.bury_tombstones(connection, now_ms() - 60_000))
    assert rows(bus) == 1
    await write(bus, lambda connection: sqlite_tidy.bury_tombstones(connection, now_ms() + 1_000))
    assert rows(bus) == 0
    assert await bus.ends([A]) == {A: 2}
    assert await bus.publish([Outgoing("a", 0, b"k", b"w")]) == [2]


@pytest.mark.parametrize("cleanup", ["delete", "compact,delete"])
async def test_expired_records_are_deleted_and_reading_them_is_an_error(bus, cleanup):
    await bus.create_topics([TopicSpec("a", 1, cleanup, retention_ms=DAY_MS)])
    await bus.publish([Outgoing("a", 0, b"%d" % number, b"old") for number in range(700)])
    await asyncio.sleep(0.01)
    moment = now_ms()
    await asyncio.sleep(0.01)
    await bus.publish([Outgoing("a", 0, b"new", b"new")])
    await write(bus, lambda connection: sqlite_tidy.expire(connection, moment + DAY_MS))
    assert await bus.begins([A]) == {A: 700}
    with pytest.raises(OffsetGapError):
        await bus.reader({A: 0}).poll(max_records=1, timeout=0)
    assert [record.value for record in await read_all(bus, 700)] == [b"new"]
    bus._open().writer.trimmed([1])
    await eventually(lambda: rows(bus) == 1)


async def test_records_without_retention_are_kept(bus):
    await bus.create_topics([TopicSpec("a", 1)])
    await bus.publish([Outgoing("a", 0, None, b"old")])
    await write(bus, lambda connection: sqlite_tidy.expire(connection, now_ms() + 1_000 * DAY_MS))
    assert len(await read_all(bus)) == 1


async def test_trimmed_rows_leave_the_file(bus):
    await bus.create_topics([TopicSpec("a", 1, "trim")])
    await bus.publish([Outgoing("a", 0, None, b"v")] * 3_000)
    await bus.trim({A: 2_990})
    await eventually(lambda: rows(bus) == 10)
    await bus.trim({A: 100})
    assert await bus.begins([A]) == {A: 2_990}


async def test_a_failing_call_undoes_only_itself(bus):
    await bus.create_topics([TopicSpec("a", 1)])

    def fail(connection):
        connection.execute("DELETE FROM log")
        raise BusError("no")

    publish = bus.publish([Outgoing("a", 0, None, b"v")])
    outcomes = await asyncio.gather(publish, write(bus, fail), return_exceptions=True)
    assert outcomes[0] == [0]
    assert isinstance(outcomes[1], BusError)
    assert len(await read_all(bus)) == 1


async def test_an_error_of_the_database_fails_the_batch_and_not_the_bus(bus):
    await bus.create_topics([TopicSpec("a", 1)])
    with pytest.raises(BusError, match="no such table"):
        await write(bus, lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await bus.publish([Outgoing("a", 0, None, b"v")]) == [0]


async def test_a_cancelled_publish_disturbs_nobody(bus):
    await bus.create_topics([TopicSpec("a", 1)])
    doomed = asyncio.create_task(bus.publish([Outgoing("a", 0, None, b"1")]))
    await asyncio.sleep(0)
    doomed.cancel()
    await bus.publish([Outgoing("a", 0, None, b"2")])
    assert [record.value for record in await read_all(bus)][-1] == b"2"


@pytest.fixture
async def strangers(tmp_path):
    """Two instances on one log, with a topic; the first remembers its end and an epoch of shard s."""
    made = SqliteBus(tmp_path), SqliteBus(tmp_path)
    for bus in made:
        await bus.start()
    await made[0].create_topics([TopicSpec("a", 1)])
    yield made
    for bus in made:
        await bus.close()


async def test_housekeeping_does_not_hide_that_another_process_has_written(strangers):
    first, second = strangers
    await first.publish([Outgoing("a", 0, None, b"0")])
    await second.publish([Outgoing("a", 0, None, b"1")])
    first._open().writer._tidy()
    assert await first.publish([Outgoing("a", 0, None, b"2")]) == [2]


async def test_housekeeping_does_not_hide_that_another_process_has_fenced(strangers):
    first, second = strangers
    zombie = await first.fence("s")
    await zombie.commit([Outgoing("a", 0, None, b"0")])
    await second.fence("s")
    first._open().writer._tidy()
    with pytest.raises(FencedError):
        await zombie.commit([Outgoing("a", 0, None, b"late")])
    assert await second.ends([A]) == {A: 1}


async def test_the_directory_is_made_for_the_owner_only(bus, tmp_path):
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700


async def test_a_foreign_database_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(BusError, match="not a shotbus log"):
        await SqliteBus(tmp_path).start()


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "log.db").write_bytes(b"precious text" * 100)
    with pytest.raises(BusError, match="cannot open the log"):
        await SqliteBus(tmp_path).start()
    assert (tmp_path / "log.db").read_bytes().startswith(b"precious")


async def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "log").touch()
    with pytest.raises(BusError, match="cannot create the data directory"):
        await SqliteBus(tmp_path / "log").start()


async def test_a_directory_path_too_long_for_a_socket_works(tmp_path):
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    first, second = SqliteBus(deep), SqliteBus(deep)
    await first.start()
    await second.start()
    await first.create_topics([TopicSpec("a", 1)])
    waiting = asyncio.create_task(second.reader({A: 0}).poll(max_records=1, timeout=60))
    await first.publish([Outgoing("a", 0, None, b"v")])
    assert len(await waiting) == 1
    await first.close()
    await second.close()


MOUNTS = r"""
22 1 0:21 / / rw,relatime - ext4 /dev/vda rw
23 22 0:22 / /home rw,relatime shared:1 - nfs4 server:/home rw
24 22 0:23 / /home/me/local\040disk rw - xfs /dev/vdb rw
25 22 0:24 / /mnt/remote rw - fuse.sshfs me@host:/ rw
26 22 0:25 / /mnt/box rw - fuse.mergerfs pool rw
27 22 0:26 / /srv rw - ext4 /dev/vdc rw
28 22 0:27 / /srv rw - cifs //server/share rw
"""


@pytest.mark.parametrize("path", ["/home/me/data", "/home", "/mnt/remote/x", "/srv/hidden"])
def test_network_file_systems_are_refused(path, tmp_path):
    with pytest.raises(BusError, match="network file system"):
        refuse_network_file_system(tmp_path.__class__(path), MOUNTS)


@pytest.mark.parametrize("path", ["/var/lib/x", "/home/me/local disk/x", "/homeless", "/mnt/box/x"])
def test_local_file_systems_are_accepted(path, tmp_path):
    refuse_network_file_system(tmp_path.__class__(path), MOUNTS)


def test_preparing_consults_the_mounts_of_this_process(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    table.write_text("22 1 0:21 / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr("shotbus.broker.bus.sqlite_files.MOUNTINFO", table)
    with pytest.raises(BusError, match="nfs4"):
        prepare_directory(tmp_path / "log")


def test_the_lock_has_one_holder_and_tells_of_strangers(tmp_path):
    heard = []
    mine = WriteLock(tmp_path / "lock", lambda: heard.append("mine"))
    yours = WriteLock(tmp_path / "lock", lambda: heard.append("yours"))
    assert mine.acquire()
    assert not yours.acquire()
    assert yours.holder() == os.getpid()
    mine.release()
    assert mine.wanted()
    assert not mine.wanted()
    assert mine.acquire()
    mine.release()
    assert heard == ["mine"]
    assert yours.acquire()
    yours.release()
    assert heard == ["mine", "yours"]
    mine.close()
    yours.close()


@pytest.fixture
def bells(tmp_path):
    made = [Doorbell(tmp_path), Doorbell(tmp_path)]
    yield made
    for bell in made:
        bell.close()


def test_a_bell_tells_which_keys_have_changed(bells):
    bells[0].ring([3, 5])
    bells[0].ring([5, 2**32 - 1])
    assert bells[1].drain() == {3, 5, 2**32 - 1}
    assert bells[1].drain() == frozenset()
    assert bells[0].drain() == frozenset(), "nobody rings at himself"


def test_a_bell_that_may_have_overflowed_tells_everything(bells):
    for key in range(1, 2_000):
        bells[0].ring([key])
    assert bells[1].drain() is None
    bells[0].ring(range(1, 100))
    assert bells[1].drain() is None


def test_a_dead_bell_is_recognised_and_removed_by_the_next_ring(bells, tmp_path):
    assert not bells[0].is_dead(bells[1].name)
    bells[1].bell.close()
    assert bells[0].is_dead(bells[1].name)
    bells[0].ring([1])
    assert not (tmp_path / bells[1].name).exists()
    assert bells[0].is_dead(bells[1].name)


async def test_a_bell_that_someone_removed_is_put_back(bus, tmp_path):
    doorbell = bus._open().doorbell
    (tmp_path / "log" / "bells" / doorbell.name).unlink()
    assert doorbell.missing()
    bus._ensure_bell()
    assert not doorbell.missing()
    other = Doorbell(tmp_path / "log" / "bells")
    listener = bus._news.listen({7})
    other.ring([7])
    async with asyncio.timeout(60):
        await listener.wait(60)
    other.close()


@given(st.lists(st.tuples(st.text(), st.binary())))
def test_headers_are_packed_without_loss(headers):
    assert unpack_headers(pack_headers(tuple(headers))) == tuple(headers)
