"""All that a routing decision looks at besides the job, as one shard has it, and as JSON. Pure.

Whoever asks what would become of a request decides with this by the same functions as the door.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shotbus.broker.config import Config, PriceConfig
from shotbus.broker.config_parse import parse
from shotbus.broker.policy.doorview import UNASKED, DoorView, revived
from shotbus.broker.policy.facts import IDLE, Histories, History, PoolView, Views
from shotbus.broker.policy.rulebook import as_plain, canonical

#: What the door checks a request against, besides what decisions follow from.
_DOOR = ("classes", "limits", "inspection", "budgets")


@dataclass(frozen=True, slots=True)
class InForce:
    """What routing looks at, and ``door``: what the door does besides.

    ``config``: read back it holds what decisions and the door's checks depend on, of the rest the defaults.
    ``flags``: those switched at run time, as percentages. ``session_pool``: of the session asked about.
    """

    config: Config
    views: Views
    flags: Mapping[str, float]
    history: Histories
    session_pool: str = ""
    door: DoorView = UNASKED

    def view(self, pool: str) -> PoolView:
        """Return a pool as routing sees it."""
        return self.views.get(pool, IDLE)

    def as_text(self, family: str) -> str:
        """Return it as JSON; of what was measured only that of one circuit family."""
        door = {name: as_plain(getattr(self.config, name)) for name in _DOOR}
        pairs = {pool: self.history.get((family, pool)) for pool in self.config.pools}
        config = canonical(self.config) | door
        for name, pool in self.config.pools.items():
            config["pools"][name]["attempt_seconds"] = pool.attempt_seconds
        told = {
            "config": config,
            "views": {pool: asdict(view) for pool, view in self.views.items()},
            "flags": dict(self.flags),
            "history": {pool: asdict(history) for pool, history in pairs.items() if history is not None},
            "family": family,
            "session_pool": self.session_pool,
            "door": self.door.as_plain(),
        }
        return json.dumps(told, separators=(",", ":"))


def in_force(text: str) -> InForce:
    """Return what :meth:`InForce.as_text` made. Raises ShotbusError where versions are too far apart."""
    told = json.loads(text)
    config = parse(Config, told["config"])
    # Tables of names are read over the defaults: only what is configured there counts.
    config = replace(
        config,
        pools={name: config.pools[name] for name in told["config"]["pools"]},
        classes={name: config.classes[name] for name in told["config"]["classes"]},
    )
    history = {(told["family"], pool): History.revived(one) for pool, one in told["history"].items()}
    views = {pool: _view(one) for pool, one in told["views"].items()}
    # A dispatcher of an earlier version says nothing of its door.
    door = revived(told["door"]) if "door" in told else UNASKED
    return InForce(config, views, told["flags"], history, told["session_pool"], door)


def _view(told: Mapping[str, Any]) -> PoolView:
    """Return a view; what only a newer program knows of it is left out."""
    known: dict[str, Any] = {field.name: told[field.name] for field in fields(PoolView) if field.name in told}
    if known.get("price") is not None:
        known["price"] = parse(PriceConfig, known["price"])
    if "works" in known:
        known["works"] = {int(work): tuple(pace) for work, pace in known["works"].items()}
    if known.get("wait") is not None:
        known["wait"] = tuple(known["wait"])
    return PoolView(**known)
