"""The adapter seam: what a backend declares about itself and the one verb that runs a batch. No I/O.

An adapter is registered by name, ours below and those of others as entry points of the group
``shotbus.backends``; the module behind the name is imported only where it is used, so a host that never runs
Aer never imports Qiskit. Every adapter passes ``tests/contract/test_adapters.py``.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

from shotbus.broker.dispatcher.ladders import EXPIRED
from shotbus.broker.stages import Timings
from shotbus.schemas.codec import Fields, decode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.workers.compiled.cache import CompileCache, Origin

Kind = Literal["simulator", "classical", "hardware", "none"]
#: What a provider says of a submission token: it has the result, it works on it, it never had it, or
#: nobody can tell. The empty word is that of an item that was run, not looked up.
Found = Literal["", "done", "running", "absent", "unknown"]

#: A packed result above this travels nowhere: outcome records stay under a megabyte with their frame.
MAX_PAYLOAD_BYTES = 900_000

#: The group of entry points under which distributions offer adapters: name = "package.module:create".
GROUP = "shotbus.backends"
#: name -> module with a ``create(options)`` that returns an :class:`Adapter` or refuses the pool's options.
REGISTRY: Mapping[str, str] = {
    "aer": "shotbus.workers.adapters.aer",
    "braket": "shotbus.workers.adapters.braket",
    "classical": "shotbus.workers.adapters.classical",
    "noop": "shotbus.workers.adapters.noop",
    "pennylane": "shotbus.workers.adapters.pennylane",
    "faulty": "shotbus.workers.adapters.faulty",
    "ibm": "shotbus.workers.adapters.ibm",
    "remote": "shotbus.workers.adapters.remote",
    "sleep": "shotbus.workers.adapters.sleep",
    "vector": "shotbus.workers.adapters.vector",
}

#: Codes that say "not here" or "not now" rather than "never"; every other code is the job's own fault.
_CLASSES: Mapping[str, str] = {
    "SB-1110": "CONSTRAINT",
    "SB-1116": "CONSTRAINT",
    "SB-1117": "CONSTRAINT",
    "SB-1118": "CONSTRAINT",
    "SB-1113": "CONSTRAINT",
    "SB-1219": "TRANSIENT",
    "SB-4002": "REVOKED",
    "SB-4003": EXPIRED,
    "SB-5001": "TRANSIENT",
    "SB-5002": "TRANSIENT",
    "SB-5003": "CRASHED",
    "SB-5004": "TIMEOUT",
    "SB-5005": "UNSTABLE",
    "SB-5006": "NOT_STARTED",
    "SB-5007": "UNKNOWN_OUTCOME",
    "SB-5008": "BACKEND_DOWN",
    "SB-5009": "THROTTLED",
    "SB-5010": "UNSTABLE",
    "SB-5011": "UNSTABLE",
    "SB-5012": "CANCELLED_BY_PROVIDER",
    "SB-9001": "INTERNAL",
}


@dataclass(frozen=True, slots=True)
class AdapterCapabilities:
    """What an adapter declares.

    ``inline``: runs inside the worker's event loop, so it must answer in microseconds; the others run
    in child processes. ``paid``: a run costs money, so it may only begin once ``started`` is durable.
    ``executed_on``: the backend's name as its provider writes it. ``dated``: its answers say which
    calibration they were measured with, so that the adapter judges itself whether that changed under a run;
    a job may have waited at its provider for hours.
    """

    pool: str
    kind: Kind
    modes: tuple[str, ...]
    max_qubits: int
    inline: bool
    paid: bool
    executed_on: str
    dated: bool = False

    @property
    def needs_circuits(self) -> bool:
        """Whether a run reads the program text; the others answer from the request alone."""
        return self.kind in ("simulator", "hardware")


_AS_REQUESTED: Mapping[str, str] = MappingProxyType({})


class BatchItem:
    """One attempt; its request is decoded when first asked for. Raises ShotbusError then (SB-1001).

    ``overrides`` are options that replace the request's for this attempt, and ``shots``, unless negative,
    replaces its shots: :attr:`request` already has them. From ``deadline_ms`` on, wall time, it is not begun
    any more; 0 is no deadline.
    """

    def __init__(
        self,
        job_id: str,
        attempt: int,
        seed: int,
        raw: bytes,
        *,
        overrides: Mapping[str, str] = _AS_REQUESTED,
        shots: int = -1,
        token: str = "",
        deadline_ms: int = 0,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.seed = seed
        self.raw = raw
        self.overrides = overrides
        self.shots = shots
        self.deadline_ms = deadline_ms
        self._token = token

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> BatchItem:
        """Return what a bundle's item asks for."""
        return cls(
            item["job_id"],
            item["attempt"],
            item["seed"],
            item["request"],
            overrides=item["overrides"],
            shots=item["shots"],
            token=item["token"],
            deadline_ms=item["deadline_ms"],
        )

    @cached_property
    def request(self) -> Fields:
        """The decoded CircuitRequest, as this attempt is to answer it."""
        fields = decode(self.raw, "circuit_request")[1]
        if self.overrides:
            fields["options"] = {**fields["options"], **self.overrides}
        if self.shots >= 0:
            fields["shots"] = self.shots
        return fields

    @property
    def token(self) -> str:
        """What the job is submitted under: the same for all its attempts until one is proven absent."""
        return self._token or f"{self.job_id}.0"

    @property
    def replaced(self) -> dict[str, Any]:
        """What this attempt does otherwise than its request asks, for provenance; mostly nothing."""
        found: dict[str, Any] = {"options": dict(self.overrides)} if self.overrides else {}
        return {**found, "shots": self.shots} if self.shots >= 0 else found


@dataclass(frozen=True, slots=True)
class Batch:
    """Attempts to be run together. ``circuits`` holds the Circuit records that are known, by id."""

    items: Sequence[BatchItem]
    circuits: Mapping[str, Fields] = field(default_factory=dict)


@dataclass(slots=True)
class ItemResult:
    """What became of one attempt.

    ``payload`` is packed (:mod:`shotbus.schemas.pub`), ``shots`` counts all that were taken over points
    and measurement bases. Problems and an empty ``error_class`` exclude each other. ``cost`` is what the
    provider billed, in budget units, and ``backend_seconds`` what it took of the backend; negative is not
    known, and then the seconds of stage ``execute`` stand for the latter. ``found`` answers a look-up.
    """

    error_class: str = ""
    problems: tuple[Problem, ...] = ()
    payload: bytes = b""
    shots: int = 0
    retry_after_ms: int = 0
    timings: Timings = field(default_factory=Timings)
    found: Found = ""
    cost: float = -1.0
    backend_seconds: float = -1.0
    provider_job_id: str = ""


class Adapter(Protocol):
    """One backend."""

    @property
    def capabilities(self) -> AdapterCapabilities: ...

    def run(self, batch: Batch) -> list[ItemResult]:
        """Return one result an item, in order. An item's failure is its result, never an exception."""
        ...

    def provenance(self, batch: Batch) -> dict[str, Any]:
        """Return facts about the batch that just ran: backend, versions, options, transpiled circuits.

        ``calibration_id``, where there is one, is the content address of the calibration it ran under;
        ``calibrations`` are all that it names, where those are others, too.
        """
        ...


@runtime_checkable
class CanLookUp(Protocol):
    """An adapter whose provider remembers what it was given. Every paid one has to be.

    The others answer for themselves: of a run that leaves nothing outside this host there is nothing to
    be found, so a job whose outcome is not known may simply run again.
    """

    def look_up(self, batch: Batch) -> list[ItemResult]:
        """Ask what became of the items' tokens; submit nothing.

        Returns one result an item, in order, with ``found`` set: ``done`` comes with what the item came
        to, its failure included. Whatever cannot be told for certain is ``unknown``.
        """
        ...


@runtime_checkable
class CanCancel(Protocol):
    """An adapter whose provider can be asked to cancel what it was given.

    On the pools of the others that cost, what a provider may have goes on to its end whoever called it off.
    """

    def cancel(self, tokens: AbstractSet[str]) -> None:
        """Learn which of the jobs that are run or looked up now nobody wants: all of them each time.

        Called from any thread, while :meth:`Adapter.run` waits as well; only takes note. From then on none
        of them is handed in, and the provider is asked to cancel those that it has. What came of that is
        the item's result: REVOKED (SB-4002), with its bill, where nothing was handed in or the provider
        has said that it will not run; in any other case what it would have been.
        """
        ...


class Compiled(NamedTuple):
    """What became of one item that was only compiled: where it came from, or why it cannot be compiled."""

    origin: Origin | None = None
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()


@runtime_checkable
class CanCompile(Protocol):
    """An adapter whose circuits can be compiled without being run, and kept for other processes.

    The others compile nothing, or whatever they do for every run; nothing is compiled ahead for their pools.
    """

    def compile(self, batch: Batch) -> list[Compiled]:
        """Return one word an item, in order. An item's failure is its result, never an exception."""
        ...

    def keep_in(self, cache: CompileCache) -> None:
        """Have what is compiled kept in ``cache`` from now on, and looked for there."""
        ...


@dataclass(frozen=True, slots=True)
class BackendState:
    """How a backend is at a moment. The default is a healthy one of which nothing else is known.

    Attributes:
        unhealthy: why it can run nothing now; empty when it can.
        calibration_id: content address of the calibration in use (:func:`content_address`); empty for none.
        calibrated_ms: wall time at which that was made, milliseconds since 1970; 0 is unknown.
        provider_queue_seconds: what the provider says a job waits there; negative is unknown.
        fidelity: mean of the two-qubit gates, 0 to 1; None is unknown.
        t1_us: mean relaxation time, microseconds; None is unknown.
        t2_us: mean dephasing time, microseconds; None is unknown.

    """

    unhealthy: str = ""
    calibration_id: str = ""
    calibrated_ms: int = 0
    provider_queue_seconds: float = -1.0
    fidelity: float | None = None
    t1_us: float | None = None
    t2_us: float | None = None


@runtime_checkable
class CanSense(Protocol):
    """An adapter that knows how its backend is. The others count as healthy and tell nothing."""

    def sense(self) -> BackendState:
        """Return how the backend is now.

        Asked before and after every run, and every second while nothing runs, so what takes long is
        remembered. What keeps it from working is told as ``unhealthy``, not raised.
        """
        ...

    def calibration(self, calibration_id: str) -> bytes | None:
        """Return the snapshot whose :func:`content_address` this is; None when it is not held any more."""
        ...


def content_address(snapshot: bytes) -> str:
    """Return the id of a calibration snapshot: its SHA-256, in hex."""
    return hashlib.sha256(snapshot).hexdigest()


NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def load(name: str, options: Mapping[str, str] = NO_OPTIONS, *, place: str = "$.options") -> Adapter:
    """Return a new adapter.

    Args:
        name: as registered.
        options: the adapter's own, ``[pools.NAME.options]``.
        place: where they stand, for what is wrong with them.

    Raises:
        ShotbusError: SB-1102 for a name that is not registered; SB-2001 and SB-2002 for options that the
            adapter does not know or cannot use, all at once.

    """
    create = _creator(name)
    try:
        return create(options)
    except ShotbusError as error:
        raise ShotbusError(problem.under(place) for problem in error.problems) from None


def _creator(name: str) -> Callable[[Mapping[str, str]], Adapter]:
    """Return what makes an adapter; nobody replaces one of ours by taking its name."""
    if (module := REGISTRY.get(name)) is not None:
        return cast("Callable[[Mapping[str, str]], Adapter]", importlib.import_module(module).create)
    offered = entry_points(group=GROUP)
    if name not in offered.names:
        known = (*REGISTRY, *sorted(offered.names - set(REGISTRY)))
        raise fail("SB-1102", "$.adapter", actual=name, limit=", ".join(known))
    return cast("Callable[[Mapping[str, str]], Adapter]", offered[name].load())


def error_class_of(problems: Sequence[Problem]) -> str:
    """Return the class of an attempt's failure; INVALID wins, since no retry can cure it."""
    classes = [_CLASSES.get(problem.code, "INVALID") for problem in problems]
    return "INVALID" if "INVALID" in classes else classes[0]


def failed(error: ShotbusError, timings: Timings | None = None, *, retry_after_ms: int = 0) -> ItemResult:
    """Return the result of an attempt that ended with ``error``, to be tried again after so long at least."""
    return ItemResult(
        error_class_of(error.problems),
        error.problems,
        retry_after_ms=retry_after_ms,
        timings=timings or Timings(),
    )


def internal(error: BaseException) -> ItemResult:
    """Return the result of an attempt that met a defect of ours; only the error's type is told."""
    return failed(fail("SB-9001", "$", detail=type(error).__name__))


def check_payload(payload: bytes) -> bytes:
    """Return ``payload``, or refuse one that would not fit a record (SB-1113)."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise too_large(len(payload))
    return payload


def too_large(size: int) -> ShotbusError:
    """Return the refusal of a result of ``size`` packed bytes."""
    return fail(
        "SB-1113",
        "$.result",
        limit=f"{MAX_PAYLOAD_BYTES} bytes",
        actual=f"{size} bytes",
        hint="fewer points a job, or fewer shots",
    )
