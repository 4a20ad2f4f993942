"""The provider's books: jobs, closed tokens, and a ledger that only grows. Does I/O: one SQLite file.

Everything is durable (synchronous, one transaction) before it is answered, so that SIGKILL of the server
neither forgets a bill nor writes a second one. The ledger's rows can be neither changed nor taken out. A
token is taken while its job lives or is billed; a job that ended without a bill gives it back.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shotbus.deploy.provider.refusals import RefusalError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, account TEXT, token TEXT, body BLOB,
    digest TEXT, status TEXT, by TEXT DEFAULT '', error TEXT DEFAULT '', result BLOB,
    cost REAL, shots INTEGER,
    seconds REAL DEFAULT 0, created_ms INTEGER, started_ms INTEGER DEFAULT 0, finished_ms INTEGER DEFAULT 0,
    calibration_begin TEXT DEFAULT '', calibration_end TEXT DEFAULT '');
CREATE UNIQUE INDEX IF NOT EXISTS taken ON jobs (account, token) WHERE status NOT IN ('failed', 'cancelled');
CREATE TABLE IF NOT EXISTS closed (account TEXT, token TEXT, at_ms INTEGER, PRIMARY KEY (account, token));
CREATE TABLE IF NOT EXISTS calibrations (id TEXT PRIMARY KEY, snapshot BLOB);
CREATE TABLE IF NOT EXISTS ledger (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER, kind TEXT, account TEXT, token TEXT, job TEXT,
    cost REAL, shots INTEGER, attempt INTEGER);
CREATE TRIGGER IF NOT EXISTS unchanged BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'written'); END;
CREATE TRIGGER IF NOT EXISTS kept BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'written'); END;
"""


class Order(NamedTuple):
    """What an account orders: a submission's bytes, its token, and what they cost.

    ``attempt`` is the account's own number for the submission, which only goes into the ledger.
    """

    account: str
    token: str
    body: bytes
    cost: float
    shots: int
    attempt: int = 0


class Accepted(NamedTuple):
    """A job that has a token; ``fresh``: it has just been accepted, ``same``: it is what was asked for."""

    job: Job
    fresh: bool
    same: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the books."""

    id: str
    account: str
    token: str
    body: bytes
    digest: str
    status: str
    by: str
    error: str
    cost: float
    shots: int
    seconds: float
    created_ms: int
    started_ms: int
    finished_ms: int
    calibration_begin: str
    calibration_end: str

    @property
    def open(self) -> bool:
        """Whether it has yet to end."""
        return self.status in ("queued", "running")

    def document(self) -> dict[str, Any]:
        """Return what an account is told about its job."""
        billed = self.status not in ("failed", "cancelled")
        return {
            "id": self.id,
            "token": self.token,
            "digest": self.digest,
            "status": self.status,
            "by": self.by,
            "error": json.loads(self.error) if self.error else None,
            "created_ms": self.created_ms,
            "started_ms": self.started_ms,
            "finished_ms": self.finished_ms,
            "calibration": {"begin": self.calibration_begin, "end": self.calibration_end},
            "bill": {
                "cost": self.cost if billed else 0.0,
                "shots": self.shots if billed else 0,
                "backend_seconds": self.seconds,
            },
        }


_LEDGER = ("at_ms", "kind", "account", "token", "job", "cost", "shots", "attempt")
_COLUMNS = ", ".join(Job.__dataclass_fields__)


class Books:
    """Opens, and makes if need be, the books in a file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def accept(self, order: Order, now_ms: int, *, credit: float) -> Accepted:
        """Accept a job under a token and bill it, or return the one that has it already.

        ``credit`` bounds what the account is billed altogether, 0 does not. Raises RefusalError
        (token_closed, credits_exhausted).
        """
        digest = hashlib.sha256(order.body).hexdigest()
        with self._writing():
            if (known := self.by_token(order.account, order.token)) is not None:
                return Accepted(known, fresh=False, same=known.digest == digest)
            if self._is_closed(order.account, order.token):
                message = "nothing is accepted under this token any more"
                raise RefusalError("token_closed", message, actual=order.token)
            if 0 < credit < self.billed(order.account) + order.cost:
                raise RefusalError("credits_exhausted", "not enough credits", limit=credit, actual=order.cost)
            name = self._insert(order, digest, now_ms)
            self._write("billed", now_ms, name, order)
        return Accepted(self.job(order.account, name), fresh=True, same=True)

    def _insert(self, order: Order, digest: str, now_ms: int) -> str:
        cursor = self._db.execute(
            "INSERT INTO jobs (account, token, body, cost, shots, digest, status, created_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
            (*order[:-1], digest, now_ms),
        )
        name = f"qpu-{cursor.lastrowid:06d}"
        self._db.execute("UPDATE jobs SET id = ? WHERE number = ?", (name, cursor.lastrowid))
        return name

    def close_token(self, account: str, token: str, now_ms: int) -> Job | None:
        """Return the job that has a token; where none has, see to it that none ever will."""
        with self._writing():
            job = self.by_token(account, token)
            if job is None:
                self._db.execute("INSERT OR IGNORE INTO closed VALUES (?, ?, ?)", (account, token, now_ms))
        return job

    def _is_closed(self, account: str, token: str) -> bool:
        query = "SELECT 1 FROM closed WHERE account = ? AND token = ?"
        return self._db.execute(query, (account, token)).fetchone() is not None

    def started(self, name: str, now_ms: int, calibration: str) -> None:
        """Note that a job runs now."""
        self._db.execute(
            "UPDATE jobs SET status = 'running', started_ms = ?, calibration_begin = ? WHERE id = ?",
            (now_ms, calibration, name),
        )

    def done(self, name: str, result: bytes, *, now_ms: int, seconds: float, calibration: str) -> None:
        """Note a job's result."""
        self._db.execute(
            "UPDATE jobs SET status = 'done', result = ?, finished_ms = ?, seconds = ?, calibration_end = ?"
            " WHERE id = ?",
            (result, now_ms, seconds, calibration, name),
        )

    def unbilled(self, job: Job, status: str, now_ms: int, *, by: str, error: str = "") -> None:
        """End a job as failed or cancelled: its bill is returned."""
        told = json.dumps({"code": error, "message": error.replace("_", " ")}) if error else ""
        with self._writing():
            self._db.execute(
                "UPDATE jobs SET status = ?, by = ?, error = ?, finished_ms = ? WHERE id = ?",
                (status, by, told, now_ms, job.id),
            )
            back = Order(job.account, job.token, b"", -job.cost, -job.shots)
            self._write("refunded", now_ms, job.id, back)

    def _write(self, kind: str, now_ms: int, job: str, order: Order) -> None:
        self._db.execute(
            f"INSERT INTO ledger ({', '.join(_LEDGER)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (constants)
            (now_ms, kind, order.account, order.token, job, order.cost, order.shots, order.attempt),
        )

    def job(self, account: str, name: str) -> Job:
        """Return an account's job. Raises RefusalError (job_not_found)."""
        found = self._one("account = ? AND id = ?", account, name)
        if found is None:
            raise RefusalError("job_not_found", "no such job", actual=name)
        return found

    def by_token(self, account: str, token: str) -> Job | None:
        """Return the job that has a token: one that lives or is billed."""
        return self._one(
            "account = ? AND token = ? AND status NOT IN ('failed', 'cancelled')", account, token
        )

    def last_of(self, account: str, token: str) -> Job | None:
        """Return the last job that came with a token, whatever became of it."""
        return self._one("account = ? AND token = ? ORDER BY number DESC", account, token)

    def another(self, account: str, token: str) -> Job | None:
        """Return an account's newest job under any other token."""
        return self._one("account = ? AND token != ? ORDER BY number DESC", account, token)

    def _one(self, where: str, *values: str) -> Job | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where} LIMIT 1", values).fetchone()  # noqa: S608 (constants)
        return Job(*row) if row else None

    def result(self, name: str) -> bytes:
        """Return a job's result."""
        (found,) = self._db.execute("SELECT result FROM jobs WHERE id = ?", (name,)).fetchone()
        return bytes(found)

    def unfinished(self) -> list[Job]:
        """Return every job that has yet to end, oldest first."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('queued', 'running') ORDER BY number"  # noqa: S608 (constants)
        return [Job(*row) for row in self._db.execute(query)]

    def in_flight(self, account: str) -> int:
        """Return how many jobs of an account have yet to end."""
        query = "SELECT count(*) FROM jobs WHERE account = ? AND status IN ('queued', 'running')"
        return int(self._db.execute(query, (account,)).fetchone()[0])

    def billed(self, account: str) -> float:
        """Return what an account was billed, returned bills taken off."""
        query = "SELECT coalesce(sum(cost), 0.0) FROM ledger WHERE account = ?"
        return float(self._db.execute(query, (account,)).fetchone()[0])

    def ledger(self) -> list[dict[str, Any]]:
        """Return every row that was ever written."""
        query = f"SELECT {', '.join(_LEDGER)} FROM ledger ORDER BY number"  # noqa: S608 (constants)
        return [dict(zip(_LEDGER, row, strict=True)) for row in self._db.execute(query)]

    def keep_calibration(self, name: str, snapshot: bytes) -> None:
        """Keep what was measured, for ever."""
        self._db.execute("INSERT OR IGNORE INTO calibrations VALUES (?, ?)", (name, snapshot))

    def calibration(self, name: str) -> bytes:
        """Return what was measured. Raises RefusalError (calibration_not_found)."""
        row = self._db.execute("SELECT snapshot FROM calibrations WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise RefusalError("calibration_not_found", "no such calibration", actual=name)
        return bytes(row[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
