"""``compile FILE…``: compile into the cache that this host's workers share. Runs an SDK, writes the cache."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from shotbus.broker.config_loader import read_toml
from shotbus.broker.connect import parse_url
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, table
from shotbus.cli.inputs import parse_options, read_text
from shotbus.cli.jobs import observables_of
from shotbus.cli.requestfile import is_request_file, read_request
from shotbus.schemas.errors import Problem, ShotbusError, fail

_HITS = {"memory": "hit", "disk": "hit", "anew": "miss"}


class _Wanted(NamedTuple):
    """A circuit as text; observables as the client takes them, None where it is sampled."""

    file: str
    circuit: str
    observables: Any


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
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
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
    """Compile the circuits of FILES for a pool and keep them for the workers of this host.

    A file is a circuit (OpenQASM 3 or 2), a request (.toml or .json) or a run file. No broker is needed;
    workers that run find at once what is kept. Of a run file the jobs that name another pool are left out.
    Exit code 1 when a circuit cannot be compiled.
    """
    pool, labels = given["pool"], given["observables"]
    backend, problems = parse_options(given["pairs"])
    if problems:
        raise ShotbusError(problems)
    compiler = _Compiler(options, pool, backend)
    told = [compiler.told(one) for file in files for one in _wanted(file, labels, pool)]
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
        self.directory, max_bytes = _cache(options)
        adapter.keep_in(_opened(self.directory, max_bytes))

    def told(self, wanted: _Wanted | _Told) -> _Told:
        """Compile a circuit, or say why it cannot be."""
        if isinstance(wanted, _Told):
            return wanted
        try:
            fields, text, language = self._request(wanted)
        except ShotbusError as error:
            return _Told(wanted.file, problems=error.problems)
        return self._compile(wanted.file, fields, {"text": text, "language": language})

    def _request(self, wanted: _Wanted) -> tuple[dict[str, Any], str, str]:
        """Return the request of one point at zero, and the circuit it is about."""
        from shotbus.producers.program import program_of
        from shotbus.producers.request import build_request, question_of
        from shotbus.producers.wishes import Wishes

        program = program_of(wanted.circuit)
        values = dict.fromkeys(program.parameters, 0.0)
        question = question_of(
            program, values, shots=None, observables=wanted.observables, precision=None, solving=False
        )
        fields = build_request(
            question,
            Wishes(principal="compile", backend=self._pool, options=self._backend),
            config=self._options.config,
            origin={"code_commit": "", "sdk_versions": {}},
            entropy=bytes(12),
            now_us=time.time_ns() // 1000,
        )
        return fields, program.text, program.facts.language

    def _compile(self, file: str, fields: dict[str, Any], circuit: dict[str, str]) -> _Told:
        from shotbus.schemas.codec import encode
        from shotbus.workers.adapters.base import Batch, BatchItem

        item = BatchItem(fields["job_id"], 0, 0, encode("circuit_request", fields))
        (done,) = self._adapter.compile(Batch([item], {fields["circuit_id"]: circuit}))
        return _Told(
            file, fields["circuit_id"], fields["mode"], done.origin, round(done.seconds, 6), done.problems
        )


def _cache(options: Options) -> tuple[Path, int]:
    from shotbus.workers.compiled.settings import CacheSettings

    data = parse_url(options.url).directory
    directory, max_bytes = CacheSettings.configured(options.config.workers, data, os.environ)
    if directory is None:
        hint = "name a directory: without one workers keep nothing"
        raise fail("SB-2002", "$.workers.compile_cache", limit="a directory", actual="none", hint=hint)
    return directory, max_bytes


def _opened(directory: Path, max_bytes: int) -> Any:
    from shotbus.workers.compiled.cache import CompileCache, UnsafeDirectoryError

    try:
        return CompileCache(directory, max_bytes=max_bytes)
    except (OSError, UnsafeDirectoryError) as error:
        hint = "workers do not use it either: repair it, or name another"
        raise fail("SB-2003", "$.workers.compile_cache", detail=str(error), hint=hint) from error


def _wanted(file: Path, labels: tuple[str, ...], pool: str) -> Iterator[_Wanted | _Told]:
    """Yield the circuits of a file; one that cannot be read tells so itself."""
    try:
        if not is_request_file(file):
            yield _Wanted(str(file), read_text(file), observables_of(labels))
        elif file.suffix.lower() == ".toml" and "run" in read_toml(file):
            yield from _of_run(file, pool)
        else:
            yield _of_request(file, labels)
    except ShotbusError as error:
        yield _Told(str(file), problems=error.problems)


def _of_request(file: Path, labels: tuple[str, ...]) -> _Wanted:
    request = read_request(file, {})
    if not (request.program or request.circuit):
        raise fail("SB-1107", f"{file}: $.circuit", hint="name a circuit file, or give a program")
    text = request.program or read_text(file.parent / request.circuit)
    return _Wanted(str(file), text, observables_of(request.observables or labels))


def _of_run(file: Path, pool: str) -> list[_Wanted]:
    """Return the circuits of a run's jobs that may run on a pool, each once."""
    from shotbus.runfile import load_run

    told, found = load_run(file), dict[tuple[str, bool], _Wanted]()
    for sweep in told.plan().sweeps:
        for job in sweep.jobs:
            if (job.backend or told.run.backend or pool) == pool:
                wanted = _Wanted(str(file), job.circuit, job.observables)
                found.setdefault((job.circuit, job.observables is None), wanted)
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


def _page(told: list[_Told], directory: Path) -> str:
    rows = [
        (one.circuit_id[:12], one.file, one.mode, _HITS.get(one.compiled or "", "-"), f"{one.seconds:.3f}")
        for one in told
    ]
    wrong = [f"{one.file}: {problem}" for one in told for problem in one.problems]
    found = table(rows, ("circuit", "file", "mode", "cache", "seconds"))
    return "\n".join([found, *wrong, f"kept in {directory}"])
