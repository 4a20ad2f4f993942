"""Where a session's last job went, for rules that keep a session on its pool. Pure; a memory, not a state."""

from __future__ import annotations

from shotbus.broker.lru import Lru

_MOST = 16_384


class Sessions:
    """Pools by (tenant, session); the one used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._pools: Lru[tuple[str, str], str] = Lru(_MOST)

    def pool(self, tenant: str, session: str) -> str:
        """Return where the session's last job went, empty when that is not known."""
        return (self._pools.get((tenant, session)) or "") if session else ""

    def went(self, tenant: str, session: str, pool: str) -> None:
        """Remember where a session's job went."""
        if session:
            self._pools.put((tenant, session), pool)
