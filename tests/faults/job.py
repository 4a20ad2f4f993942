"""The H2 job under way: its results as they come, and what must be true of them at the end."""

import functools
import json
import os
import threading
import time
from collections import Counter

import numpy as np

from shotbus.broker.bus.base import TopicPartition
from shotbus.schemas.codec import decode, identify
from shotbus.schemas.ids import keyed_partition

SWEEPS = ("exact", "shots", "diagonalisation")
PATIENCE_SECONDS = 90.0


class Job:
    """The three sweeps of the plan, submitted together, all folded on one shard.

    ``tenant``: another one each time, where an earlier job's answers must not be served from the cache.
    """

    def __init__(self, client, plan, tenant="default"):
        self._client, self._session = client, client._client.session
        self._sizes = {sweep.name: len(sweep.jobs) for sweep in plan.sweeps}
        assert tuple(self._sizes) == SWEEPS
        self._came, self._news = Counter(), threading.Condition()
        self.shard = 0
        self.ids = {name: self._id_on(self.shard) for name in SWEEPS}
        for name, sweep_id in self.ids.items():
            self._session.inbox.listen_sweep(sweep_id, functools.partial(self._note, name))
        submit = client._client.submit_plans(plan.sweeps, sweep_ids=list(self.ids.values()), tenant=tenant)
        self._handles = dict(zip(SWEEPS, client._loop.run(submit), strict=True))

    def _id_on(self, shard):
        while keyed_partition(found := os.urandom(12).hex(), self._session.topics.partitions) != shard:
            pass
        return found

    def _note(self, name, record):
        if identify(record.value).name == "circuit_result":
            with self._news:
                self._came[name] += 1
                self._news.notify_all()

    def wait(self, name, count):
        """Return once ``count`` jobs of a sweep are done."""
        with self._news:
            arrived = self._news.wait_for(lambda: self._came[name] >= count, PATIENCE_SECONDS)
        assert arrived, f"{name}: {self._came[name]} of {count}"

    def came(self, name):
        return self._came[name]

    def under_way(self):
        """Return the sweeps that are not done: a kill that hits none of them shows nothing."""
        return [name for name in SWEEPS if self._came[name] < self._sizes[name]]

    def shown(self, names):
        """Wait until the store shows the end of these sweeps: whoever writes read models is at work."""
        until = time.monotonic() + PATIENCE_SECONDS
        waiting = [self.ids[name] for name in names]
        while waiting:
            assert time.monotonic() < until, f"not in the store: {waiting}"
            read = self._session.read_model(f"reduction:{waiting[0]}")
            document = self._client._loop.run(read)
            if document is not None and decode(document)[1]["final"]:
                del waiting[0]

    def reductions(self):
        """Wait for the final ones."""
        until = time.monotonic() + PATIENCE_SECONDS
        return {
            name: self._client._loop.run(handle.result(until - time.monotonic()))
            for name, handle in self._handles.items()
        }

    def ends_like(self, undisturbed):
        """The job ends, with the very same numbers and one terminal result a shard.

        Returns the attempts that the results took, by sweep.
        """
        check_same(self.reductions(), undisturbed)
        results = [one for one in terminal_results(self._client) if one["sweep_id"] in self.ids.values()]
        assert len(results) == len({one["job_id"] for one in results}) == sum(self._sizes.values())
        names = {sweep_id: name for name, sweep_id in self.ids.items()}
        attempts = {name: [] for name in SWEEPS}
        for one in results:
            attempts[names[one["sweep_id"]]].append(one["attempt"])
        return attempts


def check_same(reductions, undisturbed):
    for name, expected in undisturbed.items():
        found = reductions[name]
        assert found.final
        assert (found.failed, found.shots, found.points) == (0, expected.shots, expected.points)
        for array, numbers in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[array], numbers, err_msg=f"{name} {array}")


def check_told(text, undisturbed):
    """The output of ``run --json`` holds the same numbers, and nothing is mixed into it."""
    told = json.loads(text)
    for name, expected in undisturbed.items():
        for array, numbers in expected.arrays.items():
            np.testing.assert_array_equal(told[name]["arrays"][array], numbers, err_msg=f"{name} {array}")


def terminal_results(client):
    """Return every terminal result on the bus."""

    async def read():
        session = client._client.session
        places = [TopicPartition(session.topics.name("results"), n) for n in range(session.topics.partitions)]
        ends = await session.bus.ends(places)
        reader = session.bus.reader(await session.bus.begins(places))
        found = []
        while any(reader.position(place) < end for place, end in ends.items()):
            found += await reader.poll(max_records=1000, timeout=1.0)
        await reader.close()
        return [decode(r.value)[1] for r in found if identify(r.value).name == "circuit_result"]

    return client._loop.run(read())
