"""What every command shares: options, output as text or JSON, errors to exit codes."""

from __future__ import annotations

import functools
import json
import math
import shlex
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from shotbus.broker.bus.base import BusError
from shotbus.broker.config import Config
from shotbus.broker.config_loader import Loaded, load_config
from shotbus.broker.connect import effective_url
from shotbus.broker.store.base import StoreError
from shotbus.broker.urls import public_url
from shotbus.schemas.errors import ShotbusError, fail

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND, EXIT_TIMEOUT = 1, 2, 3, 4, 5
_EXIT_BY_CODE = {
    "SB-2004": EXIT_UNREACHABLE,
    "SB-2005": EXIT_UNREACHABLE,
    "SB-2006": EXIT_UNREACHABLE,
    "SB-4001": EXIT_NOT_FOUND,
    "SB-4007": EXIT_NOT_FOUND,
    "SB-4008": EXIT_NOT_FOUND,
    "SB-4011": EXIT_NOT_FOUND,
    "SB-4013": EXIT_NOT_FOUND,
    "SB-4006": EXIT_TIMEOUT,
    "SB-4002": EXIT_FAILED,
    "SB-4003": EXIT_FAILED,
    "SB-4004": EXIT_FAILED,
    "SB-4005": EXIT_FAILED,
}


class FiniteRange(click.FloatRange):
    """A click type: a finite number in a range. click's own takes nan, which no comparison finds outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises click.BadParameter."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


@dataclass(frozen=True, slots=True)
class Options:
    """The options every command takes, with the configuration they led to."""

    loaded: Loaded
    url: str
    as_json: bool
    file: Path | None = None

    @property
    def config(self) -> Config:
        """The effective configuration."""
        return self.loaded.config


def command_options(work: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url --data --config --json``; the function receives an :class:`Options` first."""

    @functools.wraps(work)
    def logging(options: Options, **given: Any) -> None:
        log_to_stderr()
        work(options, **given)

    return quick_command_options(logging)


def quick_command_options(work: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same options to a command that may not need the bus: before it does, it calls log_to_stderr."""

    @click.option("--url", help="Where the broker is: sqlite:///DIR or kafka://host:port?store=redis://…")
    @click.option("--data", type=click.Path(file_okay=False), help="Data directory of an embedded broker.")
    @click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Configuration file [default: shotbus.toml, when it is there].",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")
    @functools.wraps(work)
    def wrapped(
        url: str | None, data: str | None, config: Path | None, *, as_json: bool, **given: Any
    ) -> None:
        with errors(as_json=as_json):
            loaded = load_config(config)
            options = Options(loaded, effective_url(loaded.config, url=url, data=data), as_json, config)
            work(options, **given)

    return wrapped


def log_to_stderr() -> None:
    """Keep logs off standard output: a warning in the midst of JSON would make it unreadable."""
    import structlog

    def on_stderr(*_: object) -> structlog.PrintLogger:
        # As it is now: a caller in this process may have replaced it.
        return structlog.PrintLogger(sys.stderr)

    structlog.configure(logger_factory=on_stderr)


class errors:  # noqa: N801  # reads as a statement: ``with errors():``
    """Turn what a command may raise into messages and documented exit codes."""

    def __init__(self, *, as_json: bool) -> None:
        """``as_json`` prints problems as JSON on standard error."""
        self._as_json = as_json

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Exit with the code that belongs to the error; others pass through."""
        del kind, trace
        if isinstance(error, BusError | StoreError):
            error = fail("SB-2004", "$", detail=str(error), hint="see shotbus doctor")
        if isinstance(error, TimeoutError):
            error = fail("SB-4006", "$", hint="what runs goes on; ask again later")
        if isinstance(error, ShotbusError):
            problems = [problem.as_json(error.trace_id) for problem in error.problems]
            self._leave(problems, str(error), _exit_code(error))

    def _leave(self, problems: Sequence[Mapping[str, Any]], text: str, code: int) -> NoReturn:
        click.echo(json.dumps({"errors": problems}) if self._as_json else text, err=True)
        sys.exit(code)


def _exit_code(error: ShotbusError) -> int:
    code = error.problems[0].code if error.problems else ""
    return _EXIT_BY_CODE.get(code, EXIT_FAILED if code.startswith("SB-5") else EXIT_USAGE)


def come_back(options: Options, *words: object) -> str:
    """Return a command that goes on where this one stops, with the options in force but no password."""
    where = ["--url", public_url(options.url)] if options.url != options.config.broker.url else []
    config = ["--config", options.file] if options.file else []
    return shlex.join(["shotbus", *map(str, words), *where, *map(str, config)])


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; Ctrl-C ends with 130."""
    import asyncio

    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


def emit(options: Options, data: Any, text: str) -> None:
    """Print ``data`` as JSON, or ``text``."""
    click.echo(json.dumps(plain(data), allow_nan=False) if options.as_json else text)


def aside(options: Options, text: str) -> None:
    """Tell a person ``text`` on standard error, which leaves the answer alone; a program is told nothing."""
    if not options.as_json:
        click.echo(text, err=True)


def plain(value: Any) -> Any:
    """Return what JSON has a word for: bytes in hexadecimal, arrays as lists, null for no finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str], *, empty: str = "nothing") -> str:
    """Return aligned columns; ``empty`` for none."""
    if not rows:
        return empty
    cells = [list(headers), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Keep what came from outside from steering the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
