"""``compile WHAT…``: compile into the cache that this host's workers share. Runs an SDK, writes the cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from shotbus.broker.config_loader import read_toml
from shotbus.broker.connect import parse_url
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, table
from shotbus.cli.inputs import parse_options, read_text
from shotbus.cli.jobs import observables_of
from shotbus.cli.requestfile import circuit_of, is_request_file, read_request
from shotbus.schemas.errors import Problem, ShotbusError, fail

if TYPE_CHECKING:
    from shotbus.broker.config import CompileConfig
    from shotbus.workers.compiled.cache import CompileCache
    from shotbus.workers.compiled.settings import CacheSettings
    from shotbus.workers.settings import Prepared

_HITS = {"memory": "hit", "disk": "hit", "anew": "miss"}


class _Wanted(NamedTuple):
    """A circuit as the client takes it; observables too, None where it is sampled.

    ``template``: observables follow from the circuit unless some are given.
    """

    file: str
    circuit: Any
    observables: Any
    template: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    """What became of a circuit."""

    file: str
    circuit_id: str = ""
    mode: str = ""
    compiled: str | None = None
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()


@click.command("compile")
@click.argument("files", nargs=-1, metavar="[WHAT]...", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="All templates of the configuration.")
@click.option("--pool", required=True, help="Pool that they will run on.")
@click.option(
    "--observable",
    "observables",
    multiple=True,
    metavar="PAULI",
    help="Compile for estimates, as with submit; those of request files go before.",
)
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Backend option, as with submit.")
@command_options
def compile_circuits(options: Options, files: tuple[Path, ...], **given: Any) -> None:
    """Compile circuits for a pool and keep them for the workers of this host.

    WHAT is a template, NAME@VERSION, or a file: a circuit (OpenQASM 3 or 2), a request (.toml or .json) or a
    run file. No broker is needed; workers that run find at once what is kept. Of a run file the jobs that
    name another pool are left out.

    Exit code 1 when a circuit cannot be compiled.
    """
    pool, labels = given["pool"], given["observables"]
    backend, problems = parse_options(given["pairs"])
    templates = options.config.templates
    named = [str(file) for file in files if str(file) in templates]
    if not (files or given["everything"]):
        problems.append(Problem("SB-2002", "WHAT", limit="a file, a template, or --all", actual="nothing"))
    if problems:
        raise ShotbusError(problems)
    compiler = _Compiler(options, pool, backend)
    names = dict.fromkeys([*named, *(templates if given["everything"] else ())])
    wanted = [_Wanted(name, name, observables_of(labels), template=True) for name in names]
    of_files = [
        one for file in files if str(file) not in names for one in _wanted(file, labels, pool, templates)
    ]
    told = [compiler.told(one) for one in (*wanted, *of_files)]
    emit(options, [_data(one) for one in told], _page(told, compiler.directory))
    sys.exit(EXIT_FAILED if any(one.problems for one in told) else 0)


class _Compiler:
    """Compiles as a worker of the pool would.

    Raises ShotbusError: SB-1102, SB-2001 and SB-2002 for what the pool cannot do, SB-2003 for a cache that
    cannot be used.
    """

    def __init__(self, options: Options, pool: str, backend: dict[str, str]) -> None:
        from shotbus.workers.adapters.base import CanCompile, load

        settings = options.config.pools.get(pool)
        if settings is None:
            raise fail("SB-1102", "--pool", limit=", ".join(sorted(options.config.pools)), actual=pool)
        adapter = load(settings.adapter or pool, settings.options, place=f"$.pools.{pool}.options")
        if not isinstance(adapter, CanCompile):
            raise fail("SB-2002", "--pool", limit="a pool whose adapter compiles circuits", actual=pool)
        self._options, self._pool, self._backend, self._adapter = options, pool, backend, adapter
        kept = _cache(options, settings.compile)
        self.directory = str(kept.directory)
        adapter.keep_in(_opened(kept))

    def told(self, wanted: _Wanted | _Told) -> _Told:
        """Compile a circuit, or say why it cannot be."""
        if isinstance(wanted, _Told):
            return wanted
        try:
            one, mode = self._prepared(wanted)
        except ShotbusError as error:
            return _Told(wanted.file, problems=error.problems)
        return self._compile(wanted.file, one, mode)

    def _prepared(self, wanted: _Wanted) -> tuple[Prepared, str]:
        from shotbus.ahead import prepared, template_for

        where: Any = {"pool": self._pool, "options": self._backend, "config": self._options.config}
        if wanted.template and wanted.observables is None:
            return template_for(wanted.circuit, **where)
        return prepared(wanted.circuit, wanted.observables, **where)

    def _compile(self, file: str, one: Prepared, mode: str) -> _Told:
        from shotbus.schemas.codec import decode
        from shotbus.workers.adapters.base import Batch, BatchItem

        item = BatchItem("", 0, 0, one.request)
        circuit = decode(one.circuit, "circuit")[1]
        (done,) = self._adapter.compile(Batch([item], {one.circuit_id: circuit}))
        return _Told(file, one.circuit_id, mode, done.origin, round(done.seconds, 6), done.problems)


def _cache(options: Options, pool: CompileConfig) -> CacheSettings:
    from shotbus.workers.compiled.settings import CacheSettings

    data = parse_url(options.url).directory
    kept = CacheSettings.configured(options.config.workers, pool, data, os.environ)
    if kept.directory is None:
        hint = "name a directory: without one workers keep nothing"
        raise fail("SB-2002", "$.workers.compile_cache", limit="a directory", actual="none", hint=hint)
    return kept


def _opened(kept: CacheSettings) -> CompileCache:
    from shotbus.workers.compiled.cache import CompileCache, UnsafeDirectoryError

    try:
        return CompileCache(kept.directory, max_bytes=kept.max_bytes, rule=kept.rule)
    except (OSError, UnsafeDirectoryError) as error:
        hint = "workers do not use it either: repair it, or name another"
        raise fail("SB-2003", "$.workers.compile_cache", detail=str(error), hint=hint) from error


def _wanted(
    file: Path, labels: tuple[str, ...], pool: str, templates: Mapping[str, str]
) -> Iterator[_Wanted | _Told]:
    """Yield the circuits of a file; one that cannot be read tells so itself."""
    try:
        if not is_request_file(file):
            yield _Wanted(str(file), read_text(file), observables_of(labels))
        elif file.suffix.lower() == ".toml" and "run" in read_toml(file):
            yield from _of_run(file, pool)
        else:
            yield _of_request(file, labels, templates)
    except ShotbusError as error:
        yield _Told(str(file), problems=error.problems)


def _of_request(file: Path, labels: tuple[str, ...], templates: Mapping[str, str]) -> _Wanted:
    request = read_request(file, {})
    if not (request.program or request.circuit):
        raise fail("SB-1107", f"{file}: $.circuit", hint="name a circuit file, or give a program")
    circuit = request.program or circuit_of(file, request.circuit, templates)
    return _Wanted(str(file), circuit, observables_of(request.observables or labels))


def _of_run(file: Path, pool: str) -> list[_Wanted]:
    """Return the circuits of a run's jobs that may run on a pool, each once."""
    from shotbus.runfile import load_run

    told, found = load_run(file), dict[tuple[str, bool], _Wanted]()
    for sweep in told.plan().sweeps:
        for job in sweep.jobs:
            if (job.backend or told.run.backend or pool) == pool:
                wanted = _Wanted(str(file), job.circuit, job.observables)
                name = job.circuit if isinstance(job.circuit, str) else job.circuit.text
                found.setdefault((name, job.observables is None), wanted)
    return list(found.values())


def _data(told: _Told) -> dict[str, Any]:
    return {
        "file": told.file,
        "circuit_id": told.circuit_id,
        "mode": told.mode,
        "compiled": told.compiled,
        "seconds": told.seconds,
        "problems": [problem.as_record() for problem in told.problems],
    }


def _page(told: list[_Told], directory: str) -> str:
    rows = [
        (one.circuit_id[:12], one.file, one.mode, _HITS.get(one.compiled or "", "-"), f"{one.seconds:.3f}")
        for one in told
    ]
    wrong = [f"{one.file}: {problem}" for one in told for problem in one.problems]
    found = table(rows, ("circuit", "file", "mode", "cache", "seconds"))
    return "\n".join([found, *wrong, f"kept in {directory}"])
