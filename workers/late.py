"""Jobs whose deadline passes before they begin: they are not run, whoever has them in hand. Pure.

Their dispatcher ends them as it would have by its own clock. That of a worker may be some seconds off; one
that is further off than a bundle may lie unread runs nothing, so nothing expires by it either.
"""

from __future__ import annotations

from collections.abc import Sequence

from shotbus.broker.dispatcher.ladders import EXPIRED
from shotbus.schemas.errors import fail
from shotbus.workers.adapters.base import BatchItem, ItemResult, failed


def part(items: Sequence[BatchItem], now_ms: int) -> tuple[Sequence[BatchItem], Sequence[BatchItem]]:
    """Part the items of a run into those that may begin at ``now_ms`` (wall time) and those too late."""
    late = [item for item in items if 0 < item.deadline_ms <= now_ms]
    if not late:
        return items, ()
    return [item for item in items if not 0 < item.deadline_ms <= now_ms], late


def late_among(results: Sequence[ItemResult]) -> int:
    """Return how many attempts were not begun, their deadlines having passed."""
    return sum(result.error_class == EXPIRED for result in results)


def not_begun(item: BatchItem, now_ms: int) -> ItemResult:
    """Return the result of an attempt that was not begun, its deadline having passed by ``now_ms``."""
    seconds = (now_ms - item.deadline_ms) / 1000
    return failed(fail("SB-4003", "$", actual=f"{seconds:.3f} s late"))
