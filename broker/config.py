"""Configuration as frozen data: what ``shotbus.toml`` may say, with defaults. Pure.

Every key can also be given as ``SHOTBUS__SECTION__KEY``. Loading, checking and "where does this value
come from" are in :mod:`shotbus.broker.config_loader`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from shotbus.broker.policy.config import (
    AccessConfig,
    CronWindowConfig,
    DeviceConfig,
    FamilyConfig,
    LatencyConfig,
    RoutingConfig,
    Share,
)

MODES = ("sample", "estimate")
#: What answers a pool: a simulator, a solver of problems, a QPU, or nothing that computes.
POOL_KINDS = ("simulator", "classical", "hardware", "none")
#: By what a budget sets aside what depends on time.
BOUNDS = ("attempt", "measured")
#: What budgets count. Of ``jobs`` and ``queued`` what counts is how many there are at a time.
RESOURCES = ("money", "backend_seconds", "shots", "jobs", "queued")
GAUGES = ("jobs", "queued")
#: Of what the jobs with workers can be limited.
LIMITED = ("tenant", "session", "backend")
PERIODS = ("total", "day", "month")
#: What a secret may say, for messages.
REFERENCES = "env:NAME or file:/absolute/path"
_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)?")


class Secret(str):
    """A secret by reference: the configuration holds ``env:NAME`` or ``file:/path``, never the value.

    Empty is none. Raises ValueError, which does not repeat it, for anything else.
    """

    __slots__ = ()

    def __new__(cls, reference: str = "") -> Self:
        """Check the form; nothing is looked up."""
        if not _REFERENCE.fullmatch(reference):
            msg = f"a secret is a reference, {REFERENCES}, never a value"
            raise ValueError(msg)
        return super().__new__(cls, reference)

    def __repr__(self) -> str:
        return f"Secret({self!s})"


NO_SECRET = Secret("")


class OptionText(str):
    """An option of an adapter: a text; numbers and truth values are taken as they are written in TOML.

    Raises TypeError for anything else. What it means is the adapter's to say.
    """

    __slots__ = ()
    wanted = "a text, a number, true or false"
    takes_bool = True

    def __new__(cls, value: str | float = "") -> Self:
        """Check the kind."""
        if not isinstance(value, str | int | float):
            raise TypeError(value)
        return super().__new__(cls, str(value).lower() if isinstance(value, bool) else str(value))


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where the bus is and how it is divided. ``partitions`` is fixed for the life of a prefix.

    ``instance`` is a role process's own name, kept over restarts: on Kafka, the one that comes back gets its
    partitions without waiting for its predecessor's session to time out. No two living processes of a role
    (of a pool, for workers) may have the same. Empty is none.
    """

    url: str = field(default="sqlite:///.shotbus", repr=False)  # its store= may carry a password
    prefix: str = "shotbus."
    partitions: int = 2
    work_partitions: int = 8
    retention_days: float = 3.0
    remembered_jobs: int = 1_048_576
    synchronous: str = "FULL"
    instance: str = ""


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """A priority class: its share is ``weight`` over the sum of the waiting classes' weights."""

    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PriceConfig:
    """What a pool costs, in currency units; one currency for the whole configuration.

    ``per_shot`` is for each shot of each point; ``per_task`` for each job; ``per_second`` for each backend
    second; ``per_session`` for each session, charged with its first job on the pool; ``minimum`` is the
    least that a job costs. Zeros are free of charge.
    """

    per_shot: float = 0.0
    per_task: float = 0.0
    per_second: float = 0.0
    per_session: float = 0.0
    minimum: float = 0.0


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a pool is left alone: its backend's errors over a sliding window, and how it is tried again.

    Opens when at least ``min_calls`` bundles ended within ``window_seconds`` and the share of errors,
    averaged over tenants, is above ``error_rate``. After ``pause_seconds``, growing by ``pause_factor`` up
    to ``pause_cap``, ``probes`` bundles of one job must succeed. Time seen throughout.
    """

    window_seconds: float = 30.0
    min_calls: int = 10
    error_rate: float = 0.5
    pause_seconds: float = 5.0
    pause_factor: float = 2.0
    pause_cap: float = 300.0
    probes: int = 2


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How many bundles a dispatcher keeps in flight at a pool, between 1 and the credits it was granted.

    The window shrinks when bundles take more than ``tolerance`` times as long as the same work usually
    does, or more than ``error_rate`` of the bundles fail by the backend's fault.
    """

    adaptive: bool = True
    tolerance: float = 2.0
    error_rate: float = 0.1


@dataclass(frozen=True, slots=True)
class CompileConfig:
    """When a pool's circuits are compiled anew although they were compiled for an earlier calibration.

    That is when the calibration which they were compiled for is older, by ``recompile_after_seconds``, than
    the one that holds (0: for every calibration), or when an error which they use has moved since by more
    than ``recompile_error_shift`` of what it was.
    """

    recompile_after_seconds: float = 86_400.0
    recompile_error_shift: float = 0.2


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """A group of identical workers for one backend.

    ``slots`` child processes a worker, each with ``prefetch`` bundles in hand; a bundle holds at most
    ``bundle_jobs`` jobs and about ``bundle_seconds`` of estimated work. ``seconds_per_point`` is the
    first estimate, measured values replace it. ``lease_seconds`` is time seen. A provider's limits hold for
    all workers together, 0 is none: at most ``max_in_flight`` bundles run, and ``rate_per_second`` begin
    after a first ``burst``. The pool counts as busy from ``high_seconds`` of waiting work until only
    ``low_seconds`` wait. ``options`` are the adapter's own; its workers refuse to start with others.
    """

    adapter: str = ""
    kind: str = "simulator"
    modes: tuple[str, ...] = MODES
    max_qubits: int = 28
    max_depth: int = 20_000
    slots: int = 2
    prefetch: int = 1
    bundle_jobs: int = 16
    bundle_seconds: float = 0.5
    seconds_per_point: float = 0.002
    lease_seconds: float = 10.0
    start_seconds: float = 60.0
    attempt_seconds: float = 600.0
    memory_mb: int = 8_192
    max_in_flight: int = 0
    rate_per_second: float = 0.0
    burst: int = 1
    high_seconds: float = 300.0
    low_seconds: float = 150.0
    options: dict[str, OptionText] = field(default_factory=dict)
    price: PriceConfig = field(default_factory=PriceConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)

    @property
    def paid(self) -> bool:
        """Whether running here costs: then nothing is sent twice on a guess."""
        return self.kind == "hardware" or self.price != PriceConfig()


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Caps at the door; what exceeds them is refused with the limit and the actual value.

    ``concurrency``: jobs that may be with workers at a time, by ``tenant``, ``session``, ``backend`` (the
    pool), each for all of them or as ``"tenant:ada"`` for one; the others wait.
    """

    max_shots: int = 10_000_000
    max_points: int = 1_000_000
    max_request_bytes: int = 262_144
    max_circuit_bytes: int = 1_048_576
    max_waiting: int = 1_000_000
    max_waiting_tenant: int = 500_000
    max_field: int = 256
    max_tags: int = 32
    concurrency: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InspectionConfig:
    """The look at a circuit before it may wait: ``mode`` ``always``, ``off`` where all senders are trusted.

    It happens in a child process with ``memory_mb`` of memory and ``seconds`` for each circuit; what
    takes more is refused. ``cache`` is how many circuits' facts a shard remembers.
    """

    mode: str = "always"
    seconds: float = 1.0
    memory_mb: int = 256
    cache: int = 16_384


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """What is kept for later jobs: with ``history`` the newest result of every piece of work.

    Without it those of jobs that may themselves ask for an earlier one, and all of them where a rule of the
    policy has the step ``cache:SECONDS``. It takes about a kilobyte more for each waiting job.
    """

    history: bool = False


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """What the workers of a host share: compiled circuits, at most ``compile_cache_mb`` of them.

    ``compile_cache`` is their directory, empty for none. ``auto`` is ``compiled`` in the data directory of an
    embedded broker, else ``shotbus/compiled`` in the user's cache directory.
    """

    compile_cache: str = "auto"
    compile_cache_mb: int = 512


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Backoff of failed attempts: ``base * factor**n`` seconds with jitter, at most ``cap``.

    Nothing is repeated later than ``give_up_seconds`` after a job's first failure. While fresh work waits,
    the repeats of one class of failures take at most ``budget`` of a pool's dispatches, and
    ``budget_burst`` at once.
    """

    max_attempts: int = 5
    base: float = 0.2
    factor: float = 2.0
    cap: float = 30.0
    max_deaths: int = 3
    give_up_seconds: float = 86_400.0
    budget: float = 0.2
    budget_burst: int = 20


@dataclass(frozen=True, slots=True)
class TimeoutsConfig:
    """The longest that a stage of an attempt may take, seconds; 0 is no limit of its own.

    ``compile``: parsing and transpiling. ``submit``: the call that hands a job to its provider.
    ``provider_queue``: waiting there. ``execute``: the run itself. ``retrieve``: fetching the result.
    """

    compile: float = 300.0
    submit: float = 60.0
    provider_queue: float = 0.0
    execute: float = 0.0
    retrieve: float = 120.0


@dataclass(frozen=True, slots=True)
class SheddingConfig:
    """What happens to arriving jobs while a pool has too much waiting.

    Engaged from ``over`` times the pool's ``high_seconds`` of waiting work until ``over`` times its
    ``low_seconds``: classes of ``refuse`` are refused, those of ``defer`` are accepted and queued
    ``retry_after_seconds`` later, once. ``pools`` empty is every pool. Accepted jobs are never dropped.
    """

    over: float = 1.0
    defer: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    retry_after_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class FairnessConfig:
    """Who goes first: ``mode`` ``weighted`` shares by the classes' weights, ``strict`` serves the greatest.

    A tenant's first job that has waited ``ageing_seconds`` goes one class up, after as much again the next;
    0 is never.
    """

    mode: str = "weighted"
    ageing_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Security of the Kafka connection; ``replication_factor`` -1 takes the cluster's default."""

    security_protocol: str = "PLAINTEXT"
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: Secret = NO_SECRET
    replication_factor: int = -1

    def __post_init__(self) -> None:
        # A caller without a type checker may pass a str: a plain value must not get in that way.
        object.__setattr__(self, "sasl_password", Secret(self.sasl_password))


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Security of the Redis connection; its address is in the URL's ``store=``."""

    username: str = ""
    password: Secret = NO_SECRET
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", Secret(self.password))


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Prometheus endpoint of each role process; port 0 takes a free one and says which, -1 is off."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """``format``: ``json`` or ``console``; ``level`` as in the standard library."""

    level: str = "info"
    format: str = "json"


def _classes() -> dict[str, ClassConfig]:
    weights = {"interactive": 8.0, "production": 4.0, "experiment": 2.0, "bulk": 1.0}
    return {name: ClassConfig(weight) for name, weight in weights.items()}


def _pools() -> dict[str, PoolConfig]:
    return {
        "aer": PoolConfig(adapter="aer", seconds_per_point=0.002),
        "classical": PoolConfig(
            adapter="classical", kind="classical", slots=1, modes=("estimate",), seconds_per_point=0.005
        ),
        "noop": PoolConfig(
            adapter="noop",
            kind="none",
            slots=8,
            prefetch=8,
            bundle_jobs=256,
            bundle_seconds=0.05,
            seconds_per_point=0.000_02,
        ),
        "vector": PoolConfig(adapter="vector", max_qubits=14, bundle_jobs=64, seconds_per_point=0.000_1),
    }


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """A limit on what jobs may take; ``limit`` in currency units, seconds, shots or jobs.

    ``tenant``, ``experiment`` and ``pool`` say whose: a name; empty for all together; ``*`` for each one by
    itself. Days and months are those of UTC. ``alerts`` are parts of the limit; ``block`` is the part that a
    dispatcher's shard may take in advance. ``bound`` says what is set aside of what depends on time: the
    longest that an attempt may take, or what is measured, which may not be enough.
    """

    tenant: str = ""
    experiment: str = ""
    pool: str = ""
    resource: str = "money"
    limit: float = 0.0
    period: str = "total"
    alerts: tuple[float, ...] = (0.5, 0.8, 1.0)
    block: float = 0.05
    bound: str = "attempt"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured. ``templates``: files with circuits by ``name@version``."""

    broker: BrokerConfig = field(default_factory=BrokerConfig)
    classes: dict[str, ClassConfig] = field(default_factory=_classes)
    pools: dict[str, PoolConfig] = field(default_factory=_pools)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    windows: dict[str, CronWindowConfig] = field(default_factory=dict)
    families: dict[str, FamilyConfig] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    flags: dict[str, Share] = field(default_factory=dict)
    latency: dict[str, LatencyConfig] = field(default_factory=dict)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    inspection: InspectionConfig = field(default_factory=InspectionConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)
    shedding: dict[str, SheddingConfig] = field(default_factory=dict)
    budgets: dict[str, BudgetConfig] = field(default_factory=dict)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    redis: RedisConfig = field(default_factory=RedisConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
