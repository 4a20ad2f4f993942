"""What the worker's tests share: circuits, requests, bundles, a memory bus with a worker on it."""

import asyncio
import contextlib
import time

import numpy as np
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import Parameter

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import circuit_id, keyed_partition
from shotbus.schemas.pub import Bindings, pack_bindings
from shotbus.workers.adapters.base import Batch, BatchItem
from shotbus.workers.service import WorkerService
from shotbus.workers.settings import WorkerSettings

POOLS = ("aer", "classical", "noop", "faulty")
TOPICS = Topics(prefix="t.", partitions=2, work_partitions=4)
NO_BINDINGS = Bindings((), np.zeros((1, 0)))


def rotations(qubits=3, layers=1, *, measured=True):
    """A hardware-efficient circuit: its text and the names of its parameters."""
    circuit = QuantumCircuit(qubits, qubits if measured else 0)
    names = [f"t{k:03d}" for k in range(2 * qubits * layers)]
    todo = iter(names)
    for _ in range(layers):
        for qubit in range(qubits):
            circuit.ry(Parameter(next(todo)), qubit)
            circuit.rz(Parameter(next(todo)), qubit)
        for qubit in range(qubits - 1):
            circuit.cx(qubit, qubit + 1)
    if measured:
        circuit.measure(range(qubits), range(qubits))
    return qasm3.dumps(circuit), tuple(names)


def angles(names, rows, seed=0):
    return Bindings(names, np.random.default_rng(seed).uniform(0, 6, (rows, len(names))))


def request(text="", bindings=NO_BINDINGS, *, mode="sample", shots=100, observables=b"", **fields):
    """An encoded CircuitRequest."""
    record = {
        "job_id": "0" * 32,
        "tenant": "t",
        "principal": "p",
        "payload_hash": bytes(16),
        "priority": "bulk",
        "intent": "test",
        "circuit_id": circuit_id(text),
        "points": bindings.points,
        "bindings": pack_bindings(bindings),
        "mode": mode,
        "shots": shots,
        "observables": observables,
        "expected": {"registers": [], "observables": 0, "shape": []},
        "submitted_us": 0,
    }
    return encode("circuit_request", {**record, **fields})


def item(raw, *, seed=7, number=0):
    return BatchItem(f"{number:032x}", 1, seed, raw)


def batch(items, *texts):
    """A batch that knows the given circuit texts."""
    circuits = {circuit_id(text): {"text": text, "language": language_of(text)} for text in texts}
    return Batch(items, circuits)


def language_of(text):
    return "openqasm2" if text.startswith("OPENQASM 2") else "openqasm3"


def circuit_record(text):
    name = circuit_id(text)
    return encode("circuit", {"circuit_id": name, "language": language_of(text), "text": text})


def bundle(bundle_id, requests, *, pool="faulty", late=False, lease_ms=3_000, seeds=None, deadlines=()):
    """An encoded WorkBundle; job ids count from 0. ``deadlines``: seconds from now by job, None for none."""
    now = time.time()
    seeds = seeds or [7] * len(requests)
    items = [
        {"job_id": f"{k:032x}", "attempt": 1, "seed": seeds[k], "traceparent": "", "request": raw}
        for k, raw in enumerate(requests)
    ]
    for one, seconds in zip(items, deadlines, strict=False):
        one["deadline_ms"] = 0 if seconds is None else int((now + seconds) * 1e3)
    fields = {
        "bundle_id": bundle_id,
        "pool": pool,
        "shard": 1,
        "start_by_ms": int(now * 1e3) + (-1 if late else 60_000),
        "lease_ms": lease_ms,
        "sent_us": int(now * 1e6),
        "items": items,
    }
    return encode("work_bundle", fields)


def faulty(*faults):
    """Requests for the faulty adapter, one a fault; the empty fault succeeds."""
    return [request(options={"fault": fault}) for fault in faults]


class Bench:
    """A cluster, a store, and a view of what workers publish."""

    def __init__(self):
        self.cluster = MemoryCluster()
        self.bus = MemoryBus(self.cluster)
        self.store = MemoryStore()
        self.seen = []
        self._tasks = {}

    async def open(self):
        await self.bus.start()
        await self.bus.create_topics(TOPICS.specs(POOLS))
        await self.store.start()
        self.outcomes = self.bus.reader({TopicPartition(TOPICS.name("outcomes"), 1): 0})
        return self

    async def close(self):
        for service, task in self._tasks.items():
            service.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.bus.close()

    async def worker(self, pool="faulty", name="w1", *, adapter=None, **settings):
        """Start a worker as a process of its own would be: with its own bus on the same cluster."""
        bus = MemoryBus(self.cluster)
        await bus.start()
        told = WorkerSettings(pool, pool, name, **{"slots": 1, "stop_seconds": 20.0, **settings})
        service = WorkerService(bus, self.store, TOPICS, told, adapter=adapter)
        self._tasks[service] = asyncio.create_task(service.run())
        service.test_bus = bus
        return service

    async def stop(self, service):
        service.stop()
        await self._tasks.pop(service)

    async def kill(self, service):
        """End a worker as SIGKILL would: nothing it does afterwards reaches the bus."""
        service.test_bus.kill()
        task = self._tasks.pop(service)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def send(self, record, *, pool="faulty", partition=0):
        return await self.bus.publish([Outgoing(TOPICS.work(pool), partition, b"b", record)])

    async def publish_circuit(self, text, *, key=None):
        name = key or circuit_id(text)
        partition = keyed_partition(name, TOPICS.partitions)
        record = Outgoing(TOPICS.name("circuits"), partition, name.encode(), circuit_record(text))
        await self.bus.publish([record])

    async def until(self, wanted, seconds=30):
        """Read outcomes until ``wanted(all seen so far)``; return those seen."""
        async with asyncio.timeout(seconds):
            while not wanted(self.seen):
                for record in await self.outcomes.poll(max_records=100, timeout=1):
                    self.seen.append(decode(record.value, "outcome")[1])
        return self.seen

    async def finished(self, bundles=1, seconds=30):
        """Return the items of the first so many bundles that finished, by (bundle, job number)."""
        await self.until(lambda seen: len(bundles_of(seen, "finished")) >= bundles, seconds)
        return {
            (outcome["bundle_id"], int(one["job_id"], 16)): one
            for outcome in self.seen
            if outcome["kind"] == "finished"
            for one in outcome["items"]
        }

    async def statuses(self, key):
        """Return every status published under a key, None for a tombstone."""
        partition = TopicPartition(TOPICS.name("pools"), 0)
        reader = self.bus.reader({partition: 0})
        records = await reader.poll(max_records=10_000, timeout=0)
        await reader.close()
        return [r.value and decode(r.value, "pool_status")[1] for r in records if r.key == key]

    async def status_until(self, key, wanted, seconds=20):
        """Return the newest status under a key once it is ``wanted``."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.statuses(key)
                if found and wanted(found[-1]):
                    return found[-1]
                await asyncio.sleep(0.02)


async def advertise(bench, name, *, state="ready", tombstone=False, **backlog):
    """Say that a dispatcher is there and how many seconds of work wait for which pool."""
    fields = {
        "role": "dispatcher", "name": name, "pool": "", "state": state, "partitions": [], "slots": 0,
        "prefetch": 0, "grants": {}, "backlog": backlog, "done": 0, "failed": 0, "service_seconds": 0.0,
        "kind": "", "version": "", "at_ms": int(time.time() * 1e3),
    }  # fmt: skip
    value = None if tombstone else encode("pool_status", fields)
    await bench.bus.publish([Outgoing(TOPICS.name("pools"), 0, f"d/{name}".encode(), value)])


def bundles_of(outcomes, kind):
    return {outcome["bundle_id"] for outcome in outcomes if outcome["kind"] == kind}


async def eventually(wanted, seconds=20):
    async with asyncio.timeout(seconds):
        while not wanted():
            await asyncio.sleep(0.01)
