"""Shards that share limits, with the records between them: what is not committed is lost, what is, arrives."""

from dispatcher_kit import START_MS, emitted

from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.machine import Now
from shotbus.schemas.codec import decode, encode


class Node:
    """One shard: jobs of keys that wait, jobs that are with workers, its ledger and its position."""

    def __init__(self, number, shards, limits):
        self.number, self.shards, self.limits = number, shards, limits
        self.rows, self.position = {}, 0
        self.waiting, self.with_workers, self.seen = {}, [], 0.0
        self.begin_again()

    def begin_again(self):
        """Taken by whoever: what is known is what the ledger has, and the jobs that workers have."""
        self.seen = 0.0
        self.shared = Concurrency(self.limits, self.number, self.shards)
        for key, row in self.rows.items():
            self.shared.places.restore(key, row)
        for tenant, pool in self.with_workers:
            self.shared.take(tenant, "", pool)

    @property
    def now(self):
        return Now(START_MS, self.seen)

    @property
    def lasting(self):
        """The rows that a limit leaves while nothing happens."""
        return {key: row for key, row in self.rows.items() if key != b"place/serials"}

    def wait(self, tenant, pool, jobs=1):
        self.waiting[tenant, pool] = self.waiting.get((tenant, pool), 0) + jobs

    def end(self, at=0):
        """A worker answers; the shard learns it in its next micro-batch, which may be now."""
        tenant, pool = self.with_workers.pop(at)
        self.shared.give(tenant, "", pool)

    def step(self, log, room, *, commit=True):
        """Read what came, forward what may go, close. Returns what is said, or nothing when it was lost."""
        before = list(self.with_workers), dict(self.waiting)
        for number, value in log[self.position :]:
            if number == self.number:
                self.shared.hear(decode(value, "place")[1], self.now)
        for tenant, pool in list(self.waiting):
            while room and self.waiting[tenant, pool] and self.may(tenant, pool):
                self.shared.take(tenant, "", pool)
                self.with_workers.append((tenant, pool))
                self.waiting[tenant, pool] -= 1
                room -= 1
        said = self.shared.close(self.now)
        if not commit:
            self.with_workers, self.waiting = before
            self.begin_again()
            return []
        self.position = len(log)
        for key in self.shared.places.touched():
            row = self.shared.places.snapshot(key)
            self.rows.pop(key, None) if row is None else self.rows.update({key: row})
        return [
            (one.partition, encode("place", fields)) for one in said for fields in emitted([one], "place")
        ]

    def may(self, tenant, pool):
        return not self.shared.tenant_is_full(tenant) and not self.shared.backend_is_full(pool)


class Shards:
    """All shards of a prefix, and one log for all records between them."""

    def __init__(self, count, limits):
        self.limits, self.log = limits, []
        self.nodes = [Node(number, count, limits) for number in range(count)]

    def step(self, number, room=9, *, commit=True):
        self.log += self.nodes[number].step(self.log, room, commit=commit)
        self.check()

    def running(self, tenant=None, pool=None):
        jobs = [job for node in self.nodes for job in node.with_workers]
        return sum(tenant in (None, one) and pool in (None, at) for one, at in jobs)

    def settle(self, rounds=12, room=9):
        for _ in range(rounds):
            for number in range(len(self.nodes)):
                self.step(number, room)

    def rest(self, seconds=120):
        """Nothing happens, for long."""
        for _ in range(int(seconds / 5)):
            for node in self.nodes:
                node.seen += 5.0
            self.settle(1)

    def check(self):
        """No limit is ever passed, and no place is lost or made."""
        for tenant in ("ada", "bob"):
            assert self.running(tenant=tenant) <= self.most(f"tenant:{tenant}")
        for pool in ("aer", "qpu"):
            assert self.running(pool=pool) <= self.most(f"backend:{pool}")
        for key in ("tenant:ada", "tenant:bob", "backend:aer", "backend:qpu"):
            if most := self.nodes[0].shared.most(key):
                assert self.places(key, most) == most, key

    def most(self, key):
        return self.nodes[0].shared.most(key) or 1_000_000

    def places(self, key, most):
        """Where all places of a limit are: with shards, in the book, on the way."""
        books = [node.shared.places._books.get(key) for node in self.nodes]
        told = [book for book in books if book]
        assert len(told) <= 1
        way = sum(
            fields["places"]
            for node in self.nodes
            for number, value in self.log[node.position :]
            if number == node.number
            for fields in [decode(value, "place")[1]]
            if fields["key"] == key and fields["serial"] > node.shared.places._heard.get(fields["shard"], 0)
        )
        here = told[0]._here() if told else most - len(self.nodes) * (most // len(self.nodes))
        return way + here + sum(node.shared.places.held(key, most) for node in self.nodes)
