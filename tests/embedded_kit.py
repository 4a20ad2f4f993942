"""A real embedded broker in a child process, and what the suites that share one ask of it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.sqlite import SqliteBus
from shotbus.broker.config import Config
from shotbus.broker.connect import parse_url, topics_for

BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'
ROTATED = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float[64] a;\ninput float[64] b;\nqubit[2] q;\nbit[2] c;\n'
    "ry(a) q[0];\nry(b) q[1];\nc = measure q;\n"
)


class Broker:
    """``shotbus up`` on a directory; use it as a context manager."""

    def __init__(self, directory, *pools, environ=None):
        self.directory, self.url = directory, f"sqlite:///{directory}"
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "test.log"
        words = [word for pool in pools for word in ("--pool", pool)]
        command = [sys.executable, "-m", "shotbus", "up", "--data", str(directory), "--json", *words]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=os.environ | (environ or {}), cwd=directory
            )

    def __enter__(self):
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.ready = json.loads(line)
        assert self.ready["ready"]
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM):
        """Stop it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code

    def lines(self):
        """What it logged, decoded."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def metrics(self):
        """Every sample of its endpoint, by name with labels."""
        with urllib.request.urlopen(self.ready["metrics"], timeout=10) as answer:
            text = answer.read().decode()
        return text, dict(parse_samples(text))


def parse_samples(text):
    for line in text.splitlines():
        match = re.match(r"^(\w+(?:\{.*\})?) (\S+)$", line)
        if match:
            yield match[1], float(match[2])


def on_bus(url, work):
    """Run ``await work(bus, topics)`` on a bus of its own."""

    async def run():
        address = parse_url(url)
        bus = SqliteBus(address.directory / "bus")
        await bus.start()
        try:
            return await work(bus, topics_for(address, Config()))
        finally:
            await bus.close()

    return asyncio.run(run())


def records(url, *names):
    """Every record of logical topics."""

    async def read(bus, topics):
        places = [TopicPartition(topics.name(name), n) for name in names for n in range(topics.partitions)]
        ends = await bus.ends(places)
        reader = bus.reader(await bus.begins(places))
        found = []
        try:
            while any(reader.position(place) < end for place, end in ends.items()):
                found += await reader.poll(max_records=1_000, timeout=1.0)
        finally:
            await reader.close()
        return found

    return on_bus(url, read)


INBOUND = (
    "circuits",
    "sweeps",
    "requests.interactive",
    "requests.production",
    "requests.experiment",
    "requests.bulk",
)


def published(url):
    """How many records clients have put on the bus so far; requests that were trimmed count."""

    async def count(bus, topics):
        places = [TopicPartition(topics.name(name), n) for name in INBOUND for n in range(topics.partitions)]
        return sum((await bus.ends(places)).values())

    return on_bus(url, count)


def eventually(check, *, seconds=20.0):
    """Return what ``check`` returns once it is true; fail with its last value when it does not come."""
    until = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < until, f"still {value!r} after {seconds} s"
        time.sleep(0.02)


def shotbus(*words, cwd, environ=None, timeout=60, text=None):
    """Run the command; returns (exit code, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "shotbus", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | (environ or {}),
        timeout=timeout,
        check=False,
        input=text,
    )
    return done.returncode, done.stdout, done.stderr
