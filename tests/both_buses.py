"""A whole broker as real processes on either bus, and the questions a suite asks of both alike."""

import asyncio
import dataclasses
import os
import pathlib
import uuid

import pytest
from embedded_kit import Broker

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.config import BrokerConfig, Config
from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.deploy.cluster import Cluster

BUSES = ["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.redis])]


class Place:
    """A broker that serves: ``url``, ``config`` to reach it, ``pid`` of each of its processes."""

    def __init__(self, url, directory, pids, *, prefix="shotbus."):
        self.url, self.directory, self.pids = url, directory, pids
        self.config = dataclasses.replace(Config(), broker=BrokerConfig(url=url, prefix=prefix))
        text = f'[broker]\nurl = "{url}"\nprefix = "{prefix}"\n'
        (directory / "shotbus.toml").write_text(text)

    @property
    def partitions(self):
        return topics_for(parse_url(self.url), self.config).partitions

    def on_bus(self, work):
        """Run ``await work(bus, topics)`` on a bus of its own."""

        async def run():
            address = parse_url(self.url)
            bus = open_bus(address, self.config, client_id="test")
            await bus.start()
            try:
                return await work(bus, topics_for(address, self.config))
            finally:
                await bus.close()

        return asyncio.run(run())

    def publish(self, *records):
        """Publish (logical topic, partition, key, value, headers) each."""

        async def work(bus, topics):
            outgoing = [
                Outgoing(topics.name(topic), partition, key, value, headers)
                for topic, partition, key, value, headers in records
            ]
            await bus.publish(outgoing)

        self.on_bus(work)

    def records(self, name):
        """Every record of a logical topic."""

        async def work(bus, topics):
            places = [TopicPartition(topics.name(name), number) for number in range(topics.partitions)]
            batches = scan(bus, await bus.begins(places))
            return [record async for batch in batches for record in batch]

        return self.on_bus(work)


def place_on(request, kind, directory, *pools):
    """Yield a :class:`Place` on a bus: ``sqlite`` (one process of all roles) or ``kafka`` (one process a role)."""
    if kind == "sqlite":
        with Broker(directory / "data", *pools) as broker:
            yield Place(broker.url, directory, [broker.process.pid])
        return
    prefix = f"both-{uuid.uuid4().hex[:8]}."
    url = f"kafka://{request.getfixturevalue('kafka_address')}?store={request.getfixturevalue('redis_url')}"
    environment = {"SHOTBUS__BROKER__PREFIX": prefix}
    with Cluster(url, pathlib.Path(directory) / "logs", dict(os.environ) | environment) as cluster:
        names = [cluster.start(name, name).name for name in ("dispatcher", "reducer")]
        names += [cluster.worker(f"{pool}-0", pool).name for pool in pools]
        cluster.wait(*names)
        pids = [cluster.roles[name].process.pid for name in names]
        yield Place(url, directory, pids, prefix=prefix)
