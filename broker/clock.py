"""Clocks as arguments: the shell hands them in, nobody below reads one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time and a monotonic counter."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
