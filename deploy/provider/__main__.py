"""``python -m shotbus.deploy.provider --dir DIR``: the provider that does not exist. Does I/O.

Its credentials are made at its first start, in files that only their owner reads: ``DIR/credential`` for the
pool's ``credentials = "file:…"``, ``DIR/admin`` for whoever plans faults. The first line of output is JSON:
where it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from shotbus.broker.clock import SystemClock
from shotbus.deploy.provider.settings import COUPLINGS, DeviceSettings, Limits, Prices, ServerSettings

_ACCOUNT = "default"
_MISSING = 3


def main(arguments: Sequence[str] | None = None, *, name: str = "python -m shotbus.deploy.provider") -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code: 3 when aiohttp is not installed.

    ``name`` is what the command is called in its help.
    """
    options = _parser(name).parse_args(arguments)
    if options.ledger:
        return _export(options.dir, options.ledger)
    try:
        import aiohttp
    except ModuleNotFoundError:
        sys.stderr.write("the provider needs aiohttp: pip install 'shotbus[provider]'\n")
        return _MISSING
    del aiohttp
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options))
    return 0


def _export(directory: Path, pool: str) -> int:
    """Print the ledger as ``shotbus verify --ledger`` reads it: a token is JOB.NUMBER there."""
    from shotbus.deploy.provider.books import Books

    books = Books(directory / "books.sqlite")
    rows = books.ledger()
    books.close()
    returned = {row["job"] for row in rows if row["kind"] == "refunded"}
    submissions = [
        {
            "token": row["token"],
            "job_id": row["token"].partition(".")[0],
            "attempt": row["attempt"],
            "at": row["at_ms"] / 1000,
            "cost": row["cost"],
            "billed": row["job"] not in returned,
            "pool": pool,
        }
        for row in rows
        if row["kind"] == "billed"
    ]
    sys.stdout.write(json.dumps({"pools": [pool], "submissions": submissions}) + "\n")
    return 0


async def _serve(options: argparse.Namespace) -> None:
    from aiohttp import web

    from shotbus.deploy.provider.app import make_app
    from shotbus.deploy.provider.books import Books
    from shotbus.deploy.provider.service import Provider

    options.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    books = Books(options.dir / "books.sqlite")
    provider = Provider(_settings(options), books, SystemClock())
    account, admin = _secret(options.dir / "credential"), _secret(options.dir / "admin")
    for fault in json.loads(options.faults.read_text(encoding="utf-8")) if options.faults else ():
        provider.plan.add(fault)
    runner = web.AppRunner(make_app(provider, {account: _ACCOUNT}, admin), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port, shutdown_timeout=1.0)
    await site.start()
    host, port = runner.addresses[0][:2]
    told = {"ready": True, "url": f"http://{host}:{port}", "pid": os.getpid()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
        books.close()


def _secret(path: Path) -> str:
    """Return the secret in a file, which is made if it is not there, for its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    made = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made)
    return made


def _settings(options: argparse.Namespace) -> ServerSettings:
    return ServerSettings(
        device=_filled(DeviceSettings, options),
        limits=_filled(Limits, options),
        prices=_filled(Prices, options),
        slots=options.slots,
        latency_seconds=options.latency_seconds,
    )


def _filled(kind: Any, options: argparse.Namespace) -> Any:
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        usage="%(prog)s --dir DIR [OPTIONS]",
        description="Run a provider that does not exist: a noisy device behind HTTP, with quotas and books.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, required=True, help="its books and its credentials")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--faults", type=Path, help="a JSON list of faults to begin with")
    parser.add_argument("--ledger", metavar="POOL", help="print the ledger for shotbus verify, and end")
    parser.add_argument("--slots", type=int, default=1, help="jobs that run at once")
    parser.add_argument("--latency-seconds", type=float, default=0.0, help="of every run, at least")
    for kind in (DeviceSettings, Limits, Prices):
        for field in fields(kind):
            default = getattr(kind(), field.name)
            choices = COUPLINGS if field.name == "coupling" else None
            flag = f"--{field.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(default), default=default, choices=choices, help="setting")
    return parser


if __name__ == "__main__":
    sys.exit(main())
