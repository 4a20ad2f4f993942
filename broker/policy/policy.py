"""The policy: compiled once from a configuration, asked for every job. Pure.

    policy = Policy.compile(config)
    decision = policy.decide(asked, views, flags={}, history={}, now_ms=now)

A configuration without rules costs one comparison chain a job: :meth:`Policy.shortcut`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from operator import attrgetter
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.policy.deciding import Deciding
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.facts import PUBLIC, Asked, Histories, Views
from shotbus.broker.policy.rulebook import Rule, Rulebook, compile_book
from shotbus.broker.policy.shares import falls

_NONE: Mapping[Any, Any] = {}
#: What every decision may depend on; conditions add what they read.
_ALWAYS = (
    *(
        "mode",
        "points",
        "shots",
        "circuits",
        "has_problem",
        "only_problem",
        "data_class",
        "backend",
        "window",
    ),
    *(
        "max_cost",
        "deadline_ms",
        "not_before_ms",
        "fallback",
        "tried",
        "satisfied",
        "session_pool",
        "priority",
    ),
    *("family", "family_version", "tenant", "value", "value_per_second"),
)


class Policy:
    """Routing decisions of one version of the configuration; immutable.

    Build it with :meth:`compile`, again for each new configuration; say what changed with
    :func:`shotbus.broker.policy.diff.diff`.
    """

    __slots__ = ("_book", "_by_name", "_gated", "_plain", "_reads", "_recalls", "_usual")

    def __init__(self, book: Rulebook) -> None:
        self._book, self._plain = book, book.plain
        steps = [step for rule in (*book.rules, book.last) for step in rule.chain]
        self._recalls = any(step.kind == "cache" for step in steps)
        self._by_name: dict[str, Rule] = {rule.name: rule for rule in (*book.rules, book.last)}
        self._gated = book.gated
        self._usual = Decision(
            rule=book.last.name,
            version=book.version,
            pool=book.last.pools[0],
            trail=(
                {"step": "rule", "rule": book.last.name, "matched": True},
                {"step": "decided", "rule": book.last.name, "pool": book.last.pools[0], "not_before_ms": 0},
            ),
        )
        reads = [name for rule in book.rules for condition in rule.conditions for name in condition.reads]
        names = tuple(dict.fromkeys((*_ALWAYS, *reads, *(("circuit",) if self._needs_circuit() else ()))))
        self._reads = attrgetter(*names)

    @classmethod
    def compile(cls, config: Config) -> Policy:
        """Compile a checked configuration. Raises ValueError for a window that is none."""
        return cls(compile_book(config))

    @property
    def version(self) -> str:
        """A short hash of everything that decisions follow from: 12 hexadecimal digits."""
        return self._book.version

    @property
    def plain(self) -> bool:
        """Whether no rule, family or window can change where a usual job goes."""
        return self._plain

    @property
    def recalls(self) -> bool:
        """Whether a rule may answer with an earlier result."""
        return self._recalls

    @property
    def remembers_sessions(self) -> bool:
        """Whether it matters where a session was: to a sticky rule, or for what a new one costs."""
        rules, pools = self._book.rules, self._book.pools.values()
        return any(rule.then.sticky for rule in rules) or any(pool.price.per_session for pool in pools)

    @property
    def gated(self) -> tuple[str, ...]:
        """The pools of which something is demanded, of some job or other: a role, or by a rule."""
        return self._gated

    def gates(
        self, asked: Asked, *, flags: Mapping[str, float] = _NONE, now_ms: int
    ) -> dict[str, tuple[str, ...]]:
        """Return by pool what a job would have to meet if it named it: a ``role``, and demands of rules."""
        flags = {name: _percent(value) for name, value in flags.items()}
        deciding = Deciding(self._book, asked, _NONE, flags=flags, history=_NONE, now_ms=now_ms)
        found = {pool: deciding.gates(pool) for pool in self._gated}
        return {pool: gates for pool, gates in found.items() if gates}

    def decide(
        self,
        asked: Asked,
        views: Views = _NONE,
        *,
        flags: Mapping[str, float] = _NONE,
        history: Histories = _NONE,
        now_ms: int,
    ) -> Decision:
        """Return where a job goes.

        Args:
            asked: the job.
            views: the pools as they are now; one that is missing is taken to be idle and ready.
            flags: switches at run time over those of the configuration, as percentages or booleans.
            history: what was measured before, by (family, pool).
            now_ms: wall time, milliseconds.

        """
        if self._plain and _is_usual(asked):
            return self._usual
        if flags:
            flags = {name: _percent(value) for name, value in flags.items()}
        return Deciding(self._book, asked, views, flags=flags, history=history, now_ms=now_ms).decide()

    def shortcut(self, request: Mapping[str, Any]) -> Decision | None:
        """Return the usual decision for a decoded request that needs no deciding, before any work on it."""
        get = request.get
        if (
            self._plain
            and not request["backend"]
            and request["deadline_ms"] is None
            and not get("data_class")
            and not get("window")
            and not get("fallback")
            and get("max_cost") is None
        ):
            return self._usual
        return None

    def follow(
        self,
        asked: Asked,
        decision: Decision,
        views: Views = _NONE,
        *,
        history: Histories = _NONE,
        now_ms: int,
    ) -> Decision:
        """Return the next step of a chain after ``decision`` could not answer (cache miss, failed pool).

        Refused (SB-1154) when no step is left that can. Arguments are those of :meth:`decide`.
        """
        rule = self._by_name.get(decision.rule, self._book.last)
        deciding = Deciding(self._book, asked, views, flags=_NONE, history=history, now_ms=now_ms)
        return deciding.follow(rule, decision.fallback)

    def signature(self, asked: Asked, flags: Mapping[str, float] = _NONE) -> Hashable | None:
        """Return a key: two jobs with the same one get the same decision.

        It holds while views, flags and history are the same and the time is below :meth:`stable_until_ms`.
        None for a job with a deadline or a not-before of its own: for it every moment is another one.
        """
        if self._plain and _is_usual(asked):
            return ()
        if asked.deadline_ms is not None or asked.not_before_ms:
            return None
        book = self._book
        switches = {**book.flags, **{name: _percent(value) for name, value in flags.items()}}
        inside = [falls(percent, asked, "flag", name) for name, percent in switches.items()]
        for rule in book.rules:
            canary, shadow = rule.then.canary, rule.then.shadow
            inside.append(falls(canary.percent, asked, "canary", rule.name, key=canary.key))
            inside.append(falls(shadow.percent, asked, "shadow", rule.name, key=shadow.key))
            inside.append(falls(rule.explore, asked, "explore", rule.name))
        qubits = asked.circuit.qubits if asked.circuit is not None else -1
        return (book.version, self._reads(asked), bool(asked.session), qubits, tuple(inside))

    def stable_until_ms(self, now_ms: int) -> int | None:
        """Return when a window opens or closes next: until then time alone changes no decision.

        None when there is no window that changes. Deadlines are apart: they pass for each job by itself.
        """
        changes = [window.changes_ms(now_ms) for window in self._book.windows.values()]
        return min((change for change in changes if change is not None), default=None)

    def admits(self, pool: str, data_class: str) -> bool:
        """Tell whether work of this data class may go to a pool, on whatever way."""
        settings = self._book.pools.get(pool)
        return settings is not None and (data_class in PUBLIC or data_class in settings.access.data_classes)

    def _needs_circuit(self) -> bool:
        checked = bool(self._book.families)
        return checked or any(rule.where.native for rule in self._book.rules)


def _is_usual(asked: Asked) -> bool:
    return (
        not asked.backend
        and asked.deadline_ms is None
        and asked.data_class in PUBLIC
        and not asked.window
        and not asked.fallback
        and asked.max_cost is None
    )


def _percent(value: float) -> float:
    """Return a switch as a percentage: a boolean is all or nothing."""
    return value * 100.0 if isinstance(value, bool) else float(value)
