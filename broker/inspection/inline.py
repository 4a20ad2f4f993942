"""Inspection within this process: what the child does, and what a simulation does instead. Pure."""

from __future__ import annotations

import hashlib
from typing import Protocol

from shotbus.broker.inspection.facts import Inspected
from shotbus.schemas.openqasm import CircuitError, CircuitLimits, inspect


class Inspecting(Protocol):
    """Whoever answers for circuit texts, one after the other."""

    async def inspect(self, text: bytes) -> Inspected:
        """Return the facts or the refusal. Raises ChildStartError when the host cannot inspect now."""
        ...

    async def close(self) -> None: ...


class InlineInspector:
    """Looks at texts without a process: for the simulation, and where all senders are trusted."""

    def __init__(self, limits: CircuitLimits) -> None:
        self._limits = limits

    async def inspect(self, text: bytes) -> Inspected:
        """Return the facts or the refusal."""
        return look_at(text, self._limits)

    async def close(self) -> None:
        """There is nothing to close."""


def look_at(text: bytes, limits: CircuitLimits) -> Inspected:
    """Check a text; the circuit's id is its SHA-256."""
    name = hashlib.sha256(text).hexdigest()
    try:
        return Inspected(name, inspect(text, limits))
    except CircuitError as error:
        return Inspected(name, None, error.problems)
