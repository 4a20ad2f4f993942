"""The services of one directory: what runs there, how it was started, and its URL. Does I/O."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from shotbus.deploy.services import compose, kafka, process, redis
from shotbus.deploy.services.errors import ServiceError
from shotbus.deploy.services.process import free_port, locked
from shotbus.deploy.services.programs import docker_answers

How = Literal["given", "docker", "local"]
KINDS = ("kafka", "redis")
_VARIABLES = {"kafka": "SHOTBUS_TEST_KAFKA", "redis": "SHOTBUS_TEST_REDIS"}


class Service(NamedTuple):
    """One service: where it is, and who runs it (``given`` ones are never stopped here)."""

    address: str
    how: How


class Services:
    """Kafka and Redis for one directory. Safe to call from several processes at once.

    ``cache`` holds Kafka's jars and may be shared between directories.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        cache: pathlib.Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._directory = directory.resolve()
        self._cache = (cache or directory).resolve()
        self._environment = environment

    def up(self, kind: str) -> Service:
        """Return the service ``kind``, started if it does not run. Raises :class:`ServiceError`."""
        if given := self._environment.get(_VARIABLES[kind]):
            return _given(kind, given)
        with locked(self._directory / "services.lock"):
            state = self._load()
            service = state.get(kind)
            if service is None or not self._answers(kind, service):
                # What a crash left behind must not keep the data directory locked.
                process.stop(self._directory / kind, kind)
                service = self._start(kind)
                self._save(state | {kind: service})
        return service

    def down(self) -> list[str]:
        """Stop what was started in this directory, nothing else. Returns the kinds that were stopped."""
        with locked(self._directory / "services.lock"):
            state = self._load()
            stopped = [kind for kind in KINDS if process.stop(self._directory / kind, kind)]
            if any(service.how == "docker" for service in state.values()):
                compose.down(self._directory)
                stopped += [kind for kind, service in state.items() if service.how == "docker"]
            (self._directory / "services.json").unlink(missing_ok=True)
        return stopped

    def status(self) -> dict[str, Service]:
        """Return the services that answer now."""
        state = self._load()
        for kind in KINDS:
            if given := self._environment.get(_VARIABLES[kind]):
                state[kind] = Service(given.removeprefix("redis://"), "given")
        return {kind: service for kind, service in state.items() if self._answers(kind, service)}

    def _start(self, kind: str) -> Service:
        home = self._directory / kind
        if docker_answers():
            port = free_port()
            compose.up(self._directory, kind, port)
            return Service(f"127.0.0.1:{port}", "docker")
        if kind == "kafka":
            return Service(kafka.start_kafka(home, self._cache).address, "local")
        return Service(redis.start_redis(home).removeprefix("redis://"), "local")

    def _answers(self, kind: str, service: Service) -> bool:
        if service.how == "local" and process.running(self._directory / kind, kind) is None:
            return False
        return _answers(kind, service.address)

    def _load(self) -> dict[str, Service]:
        try:
            kept = json.loads((self._directory / "services.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {kind: Service(*entry) for kind, entry in kept.items()}

    def _save(self, state: Mapping[str, Service]) -> None:
        path = self._directory / "services.json"
        path.with_suffix(".new").write_text(json.dumps(state))
        path.with_suffix(".new").replace(path)


def url(services: Mapping[str, Service]) -> str:
    """Return the URL by which clients and roles connect to both."""
    return f"kafka://{services['kafka'].address}?store=redis://{services['redis'].address}"


def _given(kind: str, address: str) -> Service:
    service = Service(address.removeprefix("redis://"), "given")
    if not _answers(kind, service.address):
        msg = f"{_VARIABLES[kind]}={address} does not answer"
        raise ServiceError(msg)
    return service


def _answers(kind: str, address: str) -> bool:
    if kind == "kafka":
        return kafka.answers(address)
    target = urlsplit(f"//{address}")
    return redis.answers(target.hostname or "127.0.0.1", target.port or 6379)
