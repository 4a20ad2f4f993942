"""Tables of the embedded log, its connections, and the packing of headers. Opens database files.

``log.id`` is ``(tp << 40) | offset``: a partition is a contiguous range of the rowid b-tree, so that appends
and range scans need no index. The end of a partition is not stored but read from that b-tree; ``floor`` keeps
it from falling back when the last rows are deleted.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from shotbus.broker.bus.base import BusError, Cleanup, Headers, TopicSpec

DATABASE = "log.db"
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1
Synchronous = Literal["FULL", "NORMAL"]

_VERSION = 1
_APPLICATION_ID = 0x53425553  # "SBUS"
_BUSY_MS = 5_000
_SIZES = struct.Struct("<II")

SCHEMA = """
CREATE TABLE topics (
    name TEXT PRIMARY KEY, first_tp INTEGER NOT NULL, partitions INTEGER NOT NULL, cleanup TEXT NOT NULL,
    retention_ms INTEGER, max_record_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE partitions (
    tp INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    begin INTEGER NOT NULL DEFAULT 0,    -- first offset that may be read
    swept INTEGER NOT NULL DEFAULT 0,    -- rows of [swept, begin) await deletion
    floor INTEGER NOT NULL DEFAULT 0,    -- the end is never below this
    cleaned INTEGER NOT NULL DEFAULT 0   -- compacted up to here
);
CREATE TABLE log (id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB);
CREATE TABLE latest (
    tp INTEGER NOT NULL, key BLOB NOT NULL, id INTEGER NOT NULL, dead_ms INTEGER, PRIMARY KEY (tp, key)
) WITHOUT ROWID;
CREATE INDEX tombstones ON latest (dead_ms) WHERE dead_ms IS NOT NULL;
CREATE TABLE fences (shard TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE members (
    id INTEGER PRIMARY KEY AUTOINCREMENT, grp TEXT NOT NULL, topic TEXT NOT NULL, bell TEXT NOT NULL,
    deadline REAL NOT NULL
);
CREATE TABLE owners (
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, member INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, partition)
) WITHOUT ROWID;
CREATE TABLE positions (
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, partition)
) WITHOUT ROWID;
"""


class Topic(NamedTuple):
    """A row of ``topics``; partition p of it is log ``first_tp + p``."""

    name: str
    first_tp: int
    partitions: int
    cleanup: Cleanup
    retention_ms: int | None
    max_record_bytes: int

    @property
    def compacted(self) -> bool:
        return self.cleanup in {"compact", "compact,delete"}


def open_writer(directory: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the writing connection, making the tables in a new file. Call it under the write lock."""
    # Made for its owner alone. One that exists is never opened and closed here: closing any descriptor of
    # a file drops the locks that SQLite in this process holds on it.
    with suppress(FileExistsError):
        os.close(os.open(directory / DATABASE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None, timeout=_BUSY_MS / 1e3)
    try:
        _configure(connection, synchronous)
        _create(connection, directory)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(directory: Path) -> sqlite3.Connection:
    """Open the reading connection. Read-only: it must never be the one that checkpoints on close."""
    uri = f"file:{quote(str(directory / DATABASE))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_MS / 1e3)
    connection.execute("PRAGMA cache_size=-8000")
    return connection


def _configure(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute("PRAGMA cache_size=-16000")
    # Distributions compile it in; zeroing pages that hold no secret doubles the cost of a trim.
    connection.execute("PRAGMA secure_delete=OFF")


def _create(connection: sqlite3.Connection, directory: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) == (_APPLICATION_ID, _VERSION):
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables:
        raise BusError(
            f"{directory / DATABASE} is not a shotbus log of format {_VERSION} (found application "
            f"{application:#x}, format {version}); choose another data directory"
        )
    connection.executescript(
        f"""BEGIN IMMEDIATE; {SCHEMA}
            PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_VERSION}; COMMIT;"""
    )


@contextmanager
def bus_errors(what: str) -> Iterator[None]:
    """Turn the errors of database and disk inside the block into :class:`BusError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise BusError(f"{what}: {error}") from error


def create_topic(connection: sqlite3.Connection, spec: TopicSpec) -> None:
    """Create the topic unless it exists. Raises :class:`BusError` for another partition count."""
    row = connection.execute("SELECT partitions FROM topics WHERE name = ?", (spec.name,)).fetchone()
    if row is not None:
        if row[0] != spec.partitions:
            raise BusError(f"topic {spec.name} exists with {row[0]} partitions, not {spec.partitions}")
        return
    if spec.partitions < 1:
        raise BusError(f"topic {spec.name} needs at least one partition")
    # Number 0 stays free: it stands for group membership among the keys of news.
    (first,) = connection.execute("SELECT ifnull(max(tp), 0) + 1 FROM partitions").fetchone()
    connection.execute(
        "INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)",
        (spec.name, first, spec.partitions, spec.cleanup, spec.retention_ms, spec.max_record_bytes),
    )
    connection.executemany(
        "INSERT INTO partitions (tp, topic) VALUES (?, ?)",
        [(first + partition, spec.name) for partition in range(spec.partitions)],
    )


def pack_headers(headers: Headers) -> bytes | None:
    """Return ``headers`` as bytes: per header two u32 lengths, the name, the value; None for none."""
    if not headers:
        return None
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode()
        parts += (_SIZES.pack(len(encoded), len(value)), encoded, value)
    return b"".join(parts)


def unpack_headers(packed: bytes | None) -> Headers:
    """Return what :func:`pack_headers` packed."""
    if packed is None:
        return ()
    headers: list[tuple[str, bytes]] = []
    at, size, sizes = 0, len(packed), _SIZES.unpack_from
    while at < size:
        name_size, value_size = sizes(packed, at)
        middle = at + 8 + name_size
        end = middle + value_size
        headers.append((packed[at + 8 : middle].decode(), packed[middle:end]))
        at = end
    return tuple(headers)


class Bounds(NamedTuple):
    """What of a partition exists: offsets in ``[begin, end)``."""

    begin: int
    end: int


def bounds_of(connection: sqlite3.Connection, tps: Sequence[int]) -> dict[int, Bounds]:
    """Return the bounds of the logs ``tps``, as one snapshot."""
    rows = connection.execute(
        f"""SELECT tp, begin, floor, (
                SELECT id FROM log WHERE id >= tp << {OFFSET_BITS} AND id < (tp + 1) << {OFFSET_BITS}
                ORDER BY id DESC LIMIT 1
            ) FROM partitions WHERE tp IN ({",".join("?" * len(tps))})""",  # noqa: S608 -- only placeholders
        tps,
    )
    return {tp: Bounds(begin, _end(floor, last)) for tp, begin, floor, last in rows}


def _end(floor: int, last: int | None) -> int:
    return floor if last is None else max(floor, (last & OFFSET_MASK) + 1)


def offset_at(connection: sqlite3.Connection, tp: int, timestamp_ms: int) -> int:
    """Return the first offset not older than ``timestamp_ms``, else the end; O(log n).

    Exact while the wall clock did not step back; after a step it is one of the crossings.
    """
    begin, end = bounds_of(connection, [tp])[tp]
    base, found = tp << OFFSET_BITS, end
    while begin < end:
        middle = (begin + end) // 2
        row = connection.execute(
            "SELECT id, ts FROM log WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", (base + middle, base + end)
        ).fetchone()
        if row is None:
            end = middle
        elif row[1] >= timestamp_ms:
            end, found = middle, row[0] & OFFSET_MASK
        else:
            begin = (row[0] & OFFSET_MASK) + 1
    return found
