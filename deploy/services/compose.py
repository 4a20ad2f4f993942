"""Kafka and Redis as containers, through the project's compose file. Does I/O."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
from collections.abc import Sequence

from shotbus.deploy.services.errors import ServiceError

FILE = pathlib.Path(__file__).resolve().parents[1] / "compose" / "compose.yaml"
_SECONDS = 600


def project(directory: pathlib.Path) -> str:
    """Return the compose project of a services directory: two checkouts do not share containers."""
    return f"shotbus-{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:10]}"


def command(directory: pathlib.Path, *arguments: str) -> list[str]:
    """Return a docker compose command for the containers of ``directory``."""
    return ["docker", "compose", "-p", project(directory), "-f", str(FILE), *arguments]


def up(directory: pathlib.Path, service: str, port: int) -> None:
    """Start one service on a port of the loopback interface and wait until it is healthy."""
    _run(command(directory, "up", "-d", "--wait", service), environment(service, port))


def down(directory: pathlib.Path) -> None:
    """Remove the containers of ``directory``, and their volumes."""
    _run(command(directory, "down", "--volumes"), {})


def environment(service: str, port: int) -> dict[str, str]:
    """Return the variable by which the compose file learns the port."""
    return {f"SHOTBUS_{service.upper()}_PORT": str(port)}


def _run(arguments: Sequence[str], variables: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603  # fixed program, our own compose file
        arguments, capture_output=True, text=True, check=False, timeout=_SECONDS, env=os.environ | variables
    )
    if done.returncode != 0:
        msg = f"{' '.join(arguments)}: {done.stderr.strip()[-800:]}"
        raise ServiceError(msg)
