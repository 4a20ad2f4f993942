"""Steps of a fallback chain, as text and as data. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

KINDS = ("pool", "cache", "defer", "demote", "review", "none")


@dataclass(frozen=True, slots=True)
class Step:
    """What to do when the choice before it cannot answer.

    ``pool`` (run on ``name``), ``cache`` (an earlier result, ``seconds`` old), ``defer`` (wait for the
    window ``name``), ``demote`` (to the class ``name``), ``review`` (a person decides), ``none`` (stop here).
    """

    kind: str
    name: str = ""
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``POOL``, ``cache:SECONDS``, ``defer:WINDOW``, ``demote:CLASS``, ``review`` or ``none``.

        Raises ValueError for anything else.
        """
        kind, colon, rest = text.partition(":")
        if not colon:
            return cls(kind) if kind in ("review", "none") else cls("pool", _named(kind))
        if kind == "cache":
            return cls("cache", seconds=_seconds(rest))
        if kind in ("pool", "defer", "demote"):
            return cls(kind, _named(rest))
        raise ValueError("POOL, cache:SECONDS, defer:WINDOW, demote:CLASS, review or none")

    def __str__(self) -> str:
        if self.kind == "cache":
            return f"cache:{self.seconds:g}"
        return self.name if self.kind == "pool" else f"{self.kind}:{self.name}" if self.name else self.kind


def _named(name: str) -> str:
    if not name:
        raise ValueError("the name is missing")
    return name


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("cache:SECONDS takes a number above 0")
    return seconds
