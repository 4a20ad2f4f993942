"""Keeps an embedded broker for a client: ``shotbus up`` as a child that ends with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import IO

import structlog

from shotbus.broker.config import Config
from shotbus.broker.config_loader import as_toml
from shotbus.broker.files import make_private_directory, private
from shotbus.schemas.errors import ShotbusError, fail

LOCK_NAME = "up.lock"
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_RESTART_SECONDS = 0.5
_log = structlog.get_logger()


def is_running(directory: Path) -> bool:
    """Tell whether a broker holds a data directory."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class EmbeddedBroker:
    """A child process that runs everything on one data directory, with the client's configuration.

    One that ends before :meth:`close` is started again: what it had accepted is on the disk, and whoever
    waits for an answer would wait for ever.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        """``directory`` is created when it is missing."""
        self._directory, self._config = directory, config
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, unless one runs there, and wait until it serves. Raises ShotbusError (SB-2004)."""
        await self._launch()
        if self._process is not None:
            self._keeper = asyncio.create_task(self._keep(self._process), name="embedded-broker")

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Start the broker again whenever it has ended and nobody else runs one there."""
        while True:
            code = await process.wait()
            if not is_running(self._directory):
                _log.warning("the embedded broker has ended, starting it again", exit_code=code)
                try:
                    await self._launch()
                except (ShotbusError, OSError) as error:
                    _log.warning("the embedded broker did not start", error=str(error))
                process = self._process or process
            await asyncio.sleep(_RESTART_SECONDS)

    async def _launch(self) -> None:
        settings = self._directory / "up.toml"
        try:
            make_private_directory(self._directory)
            if is_running(self._directory):
                return
            log = self._write(settings)
        except OSError as error:
            raise fail("SB-2004", str(self._directory), detail=str(error)) from error
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shotbus", "up", "--data", str(self._directory), "--json"),
                *("--with-parent", "--config", str(settings)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        await self._wait_until_ready(self._process)

    def _write(self, settings: Path) -> IO[bytes]:
        """Write the child's configuration and return its log, opened.

        The URL of another bus stays out of it: the child has none, and there may be a password in it.
        """
        broker = dataclasses.replace(self._config.broker, url=f"sqlite:///{self._directory}")
        with open(settings, "w", encoding="utf-8", opener=private) as stream:
            stream.write(as_toml(dataclasses.replace(self._config, broker=broker)))
        return open(self._directory / "up.log", "ab", opener=private)

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                line = await process.stdout.readline()
        if not line or not json.loads(line).get("ready"):
            if is_running(self._directory):  # somebody else was faster
                return
            hint = f"see {self._directory / 'up.log'}"
            raise fail("SB-2004", str(self._directory), detail="the embedded broker did not start", hint=hint)

    async def close(self) -> None:
        """Let it stop gracefully: its standard input ends."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
