"""Writing the embedded log: group commit, in the event loop. Does disk I/O.

Whatever the tasks of a process asked for within one turn of the loop becomes one transaction. It runs in the
loop itself, although the loop stands still while the disk syncs (0.1 to 0.3 ms on a solid-state disk): a
thread must get the interpreter lock back after every step of SQLite, and beside a loop that is never idle a
thread was measured to wait 25 s for one commit. Waiting for another process's commit does not block the loop.

Fencing is checked under the write lock, so that nothing can come between the check and the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shotbus.broker.bus.base import BusError, CommitUnknownError, FencedError
from shotbus.broker.bus.doorbell import Doorbell
from shotbus.broker.bus.sqlite_files import WriteLock
from shotbus.broker.bus.sqlite_schema import DATABASE, Synchronous, open_writer
from shotbus.broker.bus.sqlite_tail import BLOCK, Row, Tail
from shotbus.broker.bus.sqlite_tidy import Tidier

T = TypeVar("T")
Tell = Callable[[Collection[int]], None]

_logger = logging.getLogger(__name__)
_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 5_000
_WAL_LIMIT = 64 * 1024 * 1024
_LOCK_RETRY_S = 0.001
_LOCK_WARNING_S = 10.0
_TIDY_RETRY_S = 0.05


@dataclass(slots=True)
class Append:
    """Rows to be appended together; ``fence`` is the shard and the epoch it was taken with."""

    rows: list[Row]
    size: int
    compacted: list[int]
    fence: tuple[str, int] | None
    done: asyncio.Future[list[int]]

    def failure(self, cause: BaseException) -> BusError:
        """Return what the caller is told when the transaction failed."""
        if self.fence is not None:
            return CommitUnknownError(f"the commit of shard {self.fence[0]} failed: {cause}")
        return BusError(f"the log could not be written: {cause}")


@dataclass(slots=True)
class Call:
    """A function to run inside the transaction; ``news`` are the keys it changes."""

    run: Callable[[sqlite3.Connection], Any]
    news: Collection[int]
    done: asyncio.Future[Any]
    size: int = 0
    rows: tuple[Row, ...] = ()

    def failure(self, cause: BaseException) -> BusError:
        """Return what the caller is told when the transaction failed."""
        return BusError(f"the log could not be written: {cause}")


Operation = Append | Call


class Writer:
    """The queue of what is to be written, and the connection that writes it."""

    def __init__(self, directory: Path, synchronous: Synchronous, doorbell: Doorbell, tell: Tell) -> None:
        self._directory = directory
        self._synchronous = synchronous
        self._doorbell = doorbell
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        self._turn: asyncio.Handle | None = None
        self._tidy_turn: asyncio.TimerHandle | None = None
        self._tidier = Tidier()
        self._closing = False
        self._waiting_since: float | None = None
        self._unchecked = 0
        self._tail = Tail()
        self._lock = WriteLock(directory / "lock", on_stranger=self._tail.forget)
        self._connection: sqlite3.Connection

    async def start(self) -> None:
        """Open the database. Raises :class:`BusError`."""
        try:
            await self._acquire()
            try:
                self._connection = open_writer(self._directory, self._synchronous)
            finally:
                self._lock.release()
        except BaseException:
            self._lock.close()
            raise
        self._plan_tidying()

    async def append(
        self, rows: list[Row], *, size: int, compacted: list[int], fence: tuple[str, int] | None = None
    ) -> list[int]:
        """Append ``rows`` atomically and return their offsets once durable."""
        operation = Append(rows, size, compacted, fence, self._loop.create_future())
        self._put(operation)
        return await operation.done

    async def call(self, run: Callable[[sqlite3.Connection], T], news: Collection[int] = ()) -> T:
        """Run ``run`` inside a transaction, its own or a shared one.

        A :class:`BusError` that ``run`` raises undoes what it did and nothing else.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._put(Call(run, news, done))
        return await done

    def trimmed(self, tps: Collection[int]) -> None:
        """Have the rows below the begins of these logs deleted soon."""
        self._tidier.trimmed(tps)
        self._plan_tidying()

    async def close(self) -> None:
        """Write what is queued and close the database."""
        self._closing = True
        while self._queue:
            await asyncio.gather(*[operation.done for operation in self._queue], return_exceptions=True)
        if self._tidy_turn is not None:
            self._tidy_turn.cancel()
        # Closing the last connection checkpoints, which must not run beside another writer.
        await self._acquire()
        self._connection.close()
        self._lock.release()
        self._lock.close()

    def _put(self, operation: Operation) -> None:
        if self._closing:
            raise BusError("the bus is closed")
        self._queue.append(operation)
        if self._turn is None:
            self._turn = self._loop.call_soon(self._serve)

    async def _acquire(self) -> None:
        while not self._lock.acquire():
            self._watch_lock()
            await asyncio.sleep(_LOCK_RETRY_S)
        self._waiting_since = None

    def _serve(self) -> None:
        """Commit the head of the queue, or come back when another process holds the lock."""
        self._turn = None
        if not self._queue:
            return
        if not self._lock.acquire():
            self._turn = self._loop.call_later(_LOCK_RETRY_S, self._serve)
            self._watch_lock()
            return
        self._waiting_since = None
        batch = self._next_batch()
        news: set[int] = set()
        try:
            results = self._commit(batch, news)
        finally:
            self._lock.release()
        # Ringing before answering: whoever hears of the commit by another way finds the bells rung.
        if news:
            self._doorbell.ring(sorted(news))
            self._tell(news)
        for operation, result in zip(batch, results, strict=True):
            _answer(operation.done, result)
        self._go_on()

    def _go_on(self) -> None:
        if self._lock.wanted():
            # Without a pause the one who has just released the lock is always first to take it again.
            self._turn = self._loop.call_later(_LOCK_RETRY_S, self._serve)
        elif self._queue:
            self._turn = self._loop.call_soon(self._serve)
        self._plan_tidying()

    def _watch_lock(self) -> None:
        now = self._loop.time()
        if self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > _LOCK_WARNING_S:
            self._waiting_since = now
            _logger.warning(
                "process %d has held the lock of %s for more than %.0f s; is it paused?",
                self._lock.holder(), self._directory, _LOCK_WARNING_S,
            )  # fmt: skip

    def _next_batch(self) -> list[Operation]:
        batch: list[Operation] = []
        rows = size = 0
        while self._queue and rows < _BATCH_ROWS and size < _BATCH_BYTES:
            batch.append(operation := self._queue.popleft())
            rows += len(operation.rows)
            size += operation.size
        self._unchecked += size
        return batch

    def _commit(self, batch: list[Operation], news: set[int]) -> list[object]:
        """Write the batch and return its results, exceptions included; adds what changed to ``news``."""
        try:
            return self._transact(batch, news)
        except Exception as error:  # noqa: BLE001 -- whatever went wrong, everyone who waits must hear of it
            self._recover()
            news.clear()
            return [operation.failure(error) for operation in batch]

    def _transact(self, batch: list[Operation], news: set[int]) -> list[object]:
        """Apply the batch; a small one of appends only is one autocommit statement (see ``sqlite_tail``)."""
        rows = sum(len(operation.rows) for operation in batch)
        single = rows <= BLOCK and all(isinstance(operation, Append) for operation in batch)
        if not single:
            self._connection.execute("BEGIN IMMEDIATE")
        now_ms = time.time_ns() // 1_000_000
        results = [self._apply(operation, now_ms, news) for operation in batch]
        self._tail.flush(self._connection)
        if not single:
            self._connection.execute("COMMIT")
        self._bound_wal()
        return results

    def _apply(self, operation: Operation, now_ms: int, news: set[int]) -> object:
        if isinstance(operation, Call):
            return self._run(operation, news)
        if operation.fence is not None:
            shard, epoch = operation.fence
            if self._tail.epoch(self._connection, shard) != epoch:
                return FencedError(f"shard {shard} has been taken by another writer")
        offsets = self._tail.append(self._connection, operation.rows, now_ms)
        self._tidier.appended(operation.compacted)
        news.update(row.tp for row in operation.rows)
        return offsets

    def _run(self, operation: Call, news: set[int]) -> object:
        self._tail.flush(self._connection)
        self._connection.execute("SAVEPOINT call")
        try:
            result: object = operation.run(self._connection)
        except BusError as error:
            self._connection.execute("ROLLBACK TO call")
            result = error
        else:
            news.update(operation.news)
        self._connection.execute("RELEASE call")
        self._tail.forget()
        return result

    def _bound_wal(self) -> None:
        """Start the write-ahead log over when readers that never pause have let it grow."""
        if self._unchecked < _WAL_LIMIT:
            return
        self._unchecked = 0
        # Busy readers or a full disk leave it as it is; what was committed is safe either way.
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            if (self._directory / f"{DATABASE}-wal").stat().st_size > _WAL_LIMIT:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _plan_tidying(self) -> None:
        """Set the timer, or move it forward when there is more to do than when it was set."""
        if self._closing:
            return
        when = self._loop.time() + self._tidier.patience(time.monotonic())
        if self._tidy_turn is not None:
            if self._tidy_turn.when() <= when:
                return
            self._tidy_turn.cancel()
        self._tidy_turn = self._loop.call_at(when, self._tidy)

    def _tidy(self) -> None:
        self._tidy_turn = None
        if not self._lock.acquire():
            self._tidy_turn = self._loop.call_later(_TIDY_RETRY_S, self._tidy)
            return
        try:
            self._tidy_bite()
        finally:
            self._lock.release()
        self._plan_tidying()

    def _tidy_bite(self) -> None:
        now = time.monotonic()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._tidier.bite(self._connection, now, time.time_ns() // 1_000_000)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            _logger.warning("housekeeping of %s failed, trying again later: %s", self._directory, error)
            self._tidier.give_up_for_now(now)
            self._recover()

    def _recover(self) -> None:
        """Begin afresh after an error of the disk: its transaction is undone, nothing remembered holds."""
        self._tail.forget()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")  # SQLite may have done it already
        try:
            fresh = open_writer(self._directory, self._synchronous)
        except (BusError, sqlite3.Error) as error:
            _logger.warning("cannot reopen %s, going on as is: %s", self._directory, error)
            return
        self._connection.close()
        self._connection = fresh


def _answer(done: asyncio.Future[Any], result: object) -> None:
    if done.done():
        return  # the caller was cancelled
    if isinstance(result, BaseException):
        done.set_exception(result)
    else:
        done.set_result(result)
