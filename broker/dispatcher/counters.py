"""What happened in a shard since the last look. Plain data."""

from __future__ import annotations

from collections.abc import Mapping

from shotbus.broker.dispatcher.window import Answer


class Counters:
    """What happened since the last look; the edge turns it into metrics."""

    __slots__ = ("accepted", "answered", "dedup_hits", "ended", "fenced", "forecasts", "retries", "sheds")

    def __init__(self) -> None:
        self.accepted: dict[str, int] = {}
        #: Class and seconds from submission to result of each job that ended.
        self.ended: list[tuple[str, float]] = []
        #: By pool, bundles that came back: what the windows of the process learn from.
        self.answered: list[tuple[str, Answer]] = []
        self.dedup_hits = 0
        self.fenced = 0
        self.retries: dict[str, int] = {}
        #: By pool, what became of predictions.
        self.forecasts: Mapping[tuple[str, str], int] = {}
        #: By pool, class, and what became of a job that came when there was too much: few do.
        self.sheds: dict[tuple[str, str, str], int] = {}

    def shed(self, pool: str, priority: str, outcome: str) -> None:
        """Count a job that load has turned away (``refused``) or put off (``deferred``)."""
        key = (pool, priority, outcome)
        self.sheds[key] = self.sheds.get(key, 0) + 1
