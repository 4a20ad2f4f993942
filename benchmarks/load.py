"""How busy a machine is with other things while a benchmark runs. Reads /proc."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_STAT = Path("/proc/stat")


class Spent(NamedTuple):
    """CPU seconds so far: of the whole machine while busy, of it in all, of this process and its children."""

    busy: float
    total: float
    own: float


def spent() -> Spent | None:
    """Read the clocks; None where there is no /proc/stat. Children count once they have ended."""
    if not _STAT.exists():
        return None
    ticks = [int(word) for word in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    total, idle = sum(ticks), ticks[3] + ticks[4]
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    hertz = os.sysconf("SC_CLK_TCK")
    return Spent((total - idle) / hertz, total / hertz, own)


def told(before: Spent | None, after: Spent | None, *, kafka: bool) -> str:
    """Return a sentence on the share of the CPUs that others took between two readings."""
    if before is None or after is None:
        return "what else ran on this machine is not known"
    total = max(after.total - before.total, 1e-9)
    own, busy = after.own - before.own, after.busy - before.busy
    who = "others (the Kafka broker among them)" if kafka else "others"
    return f"of the CPUs the benchmark took {own / total:.0%}, {who} {max(0.0, busy - own) / total:.0%}"
