"""What the provider is like: its device, its prices, its limits, as data. Pure."""

from __future__ import annotations

from dataclasses import dataclass

COUPLINGS = ("line", "ring", "grid", "full")


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """The device that is for sale.

    ``seed`` makes one of many. A calibration holds for ``drift_seconds``; 0 is for ever.
    """

    name: str = "fake_qpu"
    qubits: int = 5
    coupling: str = "line"
    seed: int = 0
    drift_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do; 0 is no limit.

    ``max_shots``: of one run of one circuit; ``max_points``: rows of bindings; ``max_operations``: of a
    circuit; ``in_flight``: jobs of an account that have not ended; ``rate_per_second``: submissions of an
    account after a first ``burst``; ``credits``: what an account may be billed.
    """

    max_shots: int = 100_000
    max_points: int = 10_000
    max_operations: int = 100_000
    in_flight: int = 100
    rate_per_second: float = 0.0
    burst: int = 10
    credits: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """In the provider's currency: for each job, and for each shot of each circuit and point."""

    per_task: float = 0.01
    per_shot: float = 0.0001


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """All of it. ``slots`` jobs run at once, each for ``latency_seconds`` at least."""

    device: DeviceSettings = DeviceSettings()
    limits: Limits = Limits()
    prices: Prices = Prices()
    slots: int = 1
    latency_seconds: float = 0.0
