"""What the door looks at besides routing, as one shard has it: marks of shedding, a unique key. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Level:
    """A level of ``[shedding]`` on one pool, in seconds of estimated work; ``waiting`` is what waits now."""

    name: str
    refuse: tuple[str, ...]
    defer: tuple[str, ...]
    engaged: bool
    waiting: float
    high: float
    low: float
    retry_after_ms: int

    def action(self, priority: str, demoted: str = "") -> Literal["refuse", "defer", ""]:
        """Return what it does with a class while it is engaged; a job that is demoted is deferred as that."""
        if priority in self.refuse:
            return "refuse"
        # What it would have refused as that class is in already: it is taken as it is.
        queued = demoted or priority
        return "defer" if queued in self.defer and queued not in self.refuse else ""


@dataclass(frozen=True, slots=True)
class Rival:
    """The live job that has a unique key."""

    job_id: str
    phase: str
    pool: str


@dataclass(frozen=True, slots=True)
class DoorView:
    """What the door looks at; ``asked`` is False where there was nobody to ask."""

    asked: bool = False
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    rival: Rival | None = None

    def concerning(self, pool: str, priority: str, demoted: str = "") -> list[Level]:
        """Return the levels on a pool that do something with a class, the one that strikes first.

        Engaged ones go before others, refusing before deferring, the rest as the shard has them.
        """
        found = [one for one in self.levels.get(pool, ()) if one.action(priority, demoted)]
        return sorted(found, key=lambda one: (not one.engaged, one.action(priority, demoted) == "defer"))

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON may hold it."""
        return asdict(self)


def revived(told: Mapping[str, Any]) -> DoorView:
    """Return what :meth:`DoorView.as_plain` made; what only a newer program says is left out."""
    levels = {pool: tuple(_revived(Level, one) for one in some) for pool, some in told["levels"].items()}
    rival = told.get("rival")
    return DoorView(bool(told["asked"]), levels, _revived(Rival, rival) if rival else None)


def _revived(shape: Any, told: Mapping[str, Any]) -> Any:
    known = {one.name: told[one.name] for one in fields(shape) if one.name in told}
    return shape(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    )


#: Where there was nobody to ask.
UNASKED = DoorView()
