"""What only the SQLite store has to bear: its file is deleted, broken, locked or someone else's."""

import asyncio
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
async def store(path):
    made = SqliteStore(path)
    await made.start()
    yield made
    await made.close()


def delete(path):
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def delete_only_the_main_file(path):
    path.unlink()


def delete_the_folder_contents_with_the_lock(path):
    for file in path.parent.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "damage", [delete, delete_only_the_main_file, delete_the_folder_contents_with_the_lock]
)
async def test_a_file_deleted_in_mid_run_is_made_again(store, path, damage):
    await store.put_many({"a": b"1"})
    damage(path)
    assert await store.get_many(["a"]) == [None]
    await store.put_many({"a": b"2"})
    assert await store.get_many(["a"]) == [b"2"]
    assert path.exists()


async def test_after_a_deletion_all_stores_share_the_new_file(store, path):
    other = SqliteStore(path)
    await other.start()
    await other.put_many({"a": b"1"})
    delete(path)
    await store.put_many({"b": b"2"})
    await other.put_many({"c": b"3"})
    assert await store.get_many(["a", "b", "c"]) == [None, b"2", b"3"]
    assert await other.get_many(["a", "b", "c"]) == [None, b"2", b"3"]
    await other.close()
    assert await store.get_many(["a", "b", "c"]) == [None, b"2", b"3"]
    late = SqliteStore(path)
    await late.start()
    assert await late.get_many(["a", "b", "c"]) == [None, b"2", b"3"]
    await late.close()


def write_garbage(path):
    delete(path)
    path.write_bytes(b"this is no database" * 1000)


def flip_pages(path):
    content = bytearray(path.read_bytes())
    content[100:] = os.urandom(len(content) - 100)
    path.write_bytes(content)


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [write_garbage, flip_pages, halve])
async def test_a_corrupt_file_is_made_anew_at_the_start(path, damage):
    for _ in range(2):
        store = SqliteStore(path)
        await store.start()
        await store.put_many({f"k{number}": bytes(5000) for number in range(50)})
        assert await store.get_many(["k7"]) == [bytes(5000)]
        await store.close()
        damage(path)


async def test_pages_broken_in_mid_run_are_at_worst_a_loss(store, path):
    await store.put_many({f"k{number}": bytes(5000) for number in range(200)})
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    flip_pages(path)
    values = await store.get_many([f"k{number}" for number in range(200)])
    assert set(values) <= {None, bytes(5000)}
    await store.put_many({"k1": b"new"})
    assert await store.get_many(["k1"]) == [b"new"]


async def test_tables_of_another_version_are_replaced(path):
    store = SqliteStore(path)
    await store.start()
    await store.put_many({"a": b"1"})
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    await store.start()
    assert await store.get_many(["a"]) == [None]
    await store.close()


async def test_a_database_of_something_else_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE log (payload BLOB)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of something else"):
        await SqliteStore(path).start()
    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_is_a_store_error_and_heals(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = SqliteStore(tmp_path / "file" / "store.db")
    with pytest.raises(StoreError):
        await store.start()
    (tmp_path / "file").unlink()
    await store.start()
    await store.put_many({"a": b"1"})
    assert await store.get_many(["a"]) == [b"1"]
    await store.close()


async def test_a_stuck_write_lock_fails_writes_in_time_and_never_reads(path):
    store = SqliteStore(path, timeout=0.3)
    await store.start()
    await store.put_many({"a": b"1"})
    with path.with_name("store.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begin = time.monotonic()
        waiting = asyncio.create_task(store.put_many({"a": b"given up"}))
        assert await store.get_many(["a"]) == [b"1"]
        with pytest.raises(StoreError, match="did not answer"):
            await waiting
        assert time.monotonic() - begin < 2
    await store.put_many({"b": b"2"})
    assert await store.get_many(["b"]) == [b"2"]
    await store.close()


async def test_the_file_is_readable_by_its_owner_only(store, path):
    await store.put_many({"a": b"1"})
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


async def test_expired_items_leave_the_file(path):
    now = [1000.0]
    store = SqliteStore(path, clock=lambda: now[0])
    await store.start()
    await store.put_many({f"k{number}": b"v" for number in range(500)}, ttl=10)
    now[0] += 11
    await store.put_many({"other": b"v"})
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT key FROM items").fetchall() == [("other",)]
    connection.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from shotbus.broker.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.start()
    print("ready", flush=True)
    while True:
        await store.put_many({f"k:{n}": bytes(2000) for n in range(20)})

asyncio.run(main())
"""


async def test_a_writer_killed_in_mid_write_blocks_and_breaks_nothing(store, path):
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert await asyncio.to_thread(writer.stdout.readline) == b"ready\n"
        await store.put_many({"a": b"1"})
        writer.kill()
        writer.communicate()
        begin = time.monotonic()
        await store.put_many({"a": b"2"})
        assert await store.get_many(["a"]) == [b"2"]
        assert time.monotonic() - begin < 2


async def test_the_event_loop_does_not_wait_for_the_disk(store):
    task = asyncio.create_task(store.put_many({f"k:{n}": bytes(20_000) for n in range(2000)}))
    await asyncio.sleep(0)
    gaps = []
    while not task.done():
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        gaps.append(time.perf_counter() - begin)
    await task
    assert gaps
    assert sorted(gaps)[len(gaps) // 2] < 0.05
