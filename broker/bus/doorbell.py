"""Doorbells: wake other processes of one host through unix datagram sockets. Does socket I/O.

Every process binds one socket in a common directory and sends a datagram to all the others after it
has committed. A bell is a hint and nothing depends on it but latency: a full buffer is ignored, and
readers also look by themselves now and then. A bell whose process is gone refuses the connection,
which tells a killed process from a slow one at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from array import array
from collections.abc import Collection
from pathlib import Path

from shotbus.broker.bus.base import BusError

EVERYTHING: frozenset[int] | None = None
_SUN_PATH = 100  # the kernel's limit is 108 bytes, terminator included; macOS has 104
_MAX_KEYS = 64
_QUEUE_LENGTH = 10  # the default of net.unix.max_dgram_qlen
_PROC_FD = Path("/proc/self/fd")


class Doorbell:
    """One process's bell in ``directory``, and the means to ring the others."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        self._base = self._short_path()
        self._sender = _datagram_socket()
        self._bell = self._bind()

    @property
    def bell(self) -> socket.socket:
        """The socket to watch for reading."""
        return self._bell

    def ring(self, keys: Collection[int]) -> None:
        """Tell every other process that ``keys`` have changed. Safe to call from another thread."""
        payload = array("I", keys).tobytes() if len(keys) <= _MAX_KEYS else b""
        # By descriptor: a third of the cost of walking the path at every commit.
        for name in os.listdir(self._directory_fd):  # noqa: PTH208 -- pathlib cannot list a descriptor
            if name != self.name:
                self._ring_one(name, payload)

    def drain(self) -> frozenset[int] | None:
        """Return the keys told since the last call; None when it may have been anything."""
        keys: set[int] = set()
        for count in range(1_000):
            try:
                payload = self._bell.recv(4 * _MAX_KEYS)
            except BlockingIOError:
                # A queue this long may have been full, and what did not fit is unknown.
                return frozenset(keys) if count < _QUEUE_LENGTH else EVERYTHING
            if not payload:
                keys.clear()
                return EVERYTHING
            keys.update(array("I", payload))
        return EVERYTHING

    def is_dead(self, name: str) -> bool:
        """Return whether the process behind bell ``name`` is certainly gone."""
        with _datagram_socket() as probe:
            try:
                probe.connect(self._address(name))
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            except OSError:
                return False
        return False

    def missing(self) -> bool:
        """Return whether someone removed this process's own bell from the directory."""
        return not (self._directory / self.name).exists()

    def rebind(self) -> None:
        """Put the bell back; the caller watches the new :attr:`bell`."""
        self._bell.close()
        self._bell = self._bind()

    def close(self) -> None:
        """Remove the bell."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self._directory_fd)
        self._bell.close()
        self._sender.close()
        os.close(self._directory_fd)

    def _ring_one(self, name: str, payload: bytes) -> None:
        try:
            self._sender.sendto(payload, self._address(name))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory_fd)
        except OSError:
            return  # full, or just removed: bells are hints

    def _bind(self) -> socket.socket:
        bell = _datagram_socket()
        try:
            bell.bind(self._address(self.name))
            os.chmod(self.name, 0o600, dir_fd=self._directory_fd)
        except OSError as error:
            bell.close()
            raise BusError(f"cannot create the socket {self._directory / self.name}: {error}") from error
        return bell

    def _address(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _short_path(self) -> str:
        """Return a name of the directory that fits into a socket address."""
        path = str(self._directory)
        if len(os.fsencode(path)) + len(self.name) < _SUN_PATH:
            return path
        if _PROC_FD.exists():
            return f"{_PROC_FD}/{self._directory_fd}"
        raise BusError(f"the path {path} is too long for a socket address; choose a shorter data directory")


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
