"""A small cluster of role processes on one host, for `make run-kafka`, benchmarks and tests. Does I/O.

``python -m shotbus.deploy.cluster [--url URL | --services DIR] -- COMMAND…`` starts two dispatchers, two
Aer workers, a classical worker and two reducers as separate processes, runs ``shotbus COMMAND``
against them, lets a third Aer worker join and another leave while it runs, and says what share of the
jobs each took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from shotbus.broker.config_loader import load_config
from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.broker.pools import PoolsTail
from shotbus.broker.urls import public_url
from shotbus.producers.blocking import Client

_READY_SECONDS = 90.0
_STOP_SECONDS = 30.0


@dataclass(slots=True)
class Role:
    """One process: its name here, its arguments, where its log goes."""

    name: str
    process: subprocess.Popen[str]
    log: pathlib.Path
    ready: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[dict[str, Any]]:
        """Return the structured lines of its log."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    @property
    def metrics(self) -> str | None:
        """Where its Prometheus endpoint is, once it is ready; None when that is off."""
        return self.ready.get("metrics")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """End it gracefully; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()
        return int(self.process.returncode)

    def _close(self) -> None:
        if self.process.stdout:
            self.process.stdout.close()


class Cluster:
    """Role processes on one URL; a context manager that ends what it started.

    Args:
        url: bus and store.
        directory: for logs.
        environment: additions to the environment of every process.

    """

    def __init__(
        self, url: str, directory: pathlib.Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.url, self._directory = url, directory
        self._environment = dict(environment or {})
        self.roles: dict[str, Role] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for role in reversed(list(self.roles.values())):
            role.stop()

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Role:
        """Start ``shotbus ARGUMENTS…`` under a name and return without waiting for it."""
        log = self._directory / f"{name}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "shotbus", *arguments, "--url", self.url, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=os.environ | self._environment | dict(environment or {}),
                start_new_session=True,
            )
        role = self.roles[name] = Role(name, process, log)
        return role

    def wait(self, *names: str) -> None:
        """Wait until roles serve. Raises RuntimeError with the end of the log of one that does not."""
        for name in names:
            role = self.roles[name]
            killer = threading.Timer(_READY_SECONDS, role.process.kill)
            killer.start()
            line = role.process.stdout.readline() if role.process.stdout else ""
            killer.cancel()
            if not line:
                tail = role.log.read_text(encoding="utf-8")[-2_000:]
                raise RuntimeError(f"{name} did not start:\n{tail}")
            role.ready = json.loads(line)

    def standard(self, *, workers: int = 2, pools: Sequence[str] = ("classical",)) -> None:
        """Start two dispatchers, two reducers, Aer workers and one worker of each other pool; wait."""
        names = [self.start(f"dispatcher-{n}", "dispatcher").name for n in range(2)]
        names += [self.start(f"reducer-{n}", "reducer").name for n in range(2)]
        names += [self.worker(f"aer-{n}").name for n in range(workers)]
        names += [self.worker(f"{pool}-0", pool).name for pool in pools]
        self.wait(*names)

    def worker(self, name: str, pool: str = "aer") -> Role:
        """Start a worker with one child process."""
        return self.start(name, "worker", "--pool", pool, "--concurrency", "1")

    def done(self) -> dict[str, int]:
        """Return the jobs that each worker now advertises as done."""
        adverts = asyncio.run(_adverts(self.url))
        by_pid = {role.process.pid: role.name for role in self.roles.values()}
        pids = {int(fields["name"].split("-")[-2]): int(fields["done"]) for fields in adverts}
        return {by_pid[pid]: count for pid, count in pids.items() if pid in by_pid}

    def takers(self, group: str, shard: int) -> list[str]:
        """Return the roles that took a shard of ``dispatchers`` or ``reducers``, in order of time."""
        found: list[tuple[str, str]] = []
        for role in self.roles.values():
            for told in role.lines():
                taken = told.get("event") == "shard taken" and told["shard"] == shard
                if taken and str(told["group"]).endswith(group):
                    found.append((str(told["timestamp"]), role.name))
        return [name for _, name in sorted(found)]

    def shares(self, pool: str = "aer") -> dict[str, int]:
        """Return the jobs done by each worker that has stopped, as it said when it did."""
        done: dict[str, int] = {}
        for role in self.roles.values():
            for told in role.lines():
                if told.get("event") == "worker stopped" and told.get("pool") == pool:
                    done[role.name] = int(told["done"])
        return done


async def _adverts(url: str) -> list[Mapping[str, Any]]:
    config = load_config().config
    address = parse_url(url)
    bus = open_bus(address, config, client_id="shotbus-cluster")
    found: dict[bytes, Mapping[str, Any]] = {}

    def learn(key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        del heard
        if fields is not None and fields["role"] == "worker":
            found[key] = fields

    await bus.start()
    try:
        await PoolsTail(bus, topics_for(address, config), learn).catch_up()
    finally:
        await bus.close()
    return list(found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command against a standard cluster in which a worker joins and another leaves."""
    parser = argparse.ArgumentParser(prog="python -m shotbus.deploy.cluster", description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--services", type=pathlib.Path, help="folder of `python -m shotbus.deploy.services`")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path(".shotbus/cluster"))
    parser.add_argument("--prefix", help="topic prefix (default: a new one, so that nothing is cached)")
    parser.add_argument("command", nargs="+", help="-- run FILE")
    options = parser.parse_args(arguments)
    prefix = options.prefix or f"run-{int(time.time())}."
    os.environ["SHOTBUS__BROKER__PREFIX"] = prefix
    with Cluster(options.url or _url_of(options.services), options.logs / prefix) as cluster:
        say(f"starting two dispatchers, two Aer workers, two reducers on {public_url(cluster.url)}")
        cluster.standard()
        for role in cluster.roles.values():
            say(f"metrics of {role.name}: {role.metrics or 'off'}")
        code = _run(cluster, options.command)
        for role in cluster.roles.values():
            role.stop()
        for name, done in sorted(cluster.shares().items()):
            say(f"worker {name} did {done} jobs")
    return code


def _run(cluster: Cluster, command: Sequence[str]) -> int:
    """Run the command; meanwhile a third worker joins, then the first leaves."""
    job = subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-m", "shotbus", *command, "--url", cluster.url]
    )
    changes = threading.Thread(target=_change_workers, args=(cluster, job))
    changes.start()
    code = job.wait()
    changes.join()
    return code


def _change_workers(cluster: Cluster, job: subprocess.Popen[bytes]) -> None:
    """Let a worker join once jobs are done, and the first leave when there are three.

    The pool is held meanwhile: a process takes seconds to start, and the run may not take as long.
    """
    with Client(cluster.url) as operator:
        if not _until_done(cluster, job, "aer-0", "aer-1"):
            say("the run was over before a worker could join")
            return
        operator.control_pool("pause", "aer", reason="a third worker joins")
        cluster.worker("aer-2")
        cluster.wait("aer-2")
        say("a third worker has joined")
        operator.control_pool("resume", "aer", reason="a third worker has joined")
    cluster.roles["aer-0"].stop()
    say("the first worker has left")


def _until_done(cluster: Cluster, job: subprocess.Popen[bytes], *names: str) -> bool:
    """Wait until one of the workers has finished jobs; False when the command ends before."""
    while job.poll() is None:
        done = cluster.done()
        if any(done.get(name, 0) for name in names):
            return True
    return False


def _url_of(directory: pathlib.Path | None) -> str:
    """Ask the services runner where Kafka and Redis are."""
    extra = ["--dir", str(directory)] if directory else []
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-m", "shotbus.deploy.services", "status", "--json", *extra],
        capture_output=True,
        text=True,
        check=True,
    )
    url: str = json.loads(done.stdout)["url"]
    return url


def say(text: str) -> None:
    """Print a line of the cluster's own."""
    sys.stderr.write(f"[cluster {time.strftime('%H:%M:%S')}] {text}\n")


if __name__ == "__main__":
    sys.exit(main())
