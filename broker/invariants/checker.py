"""The checker: feeds records to its judges and gathers what they found. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.attempts import Attempts
from shotbus.broker.invariants.audits import Audits
from shotbus.broker.invariants.bills import Bills
from shotbus.broker.invariants.catalog import CATALOG
from shotbus.broker.invariants.clients import Clients
from shotbus.broker.invariants.findings import Bounds, Findings, Judge, Look, Violation
from shotbus.broker.invariants.letters import Letters
from shotbus.broker.invariants.lives import Life, Lives
from shotbus.broker.invariants.purses import Purses
from shotbus.broker.invariants.rows import Rows
from shotbus.broker.invariants.sweeps import Sweeps
from shotbus.broker.invariants.witnesses import History, ProviderLedger
from shotbus.schemas.errors import ShotbusError

#: In one record of these each other's are told of: which partition's order they bear does not matter.
TOPICS: tuple[str, ...] = (
    "results",
    "reductions",
    "dead-letters",
    "outcomes",
    "pools",
    "jobs",
    "control",
    "treasury",
    "treasury-ledger",
    "audit",
    "events",
)

#: What their readers delete as they go: a look at a broker that runs finds the newest at best.
_READ_ONCE = frozenset({"outcomes", "control", "treasury"})

#: What is missing when a need of the catalog is no topic.
_WORDS = {
    "history": "no client's history",
    "ledger": "no provider's ledger",
    "budgets": "no budgets",
    "wait_seconds": "no bound was given",
    "healed": "nobody says when faults healed",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    ``judged`` counts the looks at each invariant of the catalog; ``unjudged`` says of those without any why,
    and of the others what lay beyond this look, in words.
    """

    violations: list[Violation]
    judged: Mapping[str, int]
    unjudged: Mapping[str, str]


class Checker:
    """Feed it records in the order of their partitions, then ask for the :meth:`report`, once.

    Args:
        complete: every record since the beginning is fed; else lives may begin in the middle.
        trimmed: topics of which that is not so although it is of the others.
        bounds: numbers to judge by.

    """

    def __init__(
        self, *, complete: bool, trimmed: Collection[str] = (), bounds: Bounds | None = None
    ) -> None:
        self._complete, self._bounds, self._trimmed = complete, bounds or Bounds(), frozenset(trimmed)
        self.findings = Findings()
        wait = self._bounds.wait_seconds
        wait_ms = None if wait is None else wait * 1000
        self._lives = Lives(self.findings, complete=complete, wait_ms=wait_ms)
        self._judges: list[Judge] = []
        attempts = Attempts(self.findings, whole=complete and "outcomes" not in trimmed)
        for judge in (
            self._lives,
            attempts,
            Sweeps(self.findings),
            Letters(self.findings),
            Clients(self.findings),
            Bills(self.findings, attempts),
            Rows(self.findings),
            Purses(self.findings),
            Audits(self.findings, whole=complete and "audit" not in trimmed),
        ):
            self.add(judge)
        self._fed: dict[str, int] = {}

    @property
    def lives(self) -> Mapping[str, Life]:
        """What is known of each job so far."""
        return self._lives.known

    def add(self, judge: Judge) -> None:
        """Let another judge look on; before the first record."""
        self._judges.append(judge)

    def expect(self, topic: str) -> None:
        """Note that a topic is fed, even if it should have no record."""
        self._fed.setdefault(topic, 0)

    def take(self, topic: str, record: Record) -> None:
        """Take a record; ``topic`` is its logical name, without the prefix."""
        self._fed[topic] = self._fed.get(topic, 0) + 1
        for judge in self._judges:
            handler = judge.takes.get(topic)
            if handler is None:
                continue
            try:
                handler(record)
            except ShotbusError as error:
                place = f"{topic}[{record.partition}]@{record.offset}"
                self.findings.broke("I13", "records-are-readable", place, str(error))

    def report(
        self,
        *,
        over: bool,
        history: History | None = None,
        ledger: ProviderLedger | None = None,
        horizon: Mapping[int, int] | None = None,
        floor_ms: int = 0,
    ) -> Report:
        """Judge what can only be judged at the end.

        Args:
            over: nothing is under way any more.
            history: what the clients did.
            ledger: a provider's books.
            horizon: by partition of ``events`` the end at which the reading of everything else began. What
                came later may have left traces that were not read. None: nothing came later.
            floor_ms: what a life that ended before this left elsewhere may have been deleted since.

        """

        def settled(life: Life) -> bool:
            partition, offset = life.place
            early = horizon is None or offset < horizon.get(partition, 0)
            return early and (life.last_ms >= floor_ms or not life.ended)

        look = Look(
            self._lives.known,
            history or History(),
            ledger or ProviderLedger(),
            self._bounds,
            over=over,
            complete=self._complete,
            settled=settled,
        )
        for judge in self._judges:
            judge.finish(look)
        judged = {name: self.findings.judged[name] for name in CATALOG}
        return Report(self.findings.violations, judged, self._unjudged(look))

    def _unjudged(self, look: Look) -> dict[str, str]:
        present = {
            "history": bool(look.history.operations),
            "ledger": bool(look.ledger.pools or look.ledger.submissions),
            "budgets": self._bounds.budgets is not None,
            "wait_seconds": self._bounds.wait_seconds is not None,
            "healed": self._bounds.healed_ms is not None,
        }
        told = {}
        for name, invariant in CATALOG.items():
            missing = [need for need in invariant.needs if not present.get(need, need in self._fed)]
            reasons = [_WORDS.get(need, f"no topic {need}") for need in missing]
            if not self.findings.judged[name]:
                gone = sorted(self._trimmed & _READ_ONCE.intersection(invariant.needs))
                reasons += [f"{need} are deleted once they were read" for need in gone]
                reasons = reasons or ["nothing to judge"]
            told[name] = ", ".join(reasons)
        return {name: reason for name, reason in told.items() if reason}
