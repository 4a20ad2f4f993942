"""A Redis server as a local process. Does I/O."""

from __future__ import annotations

import contextlib
import pathlib
import socket

from shotbus.deploy.services.process import free_port, listens, spawn, wait_until
from shotbus.deploy.services.programs import REDIS, find

NAME = "redis"
_START_SECONDS = 15.0


def start_redis(directory: pathlib.Path, *, port: int | None = None) -> str:
    """Start a Redis that keeps nothing on disk and return its URL.

    Raises :class:`ServiceMissingError` without redis-server, :class:`ServiceError` if it does not start.
    """
    directory = directory.resolve()
    program, chosen = find(REDIS), port or free_port()
    options = ["--bind", "127.0.0.1", "--port", str(chosen), "--dir", str(directory)]
    # Everything in the store can be made anew from the topics.
    spawn([program, *options, "--save", "", "--appendonly", "no", "--daemonize", "no"], directory, NAME)

    def ready() -> bool:
        return listens(directory, NAME, chosen) and answers("127.0.0.1", chosen)

    wait_until(ready, directory, NAME, _START_SECONDS)
    return f"redis://127.0.0.1:{chosen}"


def answers(host: str, port: int) -> bool:
    """Whether a Redis answers PING there (also when it asks for a password first)."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False
