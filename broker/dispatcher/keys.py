"""Under which keys results are filed: for the same work exactly, and for its history. Pure.

The cache key of a request holds everything that its answer follows from. The key of its history says only
what was asked: how precisely, with which randomness and where it ran are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.admission import solves_problems
from shotbus.schemas.ids import digest


class Target(NamedTuple):
    """What a pool runs work on, as far as answers depend on it.

    ``mark`` differs when another backend stands behind the pool's name. ``calibration`` names the state of
    a device, empty for none. ``drifts``: its answers may change although nothing that is known does.
    ``solves``: it answers problems and runs no circuits. ``repeats``: one seed gives one answer.
    """

    pool: str
    mark: str = ""
    calibration: str = ""
    solves: bool = False
    repeats: bool = True

    @property
    def drifts(self) -> bool:
        """Whether it may have changed although its name and calibration are the same."""
        return not (self.repeats or self.calibration)


class Targets:
    """The targets behind the pools.

    Args:
        config: the pools.
        calibration: returns what a pool's workers say of their backend's calibration, empty for nothing.

    """

    def __init__(self, config: Config, calibration: Callable[[str], str] = lambda _: "") -> None:
        self._pools, self._calibration = config.pools, calibration
        self._known = {name: self._fixed(name, pool) for name, pool in config.pools.items()}

    def of(self, pool: str) -> Target:
        """Return what a pool runs on at this moment."""
        known, calibration = self._known.get(pool), self._calibration(pool)
        known = Target(pool, repeats=False) if known is None else known
        return known._replace(calibration=calibration) if calibration else known

    def _fixed(self, name: str, pool: PoolConfig) -> Target:
        parts = (pool.adapter or name, pool.kind, repr(pool.device), repr(sorted(pool.options.items())))
        mark = digest(*parts, size=8).hex()
        return Target(name, mark, "", solves_problems(self._pools, name), pool.kind != "hardware")


def cache_key(request: Mapping[str, Any], target: Target) -> str:
    """Return the key of a request's result, empty when the result must not be served to another job.

    Cacheable are exact mode and an explicit seed where the target repeats itself, and everything with a
    declared maximum age: ten unseeded repeats must not return one sample with variance zero. The tenant is
    part of the key; the problem is where it is solved, elsewhere it does not change the answer.
    """
    if request["max_result_age_ms"] is None:
        exact = request["mode"] == "estimate" and request["shots"] == 0
        if not target.repeats or not (exact or request["seed"] is not None):
            return ""
    problem = request["problem"] if target.solves else None
    parts = (
        request["tenant"],
        target.pool,
        f"{target.mark}/{target.calibration}",
        request["circuit_id"],
        request["mode"],
        f"{request['shots']}/{request['points']}/{request['seed']}/{request['intent']}",
        request["bindings"],
        request["observables"],
        _options(request),
        f"{problem['kind']}/{problem['version']}" if problem else "",
        problem["payload"] if problem else b"",
    )
    return digest(*parts).hex()


def history_key(request: Mapping[str, Any]) -> str:
    """Return the key of what was asked: every answer to it, from wherever, is part of its history."""
    problem = request["problem"]
    parts = (
        request["tenant"],
        request["circuit_id"],
        f"{request['mode']}/{request['points']}",
        request["bindings"],
        request["observables"],
        f"{problem['kind']}/{problem['version']}" if problem else "",
        problem["payload"] if problem else b"",
    )
    return digest("history", *parts).hex()


def placed_key(request: Mapping[str, Any], target: Target) -> str:
    """Return the key of a request's history and, after a slash, of where and how it is to run.

    Only answers that agree in both may be added up. Where the target drifts there is no second part,
    unless the request says how old an answer may be.
    """
    key = history_key(request)
    if target.drifts and request["max_result_age_ms"] is None:
        return key
    place = digest(target.pool, f"{target.mark}/{target.calibration}", _options(request), size=8)
    return f"{key}/{place.hex()}"


def anywhere(key: str) -> str:
    """Return the part of a key of the history that does not say where and how it ran."""
    return key.partition("/")[0]


def _options(request: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}={value}" for name, value in sorted(request["options"].items()))
