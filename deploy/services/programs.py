"""Finding the programs that local services need, and installing them on Debian as root. Does I/O."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from shotbus.deploy.services.errors import ServiceMissingError

_INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the Debian packages that bring it (first that installs), and how to get it elsewhere."""

    command: str
    packages: tuple[str, ...]
    hint: str


JAVA = Program(
    "java",
    ("openjdk-17-jre-headless", "default-jre-headless"),
    "a Java 17 (or newer) runtime, e.g. from adoptium.net",
)
MAVEN = Program("mvn", ("maven",), "Apache Maven, e.g. from maven.apache.org")
REDIS = Program("redis-server", ("redis-server",), "Redis 7, e.g. from redis.io")

Runner = Callable[[list[str]], bool]


def find(program: Program, *, run: Runner | None = None) -> str:
    """Return the program's path, installing it where that is allowed.

    Raises :class:`ServiceMissingError` that names it and says how to get it.
    """
    path = shutil.which(program.command)
    if path is None and may_install():
        _install(program, run or _run)
        path = shutil.which(program.command)
    if path is None:
        packages = " or ".join(program.packages)
        msg = f"{program.command} is missing: install {program.hint} (Debian: apt-get install {packages})"
        raise ServiceMissingError(msg)
    return path


def may_install() -> bool:
    """Whether packages can be installed here without asking: root on Debian or a relative of it."""
    return (
        os.geteuid() == 0 and pathlib.Path("/etc/debian_version").exists() and bool(shutil.which("apt-get"))
    )


def docker_answers() -> bool:
    """Whether a Docker engine with compose answers (the client alone is not enough)."""
    if shutil.which("docker") is None:
        return False
    return _run(["docker", "info"]) and _run(["docker", "compose", "version"])


def _install(program: Program, run: Runner) -> None:
    run(["apt-get", "update", "-q"])
    for package in program.packages:
        if run(["apt-get", "install", "-q", "-y", "--no-install-recommends", package]):
            return


def _run(command: list[str]) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603  # commands are fixed in this module
            command, capture_output=True, check=False, timeout=_INSTALL_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
