"""Requests that nobody has made: what is compiled before it is asked for. Reads the files of templates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from shotbus.broker.config import Config
from shotbus.producers.program import Program, program_of
from shotbus.producers.request import build_request, question_of
from shotbus.producers.templates import resolved
from shotbus.producers.wishes import Wishes
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.settings import Prepared

_log = structlog.get_logger(__name__)


def prepared(
    circuit: Any, observables: Any, *, pool: str, options: Mapping[str, str], config: Config
) -> tuple[Prepared, str]:
    """Return a circuit with a request of one point at zero about it, and whether that samples or estimates.

    Args:
        circuit: as callers hold them, or ``name@version``.
        observables: as the client takes them; None samples.
        pool: that it is for.
        options: of the jobs to come.
        config: limits, classes, templates.

    Raises:
        ShotbusError: everything that is wrong with it, or with it on this pool.

    """
    program = program_of(resolved(circuit, config.templates))
    fields = _request(program, observables, pool, options, config)
    record = {
        "circuit_id": program.circuit_id,
        "language": program.facts.language,
        "text": program.text,
    }
    made = Prepared(program.circuit_id, encode("circuit", record), encode("circuit_request", fields))
    return made, fields["mode"]


def templates_for(pool: str, config: Config) -> tuple[Prepared, ...]:
    """Return the configured templates as a pool's workers compile them ahead; what cannot be is logged."""
    found = []
    for name in config.templates:
        try:
            found.append(template_for(name, pool=pool, options={}, config=config)[0])
        except ShotbusError as error:
            why = "; ".join(map(str, error.problems))
            _log.warning("template is not compiled ahead", template=name, pool=pool, why=why)
    return tuple(found)


def template_for(name: str, *, pool: str, options: Mapping[str, str], config: Config) -> tuple[Prepared, str]:
    """Return a template as it is compiled ahead: sampled, or estimated if it measures nothing.

    Raises ShotbusError as :func:`prepared` does.
    """
    program = program_of(resolved(name, config.templates))
    # Which observables does not matter: measurement bases are added to what is compiled.
    observables = None if program.facts.measurements else [[("Z" * program.facts.qubits, 1.0)]]
    return prepared(program, observables, pool=pool, options=options, config=config)


def _request(
    program: Program, observables: Any, pool: str, options: Mapping[str, str], config: Config
) -> dict[str, Any]:
    values = dict.fromkeys(program.parameters, 0.0)
    question = question_of(
        program, values, shots=None, observables=observables, precision=None, solving=False
    )
    return build_request(
        question,
        Wishes(principal="compile", backend=pool, options=options),
        config=config,
        origin={"code_commit": "", "sdk_versions": {}},
        entropy=bytes(12),
        now_us=time.time_ns() // 1000,
    )
