"""A thread with a SQLite connection of its own, fed in batches from an event loop. Does file I/O.

Invariants:

* the event loop never touches the file: it hands over calls and awaits their futures;
* calls of one lane run in order; the calls that queued up while one batch ran are the next batch,
  and a writing batch is one transaction, so a burst of small writes costs one commit;
* writers of all processes queue on an ``flock`` beside the file, not on SQLite's busy handler,
  whose sleeping retries are ten times slower at the 95th percentile;
* the file may vanish or break at any time: a lane notices and makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shotbus.broker.files import make_private_directory
from shotbus.broker.store.base import StoreError

Call = Callable[[sqlite3.Connection], Any]

# Marks the file as ours ("shbs"): a mistyped path must not make us wipe someone else's database.
APPLICATION_ID = 0x73686273
SCHEMA_VERSION = 1
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE items (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL);
CREATE INDEX items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
CREATE TABLE ranks (name TEXT, member TEXT, score REAL NOT NULL, PRIMARY KEY (name, member)) WITHOUT ROWID;
CREATE INDEX ranks_by_score ON ranks (name, score, member);
"""
_MAX_BATCH = 256
_MAX_QUEUED = 10_000
_BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: Call
    future: asyncio.Future[Any]


class Lane:
    """One worker thread; ``writes`` wraps each of its batches in the write lock and a transaction."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._file = _File(path)
        self._writes = writes
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"store-{path.name}", daemon=True)
        self._thread.start()

    async def do(self, call: Call, timeout: float) -> Any:
        """Run ``call`` with the connection; raises :class:`StoreError`, after ``timeout`` s at most."""
        if self._queue.qsize() >= _MAX_QUEUED:
            raise StoreError(f"the store is {_MAX_QUEUED} calls behind; is its disk or lock stuck?")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Waiting(call, future))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            raise StoreError(f"{self._file.path} did not answer within {timeout} s") from error

    async def close(self, timeout: float) -> None:
        """End the thread; one that hangs in a dead file system is left behind (it is a daemon)."""
        self._queue.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._closed

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = self._gather(first)
            self._answer(*self._attempt(batch))
            if ended:
                break
        self._file.close()
        self._post(self._closed.set_result, None)

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch: list[_Waiting | None] = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _MAX_BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        # A caller that gave up must not have its write appear later.
        wanted = [waiting for waiting in batch if waiting is not None and not waiting.future.done()]
        return wanted, batch[-1] is None

    def _attempt(self, batch: list[_Waiting]) -> tuple[list[_Waiting], list[Any] | Exception]:
        try:
            return batch, self._file.run([waiting.call for waiting in batch], writes=self._writes)
        except (sqlite3.Error, OSError) as error:
            self._file.close()
            problem = StoreError(f"{self._file.path}: {error}")
            problem.__cause__ = error
            return batch, problem
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers; the lane lives on
            self._file.close()
            return batch, error

    def _answer(self, batch: list[_Waiting], outcome: list[Any] | Exception) -> None:
        def deliver() -> None:
            for position, waiting in enumerate(batch):
                if waiting.future.done():
                    continue
                if isinstance(outcome, Exception):
                    waiting.future.set_exception(outcome)
                else:
                    waiting.future.set_result(outcome[position])

        self._post(deliver)

    def _post(self, callback: Callable[..., Any], *arguments: Any) -> None:
        # The loop may have been closed without closing the store: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)


class _File:
    """The database file as one thread sees it: opened when needed, made anew when it is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def run(self, calls: Sequence[Call], *, writes: bool) -> list[Any]:
        try:
            return self._once(calls, writes=writes)
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
            self._replace()
            return self._once(calls, writes=writes)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, calls: Sequence[Call], *, writes: bool) -> list[Any]:
        if not writes:
            connection = self._opened()
            return [call(connection) for call in calls]
        with self._lock():
            connection = self._opened_locked()
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = [call(connection) for call in calls]
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            return results

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == _identity(self.path):
            return self._connection
        with self._lock():
            return self._opened_locked()

    def _opened_locked(self) -> sqlite3.Connection:
        """Return a connection to the file that is at the path *now*.

        A deleted file stays alive for whoever has it open: without this comparison two processes
        would go on writing into two files of the same name.
        """
        if self._connection is None or self._identity != _identity(self.path):
            self.close()
            self._connection = _connect(self.path)
            self._identity = _identity(self.path)
        return self._connection

    def _replace(self) -> None:
        """Delete the broken file, unless another process has done it already."""
        with self._lock():
            self.close()
            if self._identity in (None, _identity(self.path)):
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        make_private_directory(self.path.parent)
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    # Cached results are not public: the file is created for its owner only, before SQLite opens it.
    # Never open one that exists: closing any descriptor of a file drops this process's POSIX locks on
    # it, another process then takes itself for the last user, and deletes the WAL under us.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=64)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the connection up, create the tables in a new file, and refuse a file of someone else.

    NORMAL, not OFF: what is lost is only a cache, but a power cut with OFF can leave pages that read
    without an error and are wrong.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if tables and owner != APPLICATION_ID:
        raise StoreError(f"{path} is a database of something else: choose another file for the store")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if not tables:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError("no such table: the file has another version's tables")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    """Tell a file that must be made anew from one that is only busy, full or out of reach.

    The statements here are fixed, so a plain SQLITE_ERROR can only mean that our tables are not there.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    broken = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return code & 0xFF in broken or code == sqlite3.SQLITE_IOERR_SHORT_READ
