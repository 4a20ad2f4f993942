"""Logs and metrics of a process: structlog to stderr, Prometheus over HTTP. Opens a socket when asked.

Metric names are the public ones of docs/metrics.md. Nothing here is called per job except histogram
observations, which cost about a microsecond.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shotbus.broker.config import LogConfig, MetricsConfig
from shotbus.broker.invariants.catalog import CATALOG
from shotbus.broker.stages import STAGES, Timings
from shotbus.schemas.errors import fail

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
_BYTES = tuple(4**n for n in range(3, 12))
_LAYERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def configure_logging(config: LogConfig) -> None:
    """Send structured lines to stderr; standard library loggers join them at WARNING."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer() if config.format == "json" else structlog.dev.ConsoleRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _join_standard_library(shared, renderer)


def _join_standard_library(shared: Sequence[Any], renderer: Any) -> None:
    """Let lines of libraries (aiokafka, asyncio) come out in the same form, from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self, *, role: str, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        Info("shotbus_build", "version and role of this process", registry=registry).info(
            {"version": version, "role": role}
        )
        self.submitted = self._counter("jobs_submitted", "accepted submissions", ["priority"])
        self.refused = self._counter("jobs_refused", "refused submissions", ["error_code"])
        self.terminal = self._counter("jobs_terminal", "terminal results", ["outcome", "pool"])
        self.queue_depth = self._gauge("queue_depth", "jobs waiting", ["pool", "priority"])
        self.queue_seconds = self._gauge("queue_estimated_seconds", "backend seconds waiting", ["pool"])
        self.oldest = self._gauge("queue_oldest_age_seconds", "age of the oldest live job", ["priority"])
        self.inflight = self._gauge("pool_inflight", "bundles in flight", ["pool", "kind"])
        self.window = self._gauge("pool_window", "credits granted to this process", ["pool", "kind"])
        self.health = self._gauge("pool_health", "workers that are alive", ["pool", "kind"])
        self.pool_state = self._gauge(
            "pool_state", "shards of this process that see the pool so", ["pool", "kind", "state"]
        )
        self.breaker_state = self._gauge(
            "breaker_state", "shards of this process whose breaker is so", ["pool", "kind", "state"]
        )
        self.backpressure = self._gauge("backpressure_engaged", "1 above the pool's high mark", ["pool"])
        self.sheds = self._counter("sheds", "jobs turned away or put off", ["pool", "priority", "outcome"])
        self.forecasts = self._counter("forecasts", "predictions that have come out", ["pool", "outcome"])
        self.retries = self._counter("retries", "attempts that will be repeated", ["error_class"])
        self.fallback = self._counter("fallback", "answers by fallback", ["pool", "kind"])
        self.fenced = self._counter("fenced_writes", "reports of attempts that no longer count", [])
        self.dedup = self._counter("dedup_hits", "repeated submissions", [])
        self.cache_hits = self._counter("cache_hits", "lookups that were answered", ["cache"])
        self.cache_failures = self._counter("cache_failures", "lookups given up", ["cache"])
        self.dlq = self._counter("dlq_letters", "dead letters written", ["error_class"])
        self.dlq_depth = self._gauge("dlq_depth", "dead letters kept on this process's shards", [])
        self.violations = self._counter("invariant_violations", "promises that were broken", ["invariant"])
        for name in CATALOG:
            # What never happens is shown as 0: an alert needs something to grow.
            self.violations.labels(name)
        self.shots = self._counter("shots", "shots taken", ["pool"])
        self.lag = self._gauge("event_loop_lag_seconds", "delay of a due callback", [])
        self.progress = self._gauge("last_progress_seconds", "seconds since records were handled", [])
        self.stage = self._histogram("stage_duration_seconds", "seconds by stage", ["stage"], _SECONDS)
        self.payload = self._histogram("payload_bytes", "bytes by stage", ["stage"], _BYTES)
        self.end_to_end = self._histogram(
            "end_to_end_seconds", "from submission to result", ["priority"], _SECONDS
        )
        self.depth = self._histogram("circuit_depth", "layers of inspected circuits", [], _LAYERS)
        self.deviation = self._histogram("result_deviation", "late answers from given ones", [], _SHARES)
        self._exported = _Exported()
        registry.register(self._exported)
        self._stages = [self.stage.labels(stage.name) for stage in STAGES]
        self._payloads = [self.payload.labels(stage.name) for stage in STAGES]

    def observe(self, timings: Timings) -> None:
        """Count one job's stages, those it passed."""
        for number, seconds, bytes_in, bytes_out in timings.rows():
            if seconds:
                self._stages[number].observe(seconds)
            if bytes_in or bytes_out:
                self._payloads[number].observe(bytes_in + bytes_out)

    def export(
        self,
        role: str,
        labels: Mapping[str, str],
        read: Callable[[], Mapping[str, float]],
        gauges: Collection[str] = (),
    ) -> None:
        """Show a component's own counts, read when they are scraped.

        Those named in ``gauges`` come as ``shotbus_<role>_<name>``; the others must never fall while the
        process lives and are counters, ``shotbus_<role>_<name>_total``.
        """
        self._exported.sources.append(_Source(role, labels, read, frozenset(gauges)))

    def serve(self, config: MetricsConfig) -> str | None:
        """Start the endpoint; returns its URL, None when it is off. Raises ShotbusError (SB-2004)."""
        if config.port < 0:
            return None
        try:
            server, _ = start_http_server(config.port, addr=config.host, registry=self.registry)
        except OSError as error:
            hint = "port 0 picks a free one, -1 switches the endpoint off"
            raise fail(
                "SB-2004", "$.metrics.port", actual=config.port, detail=str(error), hint=hint
            ) from error
        return _endpoint(config.host, server.server_port)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"shotbus_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"shotbus_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"shotbus_{name}", text, labels, registry=self.registry, buckets=buckets)


def _endpoint(host: str, port: int) -> str:
    """Return a URL at which others find it: a wildcard address is every address of this host."""
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host  # noqa: S104 -- compared, not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/metrics"


class _Source(NamedTuple):
    role: str
    labels: Mapping[str, str]
    read: Callable[[], Mapping[str, float]]
    gauges: frozenset[str]


class _Exported(Collector):
    """Numbers that components keep for themselves; one family a name, whoever has it."""

    def __init__(self) -> None:
        self.sources: list[_Source] = []

    def collect(self) -> Iterator[Metric]:
        """Read them now."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for source in self.sources:
            for name, value in sorted(source.read().items()):
                full = f"shotbus_{source.role}_{name}"
                if full not in families:
                    families[full] = _family(full, name, source)
                families[full].add_metric(list(source.labels.values()), value)
        yield from families.values()


def _family(full: str, name: str, source: _Source) -> CounterMetricFamily | GaugeMetricFamily:
    text, labels = name.replace("_", " "), list(source.labels)
    if name in source.gauges:
        return GaugeMetricFamily(full, f"{text} now", labels=labels)
    return CounterMetricFamily(full, f"{text} since this process started", labels=labels)
