"""The embedded store: one SQLite file for all processes of a host. I/O in two worker threads.

Reads have a thread of their own, so that they never wait for a commit or for another process's
write lock. A write is awaited until it is committed, so whoever has written also reads it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.rules import check_index_add, check_page, effective_ttl
from shotbus.broker.store.sqlite_lane import Call, Lane

_GET = (
    "SELECT items.key, items.value FROM json_each(?) AS wanted JOIN items ON items.key = wanted.value"
    " WHERE items.expires IS NULL OR items.expires > ?"
)
_PUT = (
    "INSERT INTO items (key, value, expires) VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
)
_PURGE = "DELETE FROM items WHERE rowid IN (SELECT rowid FROM items WHERE expires <= ? LIMIT 1000)"
_RANK = (
    "INSERT INTO ranks (name, member, score) VALUES (?, ?, ?)"
    " ON CONFLICT (name, member) DO UPDATE SET score = excluded.score"
)
_TRIM = (
    "DELETE FROM ranks WHERE name = ?1 AND member IN"
    " (SELECT member FROM ranks WHERE name = ?1 ORDER BY score DESC, member DESC LIMIT -1 OFFSET ?2)"
)
_RANGE = "SELECT member, score FROM ranks WHERE name = ? ORDER BY score DESC, member DESC LIMIT ? OFFSET ?"


class SqliteStore:
    """A store in the file ``path``, which (with ``-wal``, ``-shm`` and ``.lock``) is its own alone.

    The file is created when missing, and made anew when it turns out to be deleted or corrupt, also
    in mid-run. A database that belongs to something else is refused. ``clock`` returns wall seconds
    and must agree among the processes; ``timeout`` is the longest a call waits, in seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time, timeout: float = 5.0) -> None:
        self._path = path
        self._clock = clock
        self._timeout = timeout
        self._lanes: tuple[Lane, Lane] | None = None

    async def start(self) -> None:
        if self._lanes is None:
            self._lanes = (Lane(self._path, writes=False), Lane(self._path, writes=True))
        try:
            await self._write(lambda connection: connection.execute(_PURGE, (self._clock(),)).rowcount)
            # Opens the reader's connection now, which needs the lock, so that no later read does.
            await self.get_many(())
        except StoreError:
            await self.close()
            raise

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, None
        for lane in lanes or ():
            await lane.close(self._timeout)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        wanted, now = json.dumps(list(keys)), self._clock()

        def read(connection: sqlite3.Connection) -> dict[str, bytes]:
            return dict(connection.execute(_GET, (wanted, now)))

        found: dict[str, bytes] = await self._read(read)
        return [found.get(key) for key in keys]

    async def put_many(self, items: Mapping[str, bytes], *, ttl: float | None = None) -> None:
        seconds, now = effective_ttl(ttl), self._clock()
        expires = None if seconds is None else now + seconds
        rows = [(key, bytes(value), expires) for key, value in items.items()]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_PUT, rows)
            # Bounded clearing up along the way: expired items leave without a timer of their own.
            connection.execute(_PURGE, (now,))

        await self._write(write)

    async def delete_many(self, keys: Sequence[str]) -> None:
        doomed = json.dumps(list(keys))
        await self._write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM items WHERE key IN (SELECT value FROM json_each(?))", (doomed,)
                ).rowcount
            )
        )

    async def index_add(self, index: str, members: Mapping[str, float], *, keep: int) -> None:
        check_index_add(members.values(), keep)
        rows = [(index, member, float(score)) for member, score in members.items()]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_RANK, rows)
            connection.execute(_TRIM, (index, keep))

        await self._write(write)

    async def index_range(self, index: str, *, offset: int, limit: int) -> list[tuple[str, float]]:
        check_page(offset, limit)
        members: list[tuple[str, float]] = await self._read(
            lambda connection: connection.execute(_RANGE, (index, limit, offset)).fetchall()
        )
        return members

    async def clear(self) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM items")
            connection.execute("DELETE FROM ranks")

        await self._write(write)

    async def _read(self, call: Call) -> Any:
        return await self._opened()[0].do(call, self._timeout)

    async def _write(self, call: Call) -> None:
        await self._opened()[1].do(call, self._timeout)

    def _opened(self) -> tuple[Lane, Lane]:
        if self._lanes is None:
            raise StoreError(f"the store {self._path} is not started")
        return self._lanes
