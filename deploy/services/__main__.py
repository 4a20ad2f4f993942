"""``python -m shotbus.deploy.services up|down|status``: Kafka and Redis for development. Does I/O."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from shotbus.deploy.services.errors import ServiceError, ServiceMissingError
from shotbus.deploy.services.manager import KINDS, Service, Services, url

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_MISSING = 3


def default_directory(start: pathlib.Path) -> pathlib.Path:
    """Return ``$SHOTBUS_SERVICES_DIR``, else ``.services`` of the checkout around ``start``."""
    if chosen := os.environ.get("SHOTBUS_SERVICES_DIR"):
        return pathlib.Path(chosen)
    checkouts = (folder for folder in (start, *start.parents) if (folder / "pyproject.toml").exists())
    return next(checkouts, start) / ".services"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 failed (status: not running), 3 program missing."""
    options = _parser().parse_args(arguments)
    services = Services(options.dir or default_directory(pathlib.Path.cwd()))
    try:
        if options.action == "up":
            return _report({kind: services.up(kind) for kind in KINDS}, as_json=options.json)
        if options.action == "down":
            return _report_down(services.down(), as_json=options.json)
        return _report(services.status(), as_json=options.json)
    except ServiceMissingError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISSING
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shotbus.deploy.services", description="Kafka and Redis for development."
    )
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument(
        "--dir", type=pathlib.Path, help="where data, logs and jars are kept (default: .services)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _report(found: dict[str, Service], *, as_json: bool) -> int:
    complete = all(kind in found for kind in KINDS)
    if as_json:
        listed: dict[str, object] = {kind: service._asdict() for kind, service in found.items()}
        _print(json.dumps(listed | {"url": url(found) if complete else None}))
    else:
        for kind in KINDS:
            _print(
                f"{kind}: {found[kind].address} ({found[kind].how})"
                if kind in found
                else f"{kind}: not running"
            )
        if complete:
            _print(url(found))
    return EXIT_OK if complete else EXIT_FAILED


def _report_down(stopped: list[str], *, as_json: bool) -> int:
    _print(
        json.dumps({"stopped": stopped})
        if as_json
        else f"stopped: {', '.join(stopped) or 'nothing was running'}"
    )
    return EXIT_OK


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
