"""A dispatcher that packs whatever only waits at once; several suites hold it to their promises."""

from shotbus.broker.dispatcher.machine import Dispatcher, Parts
from shotbus.broker.dispatcher.shard import Shard


class Packing(Shard):
    """Has room for no job that is an object."""

    most_hot = 0


class PackingDispatcher(Dispatcher):
    """A dispatcher of such shards."""

    parts = Parts(shard=Packing)
