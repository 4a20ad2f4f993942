"""A Kafka broker as a local JVM: its jars from Maven Central, its directory, its start. Does I/O."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import shutil
import string
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shotbus.broker.bus.base import BusError
from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings
from shotbus.deploy.services.errors import ServiceError
from shotbus.deploy.services.process import free_port, listens, locked, spawn, stop, wait_until
from shotbus.deploy.services.programs import JAVA, MAVEN, find

RESOURCES = pathlib.Path(__file__).resolve().parents[1] / "kafka"
NAME = "kafka"

_HEAP = "512m"
_START_SECONDS = 60.0
_FETCH_SECONDS = 600
_PORT_TRIES = 3
_DONE = "complete"


@dataclass(frozen=True, slots=True)
class KafkaBroker:
    """A broker that was started: its address and the directory by which it can be stopped."""

    address: str
    directory: pathlib.Path


def jars(cache: pathlib.Path) -> pathlib.Path:
    """Return the directory with the broker's jars, fetched once for all processes.

    Raises :class:`ServiceMissingError` without Maven, :class:`ServiceError` when the download fails.
    """
    lib = cache / "kafka" / "lib"
    with locked(cache / "kafka" / "lib.lock"):
        pom = (RESOURCES / "pom.xml").read_text()
        if not (lib / _DONE).exists() or (lib / _DONE).read_text() != pom:
            _fetch(lib, pom)
    return lib


def _fetch(lib: pathlib.Path, pom: str) -> None:
    maven = find(MAVEN)
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir(parents=True)
    (lib / "pom.xml").write_text(pom)
    arguments = [f"-DoutputDirectory={lib}", "-DincludeScope=runtime"]
    done = subprocess.run(  # noqa: S603  # our own POM and a path that we made
        [maven, "-q", "-B", "-f", str(lib / "pom.xml"), "dependency:copy-dependencies", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_FETCH_SECONDS,
    )
    if done.returncode != 0:
        msg = f"Maven could not fetch Kafka's jars: {(done.stdout + done.stderr).strip()[-800:]}"
        raise ServiceError(msg)
    (lib / _DONE).write_text(pom)


def properties(
    port: int,
    controller_port: int,
    data: pathlib.Path,
    *,
    protocol: str = "PLAINTEXT",
    extra: Mapping[str, str] | None = None,
) -> str:
    """Fill in the template of server.properties; ``extra`` settings are appended."""
    template = string.Template((RESOURCES / "server.properties").read_text())
    values = {"port": port, "controller_port": controller_port, "data": data, "protocol": protocol}
    lines = [f"{name}={value}" for name, value in (extra or {}).items()]
    return "\n".join([template.substitute(values), *lines, ""])


def start_kafka(
    directory: pathlib.Path,
    cache: pathlib.Path,
    *,
    protocol: str = "PLAINTEXT",
    extra: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
    port: int | None = None,
) -> KafkaBroker:
    """Start a broker with its data in ``directory`` and wait until it answers.

    ``users`` are SCRAM-SHA-512 names and passwords, created when the directory is new. A broker that
    was stopped continues with its data. Raises :class:`ServiceError`.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    java, lib = find(JAVA), jars(cache)
    tries = _PORT_TRIES if port is None else 1
    for left in reversed(range(tries)):
        chosen = port or free_port()
        config = directory / "server.properties"
        config.write_text(properties(chosen, free_port(), directory / "data", protocol=protocol, extra=extra))
        config.chmod(0o600)
        _format(java, lib, directory, users or {})
        try:
            _launch(java, lib, directory, chosen, plain=protocol == "PLAINTEXT")
        except ServiceError:
            # Between looking for a free port and binding it somebody else may have taken it.
            stop(directory, NAME)
            if left == 0:
                raise
        else:
            break
    return KafkaBroker(f"127.0.0.1:{chosen}", directory)


def _format(java: str, lib: pathlib.Path, directory: pathlib.Path, users: Mapping[str, str]) -> None:
    if (directory / "data" / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    credentials = [
        part
        for name, password in users.items()
        for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
    ]
    command = _command(java, lib, "kafka.tools.StorageTool", "128m")
    config = str(directory / "server.properties")
    # With "=", for an id may begin with "-".
    done = subprocess.run(  # noqa: S603  # our own configuration, written a moment ago
        [
            *command,
            "format",
            f"--cluster-id={cluster}",
            "-c",
            config,
            *credentials,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_SECONDS,
    )
    if done.returncode != 0:
        msg = f"Kafka's storage could not be formatted: {done.stderr.strip()[-800:]}"
        raise ServiceError(msg)


def _launch(java: str, lib: pathlib.Path, directory: pathlib.Path, port: int, *, plain: bool) -> None:
    spawn([*_command(java, lib, "kafka.Kafka", _HEAP), str(directory / "server.properties")], directory, NAME)

    def ready() -> bool:
        # Not a line of the log: what it says differs between versions.
        return listens(directory, NAME, port) and (not plain or answers(f"127.0.0.1:{port}"))

    wait_until(ready, directory, NAME, _START_SECONDS)


def _command(java: str, lib: pathlib.Path, main: str, heap: str) -> Sequence[str]:
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [java, f"-Xmx{heap}", "-XX:+UseSerialGC", log, "-cp", f"{lib}/*", main]


def answers(address: str) -> bool:
    """Whether a broker at ``address`` gives metadata."""

    async def ask() -> None:
        bus = KafkaBus(KafkaSettings(bootstrap=address))
        try:
            await bus.start()
            await bus.topics()
        finally:
            await bus.close()

    library = logging.getLogger("aiokafka")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        asyncio.run(ask())
    except BusError:
        return False
    finally:
        library.setLevel(level)
    return True
