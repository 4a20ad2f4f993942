"""Which stage of its work a child is in, told to whoever limits how long it may be there. Holds one listener.

A child runs one bundle at a time with one adapter, so a process has one listener; without any, nobody hears.
"""

from __future__ import annotations

from collections.abc import Callable


class _Ear:
    listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """Have every stage told to ``listener`` from now on; None: to nobody."""
    _Ear.listener = listener


def entering(stage: str) -> None:
    """Tell that a stage of :mod:`shotbus.broker.stages` begins, and with it that the one before has ended."""
    if _Ear.listener is not None:
        _Ear.listener(stage)
