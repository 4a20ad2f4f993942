"""A request as a file: TOML or JSON with a circuit and what may be said about a job. Reads files.

    circuit = "circuit.qasm"     # relative to the file; or program = '''OPENQASM 3.0; …'''
    priority = "production"
    family = "uccsd@2"
    points = 64

Everything that is wrong with it is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shotbus.broker.config_loader import read_toml
from shotbus.broker.config_parse import parse
from shotbus.schemas.errors import fail


@dataclass(frozen=True, slots=True)
class RequestFile:
    """What a request file may say; times are seconds from now, ``shots`` below 0 takes the default.

    ``problem``: it states a problem that a classical pool could solve. ``satisfied``: demands that are met.
    """

    circuit: str = ""
    program: str = ""
    tenant: str = "default"
    principal: str = ""
    roles: tuple[str, ...] = ()
    priority: str = "experiment"
    intent: str = "explore"
    data_class: str = ""
    experiment: str = ""
    session: str = ""
    session_pool: str = ""
    tags: tuple[str, ...] = ()
    family: str = ""
    backend: str = ""
    window: str = ""
    points: int = 1
    shots: int = -1
    observables: tuple[str, ...] = ()
    problem: bool = False
    value: float | None = None
    value_per_second: float | None = None
    confidence: float | None = None
    max_cost: float | None = None
    deadline: float | None = None
    not_before: float | None = None
    fallback: tuple[str, ...] = ()
    satisfied: tuple[str, ...] = ()


def is_request_file(path: Path) -> bool:
    """Tell whether a file is a request rather than a circuit, by its name."""
    return path.suffix.lower() in (".toml", ".json")


def read_request(path: Path, given: Mapping[str, Any]) -> RequestFile:
    """Read a request file; ``given`` goes over it. Raises ShotbusError: SB-2001, SB-2002, SB-2003."""
    document = read_toml(path) if path.suffix.lower() == ".toml" else _read_json(path)
    return parse(RequestFile, {**document, **given})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error
    if not isinstance(document, dict):
        raise fail("SB-2003", str(path), detail="not a JSON object")
    return document
