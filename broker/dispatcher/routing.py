"""Where jobs go: the policy, with what this shard knows of circuits, pools and the past. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_pool, check_request, solves_problems
from shotbus.broker.dispatcher.sessions import Sessions
from shotbus.broker.inspection.book import FactsBook
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.facts import Asked, Histories, Views
from shotbus.broker.policy.inforce import InForce
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.rulebook import APPROVAL
from shotbus.schemas.openqasm import CircuitFacts


class Router:
    """Decides for one shard; ``views`` and ``flags`` are kept up by whoever knows better."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.policy = Policy.compile(config)
        self.book = FactsBook(config.inspection.cache)
        self.sessions = Sessions()
        self.views: Views = {}
        #: Where jobs go that name a pool which takes anything, by pool.
        self._named: dict[str, Decision] = {}
        self.flags: Mapping[str, float] = {}
        self.history: Histories = {}

    def reconfigure(self, config: Config) -> None:
        """Go on with another policy; what is known of circuits and sessions stays."""
        self._config, self.policy = config, Policy.compile(config)
        self._named.clear()

    def switch(self, flags: Mapping[str, str]) -> None:
        """Take the flags as they were switched at run time."""
        self.flags = {name: percent_of(value) for name, value in flags.items()}

    def usual(self, request: Mapping[str, Any]) -> Decision | None:
        """Return the decision for a request that needs no deciding; None for one that does."""
        return self.policy.shortcut(request) or self._to_anything(request)

    def _to_anything(self, request: Mapping[str, Any]) -> Decision | None:
        """Return the decision for a job that names a pool which runs no circuits; None for others."""
        named = request["backend"]
        if not named or not self.policy.plain or any(map(request.get, _UNUSUAL)):
            return None
        known = self._named.get(named)
        settings = self._config.pools.get(named)
        if known is None and settings is not None and settings.kind == "none":
            decided = self.policy.decide(Asked(job_id="", backend=named), now_ms=0)
            if not decided.refused:
                known = self._named[named] = decided
        return known

    def wants_facts(self, request: Mapping[str, Any], usual: Decision | None) -> bool:
        """Tell whether the circuit has to be inspected before its job may wait."""
        if self._config.inspection.mode == "off" or _has_no_circuit(request):
            return False
        pool = usual.pool if usual else request["backend"]
        settings = self._config.pools.get(pool)
        if settings is None or not (usual or self.policy.plain):
            return True
        return settings.kind != "none" and not solves_problems(self._config.pools, pool)

    def decide(self, request: Mapping[str, Any], circuit: CircuitFacts | None, now_ms: int) -> Decision:
        """Return where a request goes; ``circuit`` None is not inspected.

        One that the door refuses whatever its pool is not reckoned with: its numbers may be anything.
        """
        if check_request(request, self._config, now_ms=now_ms):
            pool = request["backend"] or self._config.routing.default
            problems = tuple(check_pool(request, pool, self._config))
            return Decision("", self.policy.version, pool=pool, action="refuse", problems=problems)
        session = self.sessions.pool(request["tenant"], request["session_id"])
        asked = Asked.of(request, circuit, session_pool=session)
        return self.policy.decide(asked, self.views, flags=self.flags, history=self.history, now_ms=now_ms)

    def in_force(self, tenant: str, session: str) -> InForce:
        """Return what a request of a tenant's session is decided with now."""
        pool = self.sessions.pool(tenant, session)
        return InForce(self._config, self.views, self.flags, self.history, pool)

    def gates(
        self, request: Mapping[str, Any], circuit: CircuitFacts | None, decision: Decision, now_ms: int
    ) -> dict[str, list[str]]:
        """Return by pool what must be met before a job may be moved there, later: a role, demands of rules.

        Where its own rule sends it, at once or by its chain, nobody else is asked for approval; what that
        rule demands itself holds on its other pools, and on the hardware of its chain.
        """
        if not self.policy.gated:
            return {}
        named = () if request["fallback"] else decision.fallback
        heard = dict.fromkeys((decision.pool, *(step.name for step in named if step.kind == "pool")))
        gates = self.policy.gates(Asked.of(request, circuit), flags=self.flags, now_ms=now_ms)
        own = [name for name in decision.requires if name != APPROVAL]
        found = {pool: list(names) for pool, names in gates.items()}
        for pool in (*heard, *decision.others) if own else ():
            if pool in decision.others or self._is_hardware(pool):
                found[pool] = [*found.get(pool, ()), *own]
        for pool in heard:
            found[pool] = [name for name in found.get(pool, ()) if name != APPROVAL]
        return {pool: list(dict.fromkeys(names)) for pool, names in sorted(found.items()) if names}

    def _is_hardware(self, pool: str) -> bool:
        settings = self._config.pools.get(pool)
        return settings is not None and settings.kind == "hardware"


#: What makes every job another one, whatever its pool.
_UNUSUAL = ("deadline_ms", "not_before_ms", "data_class", "window", "fallback", "max_cost")


def _has_no_circuit(request: Mapping[str, Any]) -> bool:
    """Tell whether a request only asks for the answer to its problem."""
    return request["mode"] == "estimate" and not request["observables"]


def percent_of(value: str) -> float:
    """Return what a flag was switched to, 0 to 100."""
    return {"on": 100.0, "off": 0.0}[value] if value in ("on", "off") else float(value)
