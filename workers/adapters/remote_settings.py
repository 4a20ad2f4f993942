"""What a pool's options say about a remote provider: where it is, which device, how long to wait. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shotbus.broker.config import NO_SECRET, Secret
from shotbus.workers.adapters.options import OptionReader

_MOST_QUBITS = 100_000
_LONGEST = 86_400.0


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A provider's service and one device of it.

    Attributes:
        url: of the service; ``https`` unless it is on this host.
        device: its name, as the provider writes it.
        credentials: a reference to the bearer token.
        ca_file: certificates to trust instead of the system's.
        max_qubits: the widest circuit that is tried; the device's own width has the last word.
        connect_seconds: the longest a connection may take.
        submit_seconds: the longest an answer to a submission may take; later its outcome is unknown.
        request_seconds: the longest an answer to a question may take.
        poll_seconds: the first pause between two questions about a job; later ones grow up to 20 times.
        wait_seconds: how long a run waits for its jobs; later their outcome is asked for by look-ups.
        device_seconds: how long what the device says of itself is remembered.

    """

    url: str
    device: str
    credentials: Secret = NO_SECRET
    ca_file: str = ""
    max_qubits: int = 1_000
    connect_seconds: float = 5.0
    submit_seconds: float = 30.0
    request_seconds: float = 10.0
    poll_seconds: float = 0.25
    wait_seconds: float = 300.0
    device_seconds: float = 2.0


def read_settings(options: Mapping[str, str]) -> RemoteSettings:
    """Read a pool's options. Raises ShotbusError (SB-2001, SB-2002) with everything that is wrong."""
    reader = OptionReader(options)
    settings = RemoteSettings(
        url=reader.url("url", needed=True),
        device=_required(reader, "device", "the device's name at its provider"),
        credentials=reader.secret("credentials"),
        ca_file=reader.text("ca_file"),
        max_qubits=reader.whole("max_qubits", 1_000, 1, _MOST_QUBITS),
        connect_seconds=reader.number("connect_seconds", 5.0, 0.01, _LONGEST),
        submit_seconds=reader.number("submit_seconds", 30.0, 0.01, _LONGEST),
        request_seconds=reader.number("request_seconds", 10.0, 0.01, _LONGEST),
        poll_seconds=reader.number("poll_seconds", 0.25, 0.001, _LONGEST),
        wait_seconds=reader.number("wait_seconds", 300.0, 0.0, _LONGEST),
        device_seconds=reader.number("device_seconds", 2.0, 0.0, _LONGEST),
    )
    reader.close()
    return settings


def _required(reader: OptionReader, name: str, wanted: str) -> str:
    if not (value := reader.text(name)):
        reader.refuse(name, wanted, "nothing")
    return value
