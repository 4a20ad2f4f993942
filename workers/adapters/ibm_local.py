"""Jobs on backends that Qiskit Runtime brings along: run here, by the same primitive, with its noise.

Each program and each run of shots draws from a seed of its own: the local mode has one for a whole job, and
bases that draw alike would err alike. Runs a thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from shotbus.broker.lru import Lru
from shotbus.workers.adapters.aer_run import row_seed

_KEPT = 64


class Piece(NamedTuple):
    """One call of the primitive: ``pub`` with shots, and the seed of its first row."""

    pub: tuple[Any, ...]
    seed: int


class LocalJob:
    """A job as the SDK's are asked, for pieces that run one after the other."""

    def __init__(self, name: str, future: Future[list[Any]], seconds: list[float]) -> None:
        self._name, self._future, self._seconds = name, future, seconds

    def job_id(self) -> str:
        """Return its name."""
        return self._name

    def status(self) -> str:
        """Return its state in the SDK's words."""
        if self._future.cancelled():
            return "CANCELLED"
        if self._future.done():
            return "ERROR" if self._future.exception() is not None else "DONE"
        return "RUNNING" if self._future.running() else "QUEUED"

    def error_message(self) -> str:
        """Return what went wrong, by the name of what was raised."""
        error = self._future.exception()
        return "" if error is None else type(error).__name__

    def result(self) -> list[Any]:
        """Return a result for each piece."""
        try:
            return self._future.result()
        except CancelledError:
            return []

    def usage(self) -> float:
        """Return how long it ran, seconds."""
        return sum(self._seconds)

    def cancel(self) -> None:
        """Take it from the queue; what runs goes on."""
        self._future.cancel()


class Simulators:
    """Aer with the noise of a backend, of those qubits alone that a circuit uses.

    The noise of a hundred qubits takes seconds to make, and again for every call to hand over.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._kept: Lru[frozenset[int], Any] = Lru(_KEPT)

    def of(self, circuit: Any) -> Any:
        """Return what a circuit on the backend's qubits runs on."""
        used = frozenset(
            circuit.find_bit(qubit).index
            for item in circuit.data
            if item.operation.name != "barrier"
            for qubit in item.qubits
        )
        return self._kept.get(used) or self._kept.put(used, self._made(used))

    def _made(self, used: frozenset[int]) -> Any:
        from qiskit_aer import AerSimulator

        # One thread: parallelism is the pool's.
        return AerSimulator.from_backend(_narrowed(self._backend, used), max_parallel_threads=1)


def _narrowed(backend: Any, used: frozenset[int]) -> Any:
    """Return a backend of the same width that can do nothing on other qubits than those."""
    from inspect import isclass

    from qiskit.transpiler import Target

    whole = backend.target
    target = Target(
        num_qubits=whole.num_qubits,
        dt=whole.dt,
        granularity=whole.granularity,
        qubit_properties=whole.qubit_properties,
    )
    for name in whole.operation_names:
        operation = whole.operation_from_name(name)
        if isclass(operation):
            target.add_instruction(operation, name=name)
            continue
        properties = {qubits: one for qubits, one in whole[name].items() if used.issuperset(qubits or ())}
        if properties:
            target.add_instruction(operation, properties, name=name)
    return _with_target(backend, target)


def _with_target(backend: Any, target: Any) -> Any:
    """Return a backend that has another target; a function, since its class needs Qiskit."""
    from qiskit.providers import BackendV2, Options

    class Narrow(BackendV2):  # type: ignore[misc]  # Qiskit has no types
        """A backend of which Aer reads the target."""

        @property
        def target(self) -> Any:
            return target

        @property
        def max_circuits(self) -> None:
            return None

        @classmethod
        def _default_options(cls) -> Options:
            return Options()

        def run(self, run_input: Any, **options: Any) -> Any:
            return backend.run(run_input, **options)

    return Narrow(name=backend.name, backend_version=backend.backend_version)


class LocalQueue:
    """Runs jobs one after the other, as a device does.

    Args:
        simulators: what the primitive runs on.

    """

    def __init__(self, simulators: Simulators) -> None:
        self._simulators = simulators
        self._thread = ThreadPoolExecutor(1, "fake-backend")

    def submit(self, name: str, pieces: Sequence[Piece]) -> LocalJob:
        """Queue a job."""
        seconds: list[float] = []
        return LocalJob(name, self._thread.submit(self._run, pieces, seconds), seconds)

    def _run(self, pieces: Sequence[Piece], seconds: list[float]) -> list[Any]:
        results = []
        for piece in pieces:
            begun = time.perf_counter()
            results.append(self._piece(piece))
            seconds.append(time.perf_counter() - begun)
        return results

    def _piece(self, piece: Piece) -> Any:
        from qiskit_ibm_runtime.executor_sampler import Sampler

        sampler = Sampler(mode=self._simulators.of(piece.pub[0]))
        sampler.options.simulator.seed_simulator = piece.seed
        # Fewer would round the angles that a caller has asked for.
        sampler.options.simulator.angle_decimals = 15
        return sampler.run([piece.pub]).result()[0]


def pieces_of(pubs: Sequence[tuple[Any, ...]], runs: int, seed: int) -> list[Piece]:
    """Return the pieces of a job whose programs come ``runs`` times each, with their seeds, 63 bits."""
    seeds = (row_seed(seed, 0, number // runs or None, number % runs) for number in range(len(pubs)))
    return [Piece(pub, drawn % 2**63) for pub, drawn in zip(pubs, seeds, strict=True)]
