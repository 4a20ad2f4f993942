"""Transpiled circuits in the compile cache: as QPY, with where each qubit ends up. Uses the cache.

QPY below version 13 can run code when it is loaded (CVE-2025-2000), and a newer one than this SDK writes is
not ours: an entry of any other version than that which is written here is taken for damaged.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.entry import Entry, dated_key, key_of
from shotbus.workers.compiled.reuse import Fit

if TYPE_CHECKING:
    from shotbus.workers.adapters.aer_compile import RunOptions
    from shotbus.workers.adapters.aer_device import Calibrated

_MAGIC = b"QISKIT"
_PACKAGES = ("qiskit", "qiskit-aer", "qiskit-qasm3-import", "shotbus")


class Target(NamedTuple):
    """What circuits are transpiled for: its identity, and the topology of a device, empty for none."""

    name: str
    topology: str = ""


NO_TARGET = Target("")


class KeptCircuit(NamedTuple):
    """A transpiled circuit; qubit i of the text begins at ``begins[i]`` and ends up at ``wires[i]``.

    ``fit`` is what it was compiled for, None where there are no calibrations.
    """

    circuit: Any
    wires: tuple[int, ...]
    begins: tuple[int, ...]
    fit: Fit | None = None


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of what makes a transpiled circuit out of a text."""
    return {name: version(name) for name in _PACKAGES}


def kept_group(circuit_id: str, target: Target, options: RunOptions, *, bare: bool) -> str:
    """Return under what a transpiled circuit is kept, whatever the calibration is."""
    return key_of(
        circuit_id,
        target.name,
        topology=target.topology,
        options=dataclasses.asdict(options),
        bare=bare,
        versions=versions(),
    )


def entry_key(group: str, calibration: Calibrated) -> str:
    """Return under what it is kept for a calibration."""
    return dated_key(group, calibration.calibration_id, calibration.calibrated_ms)


def read_kept(kept: CompileCache, key: str) -> KeptCircuit | None:
    """Return what is kept, None when it is nothing that can be used."""
    entry = kept.get(key)
    return None if entry is None else loaded(kept, key, entry)


def fit_of(entry: Entry | None) -> Fit | None:
    """Return what an entry was compiled for; loading a circuit takes longer."""
    return Fit.read(entry.told["fit"]) if entry is not None and entry.told["fit"] else None


def loaded(kept: CompileCache, key: str, entry: Entry) -> KeptCircuit | None:
    """Return an entry's circuit; one that cannot be loaded is removed."""
    circuit = _load(entry.body)
    if circuit is None:
        kept.discard(key)
        return None
    return KeptCircuit(circuit, tuple(entry.told["wires"]), tuple(entry.told["begins"]), fit_of(entry))


def keep(kept: CompileCache, key: str, made: KeptCircuit) -> None:
    """Keep a transpiled circuit, if QPY has a form for it."""
    if not kept.keeps:
        return
    body = _dump(made.circuit)
    if body is None:
        kept.counts.failed += 1
        return
    fit = made.fit.as_json() if made.fit else None
    told = {"wires": _numbers(made.wires), "begins": _numbers(made.begins), "fit": fit}
    kept.put(key, Entry(told, body))


def _numbers(places: Sequence[int]) -> list[int]:
    return [int(place) for place in places]


def _dump(circuit: Any) -> bytes | None:
    from qiskit import qpy
    from qiskit.exceptions import QiskitError

    written = io.BytesIO()
    try:
        qpy.dump(circuit, written)
    except (QiskitError, TypeError, ValueError):
        return None
    return written.getvalue()


def _load(body: bytes) -> Any:
    """Return the circuit, None for bytes of another version or that QPY cannot read."""
    from qiskit import qpy

    written = bytes([qpy.common.QPY_VERSION])
    if body[: len(_MAGIC) + 1] != _MAGIC + written:
        return None
    try:
        (circuit,) = qpy.load(io.BytesIO(body))
    except Exception:  # noqa: BLE001 (whatever it raises on bytes it does not like: they are compiled anew)
        return None
    return circuit
