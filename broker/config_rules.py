"""What a configuration's values must be to work at all: ranges and words, checked at once. Pure."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from shotbus.broker.config import BOUNDS, GAUGES, LIMITED, MODES, PERIODS, POOL_KINDS, RESOURCES, Config
from shotbus.broker.policy.check import check_policy
from shotbus.broker.template_names import TEMPLATE
from shotbus.schemas.errors import Problem

# Kafka's rule for topic names, which begin with the prefix and end with a pool or a class.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LEVELS = ("debug", "info", "warning", "error", "critical")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,64}")


class _Rule(NamedTuple):
    limit: str
    holds: Callable[[Any], bool]


def _from(low: float, high: float = math.inf) -> _Rule:
    limit = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
    return _Rule(limit, lambda value: low <= value <= high and math.isfinite(value))


def _above(low: float, high: float = math.inf) -> _Rule:
    limit = f"above {low:g}" + ("" if math.isinf(high) else f", at most {high:g}")
    return _Rule(limit, lambda value: low < value <= high and math.isfinite(value))


def _words(*allowed: str) -> _Rule:
    return _Rule(", ".join(allowed), lambda value: value in allowed)


def _is_instance(value: str) -> bool:
    """Say whether Kafka takes it as a ``group.instance.id``, or it is none."""
    return not value or (_NAME.fullmatch(value) is not None and value not in (".", ".."))


_MODES = _Rule(f"one or more of {', '.join(MODES)}", lambda value: bool(value) and set(value) <= set(MODES))
_RULES: Mapping[str, Mapping[str, _Rule]] = {
    "broker": {
        "prefix": _Rule("letters, digits, . _ -", lambda value: _PREFIX.fullmatch(value) is not None),
        "partitions": _from(1, 1_024),
        "work_partitions": _from(1, 1_024),
        "retention_days": _above(0, 3_650),
        "remembered_jobs": _from(1_024, 1 << 30),
        "synchronous": _words("FULL", "NORMAL"),
        "instance": _Rule("letters, digits, . _ -, and not only dots", _is_instance),
    },
    "classes": {"weight": _above(0, 1e6)},
    "pools": {
        "kind": _words(*POOL_KINDS),
        "modes": _MODES,
        "max_qubits": _from(1),
        "max_depth": _from(1),
        "slots": _from(1, 1_024),
        "prefetch": _from(0, 1_024),
        "bundle_jobs": _from(1, 100_000),
        "bundle_seconds": _above(0),
        "seconds_per_point": _above(0),
        "lease_seconds": _above(0),
        "start_seconds": _above(0),
        "attempt_seconds": _above(0),
        "memory_mb": _from(64),
        "max_in_flight": _from(0),
        "rate_per_second": _from(0),
        "burst": _from(1, 1_000_000),
        "high_seconds": _above(0),
        "low_seconds": _from(0),
    },
    "pools.breaker": {
        "window_seconds": _above(0, 86_400),
        "min_calls": _from(1),
        "error_rate": _from(0, 1),
        "pause_seconds": _above(0, 86_400),
        "pause_factor": _from(1, 100),
        "pause_cap": _above(0, 86_400),
        "probes": _from(1, 100),
    },
    "pools.flow": {"tolerance": _from(1, 1_000), "error_rate": _from(0, 1)},
    "pools.compile": {
        "recompile_after_seconds": _from(0, 1e9),
        "recompile_error_shift": _from(0, 1e6),
    },
    "pools.device": {
        "fidelity": _from(0, 1),
        "t1_us": _from(0),
        "t2_us": _from(0),
        "calibration_seconds": _from(0),
    },
    "pools.price": {
        "per_shot": _from(0, 1e6),
        "per_task": _from(0, 1e6),
        "per_second": _from(0, 1e6),
        "per_session": _from(0, 1e6),
        "minimum": _from(0, 1e6),
    },
    "routing": {
        "min_history": _from(1, 1e9),
        "explore_percent": _from(0, 100),
        "down_seconds": _from(0, 1e9),
    },
    "latency": dict.fromkeys(("admit", "queue", "compile", "execute", "deliver", "total"), _from(0, 1e9)),
    "budgets": {
        "resource": _words(*RESOURCES),
        "limit": _from(0, 1e12),
        "period": _words(*PERIODS),
        "alerts": _Rule("above 0, at most 10, each", lambda value: all(0 < part <= 10 for part in value)),
        "block": _from(0, 1),
        "bound": _words(*BOUNDS),
    },
    "limits": {
        "max_shots": _from(1),
        "max_points": _from(1, 1_000_000),
        "max_request_bytes": _from(1_024, 1_000_000),
        "max_circuit_bytes": _from(64, 1_048_576),
        "max_waiting": _from(1),
        "max_waiting_tenant": _from(1),
        "max_field": _from(64, 65_536),
        "max_tags": _from(0, 4_096),
    },
    "inspection": {
        "mode": _words("always", "off"),
        "seconds": _from(0.05, 60),
        "memory_mb": _from(96, 65_536),
        "cache": _from(16, 1 << 24),
    },
    "workers": {"compile_cache_mb": _from(1, 1 << 20)},
    "fairness": {"mode": _words("weighted", "strict"), "ageing_seconds": _from(0)},
    "retry": {
        "max_attempts": _from(1),
        "base": _from(0),
        "factor": _from(1),
        "cap": _from(0),
        "max_deaths": _from(1),
        "give_up_seconds": _above(0),
        "budget": _above(0, 0.99),
        "budget_burst": _from(1),
    },
    "timeouts": {
        "compile": _from(0),
        "submit": _from(0),
        "provider_queue": _from(0),
        "execute": _from(0),
        "retrieve": _from(0),
    },
    "shedding": {"over": _above(0), "retry_after_seconds": _above(0)},
    "kafka": {
        "security_protocol": _words("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "replication_factor": _Rule("-1, or 1 to 32", lambda value: value == -1 or 1 <= value <= 32),
    },
    "metrics": {"port": _from(-1, 65_535)},
    "log": {
        "level": _Rule(", ".join(_LEVELS), lambda value: value.lower() in _LEVELS),
        "format": _words("json", "console"),
    },
}


def check_config(config: Config) -> list[Problem]:
    """Return a problem for each value that cannot work."""
    problems = [
        Problem("SB-2002", f"$.{path}.{key}", limit=rule.limit, actual=str(getattr(section, key)))
        for path, section, rules in _sections(config)
        for key, rule in rules.items()
        if not rule.holds(getattr(section, key))
    ]
    for path, name in [
        *(("pools", name) for name in config.pools),
        *(("classes", c) for c in config.classes),
        *(("budgets", name) for name in config.budgets),
    ]:
        if not _NAME.fullmatch(name):
            problems.append(
                Problem("SB-2002", f"$.{path}.{name}", limit="letters, digits, . _ -", actual=name)
            )
    problems += [*_watermarks(config), *_shedding(config), *_budgets(config), *_concurrency(config)]
    problems += _templates(config)
    return problems + check_policy(config)


def _watermarks(config: Config) -> Iterator[Problem]:
    for name, pool in config.pools.items():
        if pool.low_seconds > pool.high_seconds:
            limit, actual = f"at most high_seconds, {pool.high_seconds:g}", f"{pool.low_seconds:g}"
            yield Problem("SB-2002", f"$.pools.{name}.low_seconds", limit=limit, actual=actual)


def _shedding(config: Config) -> Iterator[Problem]:
    """Compare the names: a class that is misspelt would never be shed."""
    for name, level in config.shedding.items():
        named = {"defer": level.defer, "refuse": level.refuse, "pools": level.pools}
        for key, words in named.items():
            known = config.pools if key == "pools" else config.classes
            for word in words:
                if word not in known:
                    limit = ", ".join(sorted(known))
                    yield Problem("SB-2002", f"$.shedding.{name}.{key}", limit=limit, actual=word)


def _budgets(config: Config) -> Iterator[Problem]:
    for name, budget in config.budgets.items():
        place = f"$.budgets.{name}"
        if budget.pool not in ("", "*", *config.pools):
            limit = ", ".join(("*", *sorted(config.pools)))
            yield Problem("SB-2002", f"{place}.pool", limit=limit, actual=budget.pool)
        if budget.resource in GAUGES and budget.period != "total":
            hint = f"{budget.resource} are counted at a time, not over one"
            yield Problem("SB-2002", f"{place}.period", limit="total", actual=budget.period, hint=hint)
        if budget.resource in (*GAUGES, "shots") and budget.limit % 1:
            yield Problem("SB-2002", f"{place}.limit", limit="a whole number", actual=f"{budget.limit}")


def _concurrency(config: Config) -> Iterator[Problem]:
    for name, most in config.limits.concurrency.items():
        place, (kind, colon, one) = f"$.limits.concurrency.{name}", name.partition(":")
        if kind not in LIMITED or (colon and not one):
            limit = ", ".join(f"{word}, {word}:NAME" for word in LIMITED)
            yield Problem("SB-2002", place, limit=limit, actual=name)
        if most < 1:
            yield Problem("SB-2002", place, limit="1 or more", actual=str(most))


def _templates(config: Config) -> Iterator[Problem]:
    for name, file in config.templates.items():
        if not TEMPLATE.fullmatch(name):
            limit = "NAME@VERSION of letters, digits, . _ -"
            yield Problem("SB-2002", f"$.templates.{name}", limit=limit, actual=name)
        if not file:
            yield Problem("SB-2002", f"$.templates.{name}", limit="a file", actual="nothing")


def _sections(config: Config) -> Iterator[tuple[str, Any, Mapping[str, _Rule]]]:
    for section, rules in _RULES.items():
        table, _, inner = section.partition(".")
        value = getattr(config, table)
        if inner:
            yield from (
                (f"{table}.{name}.{inner}", getattr(entry, inner), rules) for name, entry in value.items()
            )
        elif dataclasses.is_dataclass(value):
            yield section, value, rules
        else:
            yield from ((f"{section}.{name}", entry, rules) for name, entry in value.items())
