"""Where a session's last job went, for rules that keep a session on its pool. Pure.

A memory, and a row for each session that a sticky rule has placed: it stays on its pool over a restart. Where
no rule is sticky nothing is written.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from shotbus.broker.lru import Lru
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import digest

_MOST = 16_384
_PREFIX = b"session/"


class _Kept(NamedTuple):
    tenant: str
    session: str
    pool: str


def is_session_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Sessions:
    """Pools by (tenant, session); the one used longest ago is forgotten first.

    Args:
        most: how many are remembered, and how many have rows.

    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._pools: Lru[tuple[str, str], str] = Lru(most)
        #: Those with rows, by key, the one used longest ago first.
        self._kept: dict[bytes, _Kept] = {}
        #: The orders of the jobs from which it is known where sessions were.
        self._found: Lru[tuple[str, str], int] = Lru(most)

    def pool(self, tenant: str, session: str) -> str:
        """Return where the session's last job went, empty when that is not known."""
        return (self._pools.get((tenant, session)) or "") if session else ""

    def went(self, tenant: str, session: str, pool: str, *, sticky: bool = False) -> list[bytes]:
        """Remember where a session's job went; returns the ledger keys that changed."""
        if not session:
            return []
        self._pools.put((tenant, session), pool)
        return self._keep(_Kept(tenant, session, pool), sticky=sticky) if sticky or self._kept else []

    def _keep(self, one: _Kept, *, sticky: bool) -> list[bytes]:
        key = _PREFIX + digest(one.tenant, one.session).hex().encode()
        before = self._kept.pop(key, None)
        if before is None and not sticky:
            return []
        self._kept[key] = one
        changed = [] if before == one else [key]
        if len(self._kept) > self._most:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            changed.append(oldest)
        return changed

    def found(self, tenant: str, session: str, pool: str, order: int) -> None:
        """After a restore: learn from a live job where its session was; the newest job counts, a row more."""
        newest = self._found.get((tenant, session))
        if order > newest if newest is not None else not self.pool(tenant, session):
            self._found.put((tenant, session), order)
            self._pools.put((tenant, session), pool)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        kept = self._kept.get(key)
        return (
            None
            if kept is None
            else encode("ledger_page", {"kind": "meta", "data": json.dumps(kept).encode()})
        )

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        before = self._kept.pop(key, None)
        if row is not None:
            kept = self._kept[key] = _Kept(*json.loads(decode(row, "ledger_page")[1]["data"]))
            self._pools.put((kept.tenant, kept.session), kept.pool)
        elif before is not None:
            self._pools.put((before.tenant, before.session), "")
