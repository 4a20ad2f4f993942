"""Bytes a point on each topic while a sweep runs: full bindings against a delta of 2 of 48. Does I/O."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from shotbus.benchmarks import ansatz
from shotbus.benchmarks.figures import Figure, Report, Table
from shotbus.benchmarks.place import Place, connected, serving
from shotbus.broker.bus.base import Bus, Record, TopicPartition
from shotbus.producers.client import AsyncClient
from shotbus.producers.result import JobResult
from shotbus.schemas.pub import Bindings, pack_bindings

DELTA_COLUMNS = 2
#: (topic, who writes it for whom)
_STAGES = (
    ("requests.experiment", "client → dispatcher"),
    ("work.aer", "dispatcher → worker"),
    ("outcomes", "worker → dispatcher"),
    ("results", "dispatcher → client, reducer"),
    ("jobs", "ledger"),
    ("events", "dispatcher → read models"),
    ("folds", "ledger of the fold"),
    ("reductions", "reducer → client"),
)
_PATIENCE_SECONDS = 300.0


async def measure(place: Place, *, points: int, shots: int) -> Report:
    """Sweep ``points`` points twice and weigh every record."""
    with serving(place, "aer"):
        async with connected(place) as client:
            full = await _weigh(client, points, shots, ansatz.PARAMETERS)
            delta = await _weigh(client, points, shots, DELTA_COLUMNS)
    return _report(points, shots, full, delta)


async def _weigh(client: AsyncClient, points: int, shots: int, changing: int) -> Counter[str]:
    """Return bytes by topic, keys and values and headers."""
    session = client.session
    names = {session.topics.name(name): name for name, _ in _STAGES}
    async with _meter(session.bus, names) as weighed:
        matrix = ansatz.points(points, changing=changing)
        sweep = await client.sweep(ansatz.text(), matrix, shots=shots, seed=changing, backend="aer")
        async with asyncio.timeout(_PATIENCE_SECONDS):
            results = [shard async for shard in sweep]
            await sweep.result()
    if sum(shard.points for shard in results if isinstance(shard, JobResult)) != points:
        raise RuntimeError("not every point was answered")
    return weighed


@contextlib.asynccontextmanager
async def _meter(bus: Bus, names: dict[str, str]) -> AsyncIterator[Counter[str]]:
    """Count the bytes of every record written to the topics from now to the end of the block."""
    counts = await bus.topics()
    places = [TopicPartition(topic, number) for topic in names for number in range(counts[topic])]
    reader = bus.reader(await bus.ends(places))
    weighed: Counter[str] = Counter()

    async def read() -> None:
        while True:
            for record in await reader.poll(max_records=500, timeout=0.2):
                weighed[names[record.topic]] += _size(record)

    task = asyncio.create_task(read())
    try:
        yield weighed
        ends = await bus.ends(places)
        while any(reader.position(place) < end for place, end in ends.items()):
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await reader.close()


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _report(points: int, shots: int, full: Counter[str], delta: Counter[str]) -> Report:
    name = "bytes embedded"
    bindings = {columns: _binding_bytes(columns) for columns in (ansatz.PARAMETERS, DELTA_COLUMNS)}
    rows = [
        (topic, f"{full[topic] / points:,.1f}", f"{delta[topic] / points:,.1f}", who)
        for topic, who in _STAGES
    ]
    rows.append(("total", f"{full.total() / points:,.1f}", f"{delta.total() / points:,.1f}", "on the bus"))
    header = ("topic", "full matrix", f"{DELTA_COLUMNS} of {ansatz.PARAMETERS} change", "who")
    figures = [
        Figure(name, "request, full matrix", full["requests.experiment"] / points, "bytes/point"),
        Figure(name, "request, 2 of 48 change", delta["requests.experiment"] / points, "bytes/point"),
        Figure(name, "bindings alone, full matrix", bindings[ansatz.PARAMETERS], "bytes/point"),
        Figure(name, "bindings alone, 2 of 48 change", bindings[DELTA_COLUMNS], "bytes/point"),
        Figure(name, "result", full["results"] / points, "bytes/point"),
    ]
    note = f"{name}: {points:,} points of {shots:,} shots in jobs of 256 points; keys and headers included"
    return Report(figures, [note], [Table("bytes a point by topic", header, tuple(rows))])


def _binding_bytes(changing: int) -> float:
    rows = 256
    return len(pack_bindings(Bindings(ansatz.NAMES, ansatz.points(rows, changing=changing)))) / rows


def _each(size: int, points: int) -> str:
    return f"{size / points:,.1f}"
