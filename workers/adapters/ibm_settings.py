"""What a pool's options say about IBM Quantum: which backend, as whom, in which mode. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shotbus.broker.config import NO_SECRET, Secret
from shotbus.workers.adapters.options import OptionReader
from shotbus.workers.providers.adapter import Patience

Mode = Literal["job", "batch", "session"]
#: Backends that Qiskit Runtime brings along, with calibrations once measured; they run in this process.
FAKE = "fake_"
_MODES = ("job", "batch", "session")
_CHANNELS = ("ibm_quantum_platform", "ibm_cloud")
_LONGEST = 86_400.0
_MOST_QUBITS = 100_000


@dataclass(frozen=True, slots=True)
class IbmSettings:
    """One backend of IBM's.

    Attributes:
        backend: its name; ``fake_...`` runs in this process.
        mode: how the jobs of a bundle reach it: each alone, or all in one batch or session of Qiskit Runtime.
        credentials: a reference to the API key.
        instance: the service instance's name or CRN; empty is the account's own choice.
        url: of the service's interface, where it is not the usual one.
        channel: of the account.
        max_qubits: the widest circuit that is tried; the backend's own width has the last word.
        max_execution_seconds: the longest a job may take of the QPU; 0 is the service's own limit.
        settle_seconds: how long a submission may take to be listed by the service.
        device_seconds: how long what the backend says of itself is remembered.
        patience: how long to wait for jobs.

    """

    backend: str
    mode: Mode = "job"
    credentials: Secret = NO_SECRET
    instance: str = ""
    url: str = ""
    channel: str = _CHANNELS[0]
    max_qubits: int = 1_000
    max_execution_seconds: int = 0
    settle_seconds: float = 120.0
    device_seconds: float = 60.0
    patience: Patience = field(default_factory=lambda: Patience(1.0, 300.0))

    @property
    def local(self) -> bool:
        """Whether the backend is one of those that run here."""
        return self.backend.startswith(FAKE)


def read_settings(options: Mapping[str, str]) -> IbmSettings:
    """Read a pool's options. Raises ShotbusError (SB-2001, SB-2002) with everything that is wrong."""
    reader = OptionReader(options)
    backend = reader.text("backend")
    if not backend:
        reader.refuse("backend", "a backend's name", "nothing", hint="fake_sherbrooke needs no account")
    local = backend.startswith(FAKE)
    settings = IbmSettings(
        backend=backend,
        mode=reader.word("mode", "job", _MODES),  # type: ignore[arg-type]  # one of them
        credentials=reader.secret("credentials"),
        instance=reader.text("instance"),
        url=reader.text("url"),
        channel=reader.word("channel", _CHANNELS[0], _CHANNELS),
        max_qubits=reader.whole("max_qubits", 1_000, 1, _MOST_QUBITS),
        max_execution_seconds=reader.whole("max_execution_seconds", 0, 0, 86_400),
        settle_seconds=reader.number("settle_seconds", 120.0, 0.0, _LONGEST),
        device_seconds=reader.number("device_seconds", 60.0, 0.0, _LONGEST),
        patience=Patience(
            reader.number("poll_seconds", 0.01 if local else 1.0, 0.001, _LONGEST),
            reader.number("wait_seconds", 300.0, 0.0, _LONGEST),
        ),
    )
    if backend and not local and not reader.given("credentials"):
        reader.refuse("credentials", "env:NAME or file:/path", "nothing", hint="the API key, by reference")
    reader.close()
    return settings
