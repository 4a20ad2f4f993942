"""The audit chain: entries that each hold the hash of the one before. Pure.

A chain belongs to one shard of one machine, which keeps its head in its own ledger; several chains may share
a partition of the topic ``audit``. An entry that is changed, left out, put in or moved breaks the chain. What
retention has deleted in front is not missed; what is cut off at the end is, by whoever kept a head outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from shotbus.broker.machine import Emit, Now
from shotbus.schemas.codec import decode, encode

_GENESIS = bytes(32)
#: Everything that the hash covers, in this order.
_HASHED = (
    "chain",
    "number",
    "at_us",
    "principal",
    "action",
    "target",
    "reason",
    "before",
    "after",
    "previous",
)


class Head(NamedTuple):
    """The last entry of a chain: its number, from 1, and its hash."""

    number: int
    digest: bytes


START = Head(0, _GENESIS)


class AuditChain:
    """The end of one chain, to which a machine adds.

    Args:
        name: of the chain, such as ``treasury-0``; no two machines share one.
        partition: of ``audit``.

    """

    #: Ledger key of the head, in the machine that owns the chain.
    KEY = b"audit/head"

    def __init__(self, name: str, partition: int) -> None:
        self._name, self._partition = name, partition
        self._head = START

    @property
    def head(self) -> Head:
        """The last entry's number and hash."""
        return self._head

    def add(
        self,
        action: str,
        target: str,
        now: Now,
        *,
        principal: str,
        reason: str = "",
        before: Any = None,
        after: Any = None,
    ) -> Emit:
        """Return the command that writes the next entry; the row :attr:`KEY` changes.

        Args:
            action: what was done, such as ``pool.pause``.
            target: to what.
            now: wall time is taken.
            principal: who; a machine's own name when nobody asked.
            reason: why.
            before: what it was, anything that JSON can say.
            after: what it is.

        """
        fields = {
            "chain": self._name,
            "number": self._head.number + 1,
            "at_us": now.wall_ms * 1_000,
            "principal": principal,
            "action": action,
            "target": target,
            "reason": reason,
            "before": _text(before),
            "after": _text(after),
        }
        record, digest = entry(self._head.digest, fields)
        self._head = Head(self._head.number + 1, digest)
        return Emit("audit", self._partition, self._name.encode(), "audit_entry", record)

    def snapshot(self) -> bytes | None:
        """Return the head's row, None before the first entry."""
        if self._head == START:
            return None
        data = json.dumps([self._head.number, self._head.digest.hex()]).encode()
        return encode("ledger_page", {"kind": "meta", "data": data})

    def restore(self, row: bytes | None) -> None:
        """Let a row be the head; None takes that away."""
        if row is None:
            self._head = START
            return
        self._head = head_of(row)


def head_of(row: bytes) -> Head:
    """Return the head that a row of :attr:`AuditChain.KEY` holds."""
    number, digest = json.loads(decode(row, "ledger_page")[1]["data"])
    return Head(number, bytes.fromhex(digest))


def entry(previous: bytes, fields: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the record that follows the one with hash ``previous``, and its own hash.

    ``fields`` are those of the schema ``audit_entry`` but for ``previous`` and ``hash``.
    """
    record = {**fields, "previous": previous}
    digest = _hash(record)
    return {**record, "hash": digest}, digest


def verify(records: Iterable[Mapping[str, Any]], heads: Mapping[str, Head] | None = None) -> list[str]:
    """Return what is wrong with chains, empty when they are intact.

    Args:
        records: decoded entries in the order of their partitions, chains may be mixed.
        heads: checkpoints kept elsewhere, by chain: each must be among the entries.

    """
    last: dict[str, Head] = {}
    wanted = dict(heads or {})
    problems = []
    for record in records:
        chain = record["chain"]
        place = f"{chain} entry {record['number']}"
        if _hash(record) != record["hash"]:
            problems.append(f"{place}: was changed")
        if not _follows(record, last.get(chain)):
            problems.append(f"{place}: does not follow entry {last.get(chain, START).number}")
        head = last[chain] = Head(record["number"], record["hash"])
        if wanted.get(chain) == head:
            del wanted[chain]
    return problems + [f"{chain} entry {head.number}: is missing" for chain, head in sorted(wanted.items())]


def _follows(record: Mapping[str, Any], last: Head | None) -> bool:
    if last is None:
        # The first one that is kept; of a whole chain it is the first one ever.
        return bool(record["number"] == 1) == bool(record["previous"] == _GENESIS)
    follows: bool = Head(record["number"] - 1, record["previous"]) == last
    return follows


def _hash(record: Mapping[str, Any]) -> bytes:
    """Hash the fields with their lengths, so that nothing can be moved from one into the next."""
    told = hashlib.sha256()
    for name in _HASHED:
        value = record[name]
        raw = value if isinstance(value, bytes) else str(value).encode()
        told.update(len(raw).to_bytes(8, "little") + raw)
    return told.digest()


def _text(value: Any) -> str:
    return "" if value is None else json.dumps(value, sort_keys=True)
