"""What the adapter of a provider asks of it: one verb, one question. No I/O.

A provider is somewhere else and costs: what it is handed it may have, whatever is answered. So every verb
says what is known afterwards, and none repeats anything; what happens next is decided for all providers
alike, by :mod:`shotbus.workers.providers.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState, BatchItem

if TYPE_CHECKING:
    from shotbus.workers.adapters.entries import Entries
    from shotbus.workers.providers.programs import Order


class NotSentError(Exception):
    """Nothing reached the provider; the text says why, and is safe to show."""


class NoAnswerError(Exception):
    """The request may have reached the provider, or not; the text says why, and is safe to show."""


class ImplausibleError(Exception):
    """An answer contradicts the request, or itself; the text says where, and is ours."""


class DownError(Exception):
    """The device takes nothing now, or nothing is known of it; the text says why, and is safe to show."""


class RefusedError(Exception):
    """The provider has said that it did not take a submission.

    Args:
        problem: why, in our words. SB-5007 where it proves nothing: the token is then asked about.
        retry_after_ms: how long the provider wants to be left alone.

    """

    def __init__(self, problem: Problem, retry_after_ms: int = 0) -> None:
        super().__init__(problem.code)
        self.problem, self.retry_after_ms = problem, retry_after_ms


class JobView(NamedTuple):
    """A job as its provider tells it.

    ``status`` is one of ``queued``, ``running``, ``done``, ``failed``, ``cancelled``; ``failure`` says what
    the last two are to us. ``cost`` is in the provider's currency, negative is not told; ``queue_seconds`` by
    the provider's clock. ``calibrations`` are those at the begin and at the end of the run, empty where it
    does not tell. ``digest``: of the submission that the provider has, empty where it does not tell. ``note``
    is what it says of the wait, for people.
    """

    id: str
    status: str
    failure: Problem | None = None
    cost: float = -1.0
    backend_seconds: float = -1.0
    queue_seconds: float = 0.0
    calibrations: tuple[str, str] = ("", "")
    digest: str = ""
    note: str = ""

    @property
    def open(self) -> bool:
        """Whether it has yet to end."""
        return self.status in ("queued", "running")


class Expected(NamedTuple):
    """What a result has to hold: ``bits`` of each program's outcomes, rows, shots of each run."""

    bits: tuple[int, ...]
    rows: int
    shots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result as it came.

    Attributes:
        raw: its bytes, or those of a canonical form where the SDK shows none.
        outcomes: of each program, all runs of a row added up; empty where ``wrong`` or ``gone``.
        wrong: why it is not believed; it may have been spoiled on its way.
        gone: the provider has the job, but its result no more.
        failure: why the provider has none for a part of the job, though it calls the job done.
        backend_seconds: what the run took, where only the result tells; negative is not told.

    """

    raw: bytes
    outcomes: tuple[Entries, ...] = ()
    wrong: str = ""
    gone: bool = False
    failure: Problem | None = None
    backend_seconds: float = -1.0


class Closed(NamedTuple):
    """What a provider says of a token: the job that has it, or ``absent``: none has, and none ever will."""

    view: JobView | None = None
    absent: bool = False


class Calibrated(Protocol):
    """A device as it was calibrated at a time."""

    calibration_id: str
    calibrated_ms: int
    snapshot: bytes

    @property
    def model(self) -> Any:
        """Its name, width and edges, as :class:`shotbus.workers.providers.device.Shape` has them."""

    @property
    def target(self) -> Any:
        """Qiskit's Target."""

    @property
    def noise_model(self) -> Any:
        """What a simulator adds; None where the device makes its own."""

    def state(self) -> BackendState:
        """Return what it says of the device."""
        ...


class Service(Protocol):
    """One device of one provider. Every verb may take as long as the service's own limits allow."""

    @property
    def capabilities(self) -> AdapterCapabilities: ...

    def current(self) -> Calibrated:
        """Return the calibration that holds now. Raises DownError."""
        ...

    def state(self) -> BackendState:
        """Return how the device is. Raises DownError."""
        ...

    def find_calibration(self, calibration_id: str) -> bytes | None:
        """Return the snapshot of one of the last calibrations."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Say that what is handed in meanwhile belongs together. Raises DownError on entering."""
        ...

    def submit(self, order: Order, item: BatchItem) -> JobView:
        """Hand a job in, once, under its item's token.

        Raises:
            NotSentError: nothing was handed in.
            RefusedError: it was not taken.
            NoAnswerError: it may have been.
            ImplausibleError: the answer does not say.

        """
        ...

    def find(self, token: str) -> JobView | None:
        """Return the job that came with a token; None is "not known now", and proves nothing."""
        ...

    def job(self, view: JobView, token: str) -> JobView | None:
        """Ask how a job is; None when there was no answer this time."""
        ...

    def fetch(self, view: JobView, token: str, order: Order) -> Fetched | None:
        """Fetch the result of a job that is done; None when there was no answer this time.

        ``order`` is what the job asks for; an earlier attempt may have compiled it for another calibration.
        """
        ...

    def close(self, token: str) -> Closed:
        """Ask whose a token is, so that "nobody's" is final. Both empty is "nobody can tell now"."""
        ...

    def cancel(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Ask for a job's end; return it as it is then, and whether the provider has decided about that."""
        ...

    def places(self, view: JobView) -> Mapping[str, str]:
        """Return where the provider keeps ``submission`` and ``answer`` of a job, for provenance."""
        ...

    def version(self) -> str:
        """Return the device's version as the provider told it last, empty where it tells none."""
        ...

    def told(self) -> Mapping[str, Any]:
        """Return what provenance says of the provider: address, mode; nothing that is secret."""
        ...

    def packages(self) -> tuple[str, ...]:
        """Return the distributions whose versions belong to a result."""
        ...
