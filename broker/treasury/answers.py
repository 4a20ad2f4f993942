"""What an allowance answers about a job. Types only."""

from __future__ import annotations

from typing import NamedTuple

from shotbus.broker.treasury.budgets import Purse
from shotbus.schemas.errors import Problem


class Reserved(NamedTuple):
    """The job may go; ``parts`` are the units that it holds, by purse."""

    parts: tuple[tuple[Purse, int], ...]


class Waits(NamedTuple):
    """The Treasury is asked with the next :meth:`Allowance.tick`; the answer comes as a :class:`Decided`."""

    purses: tuple[Purse, ...]


class Refused(NamedTuple):
    """The job may not go; ``retry_after_ms`` 0 means that coming again is of no use."""

    problems: tuple[Problem, ...]
    retry_after_ms: int


class Decided(NamedTuple):
    """The answer for a job that waited."""

    job_id: str
    answer: Reserved | Refused


class Settled(NamedTuple):
    """A job's units are spent or free again; ``overdrawn`` are those that no grant covered, by purse."""

    overdrawn: tuple[tuple[Purse, int], ...]


UNLIMITED = Reserved(())
