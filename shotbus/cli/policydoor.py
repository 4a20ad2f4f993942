"""What ``policy explain`` says of the door: shedding, unique keys, quality gates and their remedies. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shotbus.broker.dispatcher.ladders import LADDERS, Action, Rung
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.doorview import DoorView, Level, Rival
from shotbus.broker.quality import OWN, RULE, quality_of

#: What is done with a second job of a unique key, and the code that tells it.
_POLICIES = {
    "existing": "refused, and its client takes that job's result (SB-1114)",
    "reject": "refused (SB-1115)",
    "supersede": "taken in the other's place, which is cancelled",
}


@dataclass(frozen=True, slots=True)
class AtTheDoor:
    """What the door would do with a job, by its class, pool and keys.

    ``verdict``: ``refuse`` or ``defer`` by shedding or its unique key, empty when it would be let in.
    ``gates``: by who asks for them, its own and the rule's.
    """

    view: DoorView
    pool: str
    priority: str
    demoted: str
    levels: tuple[Level, ...]
    unique_key: str = ""
    unique_policy: str = ""
    gates: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()

    @property
    def struck(self) -> Level | None:
        """The level of shedding that strikes now."""
        return self.levels[0] if self.levels and self.levels[0].engaged else None

    @property
    def rival(self) -> Rival | None:
        """The live job that has its unique key."""
        return self.view.rival if self.unique_key else None

    @property
    def verdict(self) -> str:
        """What happens instead of what routing says."""
        if self.rival and self.unique_policy != "supersede":
            return "refused by its unique key"
        if self.struck is None:
            return ""
        done = "refused" if self._action(self.struck) == "refuse" else "deferred"
        return f"{done} by shedding"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON may hold it; what only a broker knows is null where none was asked."""
        levels = [{**_plain(one), "action": self._action(one)} for one in self.levels]
        rival = self.rival and {name: getattr(self.rival, name) for name in ("job_id", "phase", "pool")}
        unique = {"key": self.unique_key, "policy": self.unique_policy, "rival": rival}
        asked = self.view.asked
        return {
            "asked": asked,
            "verdict": self.verdict,
            "shedding": levels if asked else None,
            "unique": (unique if asked else unique | {"rival": None}) if self.unique_key else None,
            "quality": {who: dict(gates) for who, gates in self.gates.items()},
            "remedies": list(self.remedies),
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people; nothing of what is neither configured nor asked for."""
        if not self.view.asked:
            yield "shedding and unique keys: not looked at, only a broker knows them"
        yield from map(self._level_line, self.levels)
        if self.unique_key and self.view.asked:
            yield f"unique key: {self._unique_words()}"
        for who, gates in self.gates.items():
            told = ", ".join(f"{name}={text}" for name, text in gates.items())
            yield f"quality ({who}): {told}"
        if self.remedies:
            yield f"an answer that fails it: {', then '.join(self.remedies)}"

    def _action(self, level: Level) -> str:
        return level.action(self.priority, self.demoted)

    def _level_line(self, one: Level) -> str:
        what = self._action(one)
        who = (self.demoted if what == "defer" else "") or self.priority
        marks = f"from {one.high:g} s of work waiting for {self.pool} until {one.low:g} s"
        after = f"{one.retry_after_ms / 1000:g} s"
        now = f"now {one.waiting:.0f} s wait"
        if not one.engaged:
            return f"shedding {one.name}: would {what} {who} {marks}; {now}"
        then = f"come again after {after}" if what == "refuse" else f"it goes into its queue {after} later"
        return f"shedding {one.name}: {what}s {who} {marks}; {now}: {then}"

    def _unique_words(self) -> str:
        if self.rival is None:
            return "no live job has it"
        place = f"{self.rival.phase} on {self.rival.pool}" if self.rival.pool else self.rival.phase
        return f"job {self.rival.job_id} has it ({place}): this one is {_POLICIES[self.unique_policy]}"


def at_the_door(decision: Decision, fields: Mapping[str, Any], view: DoorView) -> AtTheDoor:
    """Return what the door would do with a request that was decided so."""
    priority, demoted = fields["priority"], decision.priority
    gates = _gates(decision, fields)
    concerned = decision.pool and not decision.refused
    return AtTheDoor(
        view,
        decision.pool,
        priority,
        demoted,
        tuple(view.concerning(decision.pool, priority, demoted)) if concerned else (),
        fields["unique_key"],
        fields["unique_policy"] or "existing",
        gates,
        tuple(_remedies(decision)) if gates else (),
    )


def _gates(decision: Decision, fields: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    own = {name.removeprefix(OWN): text for name, text in quality_of(fields["options"]).items()}
    rule = {name.removeprefix(RULE): text for name, text in decision.quality.items()}
    asked = {"the job": own, f"rule {decision.rule}": rule}
    return {who: gates for who, gates in asked.items() if gates}


def _remedies(decision: Decision) -> Iterator[str]:
    """Yield what is done about an answer that fails its gate, in order: the ladder of UNSTABLE."""
    ladder, pools = LADDERS["UNSTABLE"], [step for step in decision.fallback if step.kind == "pool"]
    for rung in ladder.rungs:
        if rung.action is Action.RETRY:
            yield _again(rung)
        elif rung.action is Action.REROUTE and pools:
            yield f"the chain's next pool ({pools[0].name})"
        elif rung.action is Action.FALL_BACK and decision.fallback:
            yield f"down the chain ({', '.join(map(str, decision.fallback))})"
    yield ladder.outcome


def _again(rung: Rung) -> str:
    told = ", ".join(f"{name}={value}" for name, value in rung.overrides)
    return f"{rung.times} more on its pool" + (f" with {told}" if told else "")


def _plain(level: Level) -> dict[str, Any]:
    names = ("name", "engaged", "waiting", "high", "low", "retry_after_ms")
    return {name: getattr(level, name) for name in names}
