"""What a reducer process counts never falls, whatever shards come and go."""

from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.reducers.service import ReducerService


async def test_shards_counted_by_an_earlier_fold_of_a_shard_stay_counted():
    metrics = Metrics(role="test", version="0")
    service = ReducerService(
        bus=MemoryBus(MemoryCluster()), store=MemoryStore(), topics=Topics(), metrics=metrics
    )

    def counted():
        return metrics.registry.get_sample_value("shotbus_reducer_shards_counted_total")

    for shard, count, total in ((0, 3, 3), (1, 2, 5), (0, 4, 9), (0, 1, 10)):
        service._make_edge(shard).machine.stats["counted"] += count
        assert counted() == total
