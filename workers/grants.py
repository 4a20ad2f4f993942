"""Claims on pools that cost: nothing is submitted before the dispatcher has recorded whose the bundle is.

A claim that is durable may still be the second one, or come after the dispatcher has given the jobs to
somebody else; clocks that are apart say nothing about that. The record that grants it does: it stands in one
transaction with the lease, which fences everybody else.
"""

from __future__ import annotations

import asyncio

from shotbus.workers.outcomes import Claim


class Grants:
    """The claims of one worker that wait for their grant."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    def expect(self, claim: Claim) -> None:
        """Listen for a claim's grant; before it is published, or the grant may be missed."""
        self._waiting[claim.bundle_id, claim.lease_id] = asyncio.Event()

    def learn(self, bundle_id: str, lease_id: str) -> None:
        """Take a grant; those of other workers are nothing to this one."""
        event = self._waiting.get((bundle_id, lease_id))
        if event is not None:
            event.set()

    async def granted(self, claim: Claim, seconds: float) -> bool:
        """Wait for an expected claim's grant; False when it did not come in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting[claim.bundle_id, claim.lease_id].wait()
        except TimeoutError:
            return False
        return True

    def forget(self, claim: Claim) -> None:
        """Listen no longer; nothing happens to a claim that is not expected."""
        self._waiting.pop((claim.bundle_id, claim.lease_id), None)
