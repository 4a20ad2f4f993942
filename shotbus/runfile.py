"""Run files: a TOML file that names a plan, its parameters and where the report goes. Reads files."""

from __future__ import annotations

import importlib.util
import json
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from shotbus.broker.config_loader import read_toml
from shotbus.broker.config_parse import parse, unknown_keys
from shotbus.broker.connect import parse_url
from shotbus.broker.files import make_private_directory, private
from shotbus.broker.policy.config import QualityConfig
from shotbus.producers.parameters import check_parameters
from shotbus.producers.plan import Plan
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.ids import digest

_SECTIONS = ("run", "parameters", "output")
_REPAIR = "repair the plan: detail tells what it raised and where"


@dataclass(frozen=True, slots=True)
class RunSection:
    """``plan`` is ``FILE.py:FUNCTION``, relative to the run file.

    ``family`` and ``family_version`` are for the circuits whose jobs name none of their own. ``quality`` is
    the gate of every job, as a rule would say it.
    """

    name: str = ""
    plan: str = ""
    priority: str = "experiment"
    intent: str = "explore"
    tenant: str = "default"
    experiment: str = ""
    backend: str = ""
    family: str = ""
    family_version: str = ""
    quality: QualityConfig = field(default_factory=QualityConfig)


@dataclass(frozen=True, slots=True)
class OutputSection:
    """``png``: where the picture goes, relative to the working directory; empty for none."""

    png: str = ""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A checked run file."""

    path: Path
    run: RunSection
    output: OutputSection
    parameters: Mapping[str, Any]
    fingerprint: str

    def plan(self) -> Plan:
        """Call the plan function. Raises ShotbusError for wrong parameters."""
        file, _, function = self.run.plan.partition(":")
        try:
            made = _load(self.path.parent / file, function)(self.parameters)
        except ShotbusError:
            raise
        except Exception as error:
            # A plan is the user's code: its mistakes are theirs to read, with the place but no stack of ours.
            place = f"$.run.plan: {self.run.plan}"
            raise fail("SB-2003", place, detail=_place_of(error), hint=_REPAIR) from error
        if not isinstance(made, Plan):
            raise fail(
                "SB-2002", "$.run.plan", limit="a function that returns a Plan", actual=type(made).__name__
            )
        return made


def load_run(path: Path, also: Callable[[RunSection], list[Problem]] = lambda _: []) -> RunFile:
    """Read and check a run file.

    Args:
        path: of the file.
        also: finds what else is wrong with a ``[run]`` section that can be read.

    Raises:
        ShotbusError: SB-2001, SB-2002, SB-2003 and what ``also`` found, with everything that is wrong.

    """
    document = read_toml(path)
    problems = unknown_keys(document, _SECTIONS, "$")
    run = _section(RunSection, document, "run", problems)
    output = _section(OutputSection, document, "output", problems)
    if run is not None:
        problems += _check_run(run, path) + also(run)
    parameters = document.get("parameters", {})
    if not isinstance(parameters, Mapping):
        problems.append(Problem("SB-2002", "$.parameters", limit="a table", actual=repr(parameters)))
    else:
        problems += _check_parameters(document, parameters, path)
    if problems or run is None or output is None:
        raise ShotbusError(problems)
    plan = path.parent / run.plan.partition(":")[0]
    fingerprint = digest(path.read_bytes(), plan.read_bytes()).hex()
    return RunFile(path, run, output, parameters, fingerprint)


def _section(shape: type[Any], document: Mapping[str, Any], name: str, problems: list[Problem]) -> Any:
    """Return the section; of one with mistakes what is left without them, so that all of it is checked."""
    given = document.get(name, {})
    try:
        return parse(shape, given, f"$.{name}")
    except ShotbusError as error:
        problems += error.problems
        if not isinstance(given, Mapping):
            return None
        wrong = {".".join(problem.path.split(".")[:3]) for problem in error.problems}
        return parse(shape, {key: value for key, value in given.items() if f"$.{name}.{key}" not in wrong})


def _check_run(run: RunSection, path: Path) -> list[Problem]:
    problems = [Problem("SB-1107", "$.run.name", hint="give the run a name")] if not run.name else []
    file, _, function = run.plan.partition(":")
    if not function or not (path.parent / file).is_file():
        limit = "FILE.py:FUNCTION beside the run file"
        problems.append(Problem("SB-2002", "$.run.plan", limit=limit, actual=run.plan))
    return problems


def _check_parameters(
    document: Mapping[str, Any], parameters: Mapping[str, Any], path: Path
) -> list[Problem]:
    """Return what is wrong with parameters that the plan file declares, whatever else is wrong."""
    section = document.get("run")
    told = section.get("plan") if isinstance(section, Mapping) else None
    file = path.parent / str(told).partition(":")[0]
    if not isinstance(told, str) or not file.is_file():
        return []
    try:
        known = getattr(_module(file), "PARAMETERS", None)
    except Exception as error:  # noqa: BLE001 (a plan is the user's code: whatever it raises is told)
        return [Problem("SB-2003", f"$.run.plan: {told}", detail=_place_of(error), hint=_REPAIR)]
    return check_parameters(parameters, known) if isinstance(known, Mapping) else []


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"shotbus_run_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise fail("SB-2003", str(path), detail="not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(path: Path, function: str) -> Callable[[Mapping[str, Any]], Plan]:
    module = _module(path)
    planner = getattr(module, function, None)
    if not callable(planner):
        raise fail("SB-2002", "$.run.plan", limit=f"a function in {path.name}", actual=function)
    return planner  # type: ignore[no-any-return]  # a plan function by contract


def _place_of(error: Exception) -> str:
    """Return an exception in one line, with the last place it passed."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def memory_of(fingerprint: str, url: str, prefix: str) -> RunMemory:
    """Return what is remembered of a run, the same from whatever directory it is started.

    Beside the embedded broker's own data; of a remote broker below ``$XDG_STATE_HOME``.

    Args:
        fingerprint: the run file's.
        url: of the broker.
        prefix: of its topics; two prefixes on one cluster are two brokers.

    Raises:
        ShotbusError: SB-2002 for a URL of no known form.

    """
    directory = parse_url(url).directory
    if directory is not None:
        return RunMemory(directory / "runs", digest(fingerprint, prefix).hex())
    return RunMemory(_state_home() / "shotbus" / "runs", digest(fingerprint, url, prefix).hex())


def _state_home() -> Path:
    told = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The specification has relative paths ignored.
    return told if told.is_absolute() else Path.home() / ".local" / "state"


class RunMemory:
    """Which sweeps an unfinished run has: what makes Ctrl-C resumable. One small file a run."""

    def __init__(self, directory: Path, key: str) -> None:
        """``key`` tells runs apart: the same file with the same content on the same broker."""
        self._path = directory / f"{key}.json"

    def recall(self) -> dict[str, str]:
        """Return sweep ids by name, empty for a new run."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        sound = isinstance(found, dict) and all(isinstance(sweep_id, str) for sweep_id in found.values())
        return found if sound else {}

    def remember(self, sweeps: Mapping[str, str]) -> None:
        """Write before the first submission, atomically. Raises ShotbusError (SB-2003)."""
        draft = self._path.with_suffix(".tmp")
        try:
            make_private_directory(self._path.parent)
            with open(draft, "w", encoding="utf-8", opener=private) as stream:
                json.dump(dict(sweeps), stream)
            draft.replace(self._path)
        except OSError as error:
            hint = "make the folder writable; for a remote broker XDG_STATE_HOME may name another"
            raise fail("SB-2003", str(self._path.parent), detail=str(error), hint=hint) from error

    def forget(self) -> None:
        """Drop the memory of a finished run."""
        self._path.unlink(missing_ok=True)
