"""A request as a file: TOML or JSON with a circuit and what may be said about a job. Reads files.

    circuit = "circuit.qasm"     # relative to the file; or a template, "ansatz@2"
    priority = "production"
    family = "uccsd@2"
    bindings = { theta = [0.1, 0.2] }      # or, to explain it, points = 64

Everything that is wrong with it is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shotbus.broker.config_loader import read_toml
from shotbus.broker.config_parse import build
from shotbus.schemas.errors import Problem, ShotbusError, fail

if TYPE_CHECKING:
    from shotbus.schemas.pub import ProblemStatement


@dataclass(frozen=True, slots=True)
class RequestFile:
    """What a request file may say; times are seconds from now, ``shots`` None takes the default.

    ``problem``: it states a problem that a classical pool could solve; in the file it is ``true``, or the
    table of :mod:`shotbus.cli.problemfile`. ``satisfied``: demands that are met.
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
    shots: int | None = None
    observables: tuple[str, ...] = ()
    problem: bool = False
    value: float | None = None
    value_per_second: float | None = None
    confidence: float | None = None
    max_cost: float | None = None
    tolerance: float | None = None
    top_up: bool = False
    speculate: str = ""
    deadline: float | None = None
    not_before: float | None = None
    fallback: tuple[str, ...] = ()
    satisfied: tuple[str, ...] = ()
    seed: int | None = None
    precision: float | None = None
    max_result_age: float | None = None
    bindings: dict[str, tuple[float, ...]] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    quality: dict[str, str] = field(default_factory=dict)
    idempotency_key: str = ""
    unique_key: str = ""
    unique_policy: str = ""


#: What only ``policy explain`` can be told: a submission's is what it is.
_ONLY_ASKED = ("principal", "session_pool", "satisfied")


def is_request_file(path: Path) -> bool:
    """Tell whether a file is a request rather than a circuit, by its name."""
    return path.suffix.lower() in (".toml", ".json")


def read_request(path: Path, given: Mapping[str, Any]) -> RequestFile:
    """Read a request file; ``given`` goes over it. Raises ShotbusError: SB-2001, SB-2002, SB-2003."""
    return _read(path, given, [])[0]


def read_submission(path: Path) -> tuple[RequestFile, dict[str, Any]]:
    """Read a request file that is to be submitted; besides it return what it says of the job.

    That is without ``circuit``, ``program`` and ``points``. Raises ShotbusError (SB-2001, SB-2002, SB-2003).
    """
    problems: list[Problem] = []
    request, statement = _read(path, {}, problems)
    blank = RequestFile()
    said = {one.name: getattr(request, one.name) for one in fields(request)}
    said = {name: value for name, value in said.items() if value != getattr(blank, name)}
    problems += _unsubmittable(request, said, stated=statement is not None)
    if problems:
        raise ShotbusError(problems)
    told = {name: value for name, value in said.items() if name not in ("circuit", "program", "points")}
    if statement is not None:
        told["problem"] = statement
    return request, told


def _unsubmittable(request: RequestFile, said: Mapping[str, Any], *, stated: bool) -> Iterator[Problem]:
    for name in _ONLY_ASKED:
        if name in said:
            yield Problem("SB-2002", f"$.{name}", hint="only policy explain can be told this")
    if request.points != _points(request.bindings):
        limit, hint = f"{_points(request.bindings)}, by its bindings", "leave it out"
        yield Problem("SB-2002", "$.points", limit=limit, actual=str(request.points), hint=hint)
    if request.problem and not stated:
        yield Problem("SB-2002", "$.problem", limit="a table that states it", actual="true")
    if bool(request.circuit) == bool(request.program):
        actual = "both" if request.circuit else "neither"
        yield Problem("SB-2002", "$.circuit", limit="either circuit or program", actual=actual)


def _points(bindings: Mapping[str, Sequence[float]]) -> int:
    return max(map(len, bindings.values()), default=1)


def _read(
    path: Path, given: Mapping[str, Any], problems: list[Problem]
) -> tuple[RequestFile, ProblemStatement | None]:
    """Return the request and the problem that it states. Raises ShotbusError with all that is wrong."""
    document = read_toml(path) if path.suffix.lower() == ".toml" else _read_json(path)
    stated, statement = document.get("problem"), None
    if isinstance(stated, Mapping):
        # Not before it is needed: it loads numpy.
        from shotbus.cli.problemfile import statement_of

        statement = statement_of(stated, problems)
        document = {**document, "problem": True}
    request: RequestFile = build(RequestFile, {**document, **given}, "$", problems)
    if problems:
        raise ShotbusError(problems)
    if request.bindings and "points" not in document.keys() | given.keys():
        request = replace(request, points=_points(request.bindings))
    return request, statement


def circuit_of(file: Path, circuit: str, templates: Mapping[str, str]) -> str:
    """Return what a request file's ``circuit`` names: a template as it is, else the text of a file beside it.

    Raises ShotbusError (SB-2003) for a file that cannot be read.
    """
    from shotbus.cli.inputs import read_text

    return circuit if circuit in templates else read_text(file.parent / circuit)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error
    if not isinstance(document, dict):
        raise fail("SB-2003", str(path), detail="not a JSON object")
    return document
