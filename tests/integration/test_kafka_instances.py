"""Members of Kafka groups under a name of their own: back at once after a kill, one living process a name."""

import asyncio
import os
import sys
import uuid

import kafka_member
import pytest
from cli_kit import said
from kafka_member import Member

from shotbus.broker.bus.base import BusError, TopicPartition
from shotbus.deploy.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("sockets_closed")]

# Far below a session: what takes no longer cannot have waited for one to time out.
AT_ONCE = kafka_member.SESSION_MS / 1000 / 4

ROLES = [["dispatcher"], ["reducer"], ["worker", "--pool", "noop"]]


@pytest.fixture
def place(kafka_address):
    return kafka_address, f"i{uuid.uuid4().hex[:12]}."


async def killed(place, name):
    """Let a process of its own join under ``name``, and kill it; returns what it held."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, kafka_member.__file__, *place, name, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    process.kill()
    await process.communicate()
    return [int(word) for word in line.split()]


async def until(condition):
    async with asyncio.timeout(AT_ONCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_killed_member_is_back_with_its_partitions_long_before_its_session_times_out(place):
    async with Member(*place, "other") as other:
        held = await killed(place, "a")
        await until(lambda: len(other.holds) == 2)
        async with asyncio.timeout(AT_ONCE), Member(*place, "a") as again:
            assert again.holds == held
            assert sorted([*again.holds, *other.holds]) == list(range(kafka_member.PARTITIONS))
            shard = TopicPartition(f"{place[1]}shards", held[0])
            await again.membership.commit({shard: 7})
            assert await again.membership.committed([shard]) == {shard: 7}


async def test_nobody_else_is_disturbed_when_a_killed_member_comes_back(place):
    async with Member(*place, "other") as other:
        await killed(place, "a")
        await until(lambda: len(other.holds) == 2)
        told = len(other.assigned), len(other.revoked)
        async with asyncio.timeout(AT_ONCE), Member(*place, "a") as again:
            await again.membership.committed([TopicPartition(f"{place[1]}shards", 0)])
            # Several heartbeats long, by which a rebalance would have been heard of.
            await asyncio.sleep(2)
            assert (len(other.assigned), len(other.revoked)) == told


async def test_of_two_living_processes_under_a_name_the_later_one_stays_and_the_other_is_told(place):
    shard = TopicPartition(f"{place[1]}shards", 0)
    async with asyncio.timeout(60), Member(*place, "a") as first:
        assert first.holds == [0, 1, 2, 3]
        async with Member(*place, "a") as second:
            await until(lambda: first.lost)
            assert first.revoked == [[0, 1, 2, 3]]
            assert first.lost[0].problems[0].code == "SB-2006"
            assert first.holds == []
            with pytest.raises(BusError, match="SB-2006"):
                await first.membership.commit({shard: 1})
            await first.membership.leave()
            await second.membership.commit({shard: 2})
            assert (second.lost, second.revoked) == ([], [])
            assert second.holds == [0, 1, 2, 3]


async def test_a_commit_under_a_lost_name_is_refused_before_a_heartbeat_has_told(place):
    shard = TopicPartition(f"{place[1]}shards", 0)
    async with asyncio.timeout(60), Member(*place, "a") as first, Member(*place, "a") as second:
        with pytest.raises(BusError):
            await first.membership.commit({shard: 1})
        await second.membership.commit({shard: 2})
        assert await second.membership.committed([shard]) == {shard: 2}


async def test_a_named_member_that_leaves_hands_over_at_once(place):
    async with asyncio.timeout(60), Member(*place, "stays") as stays:
        async with Member(*place, "leaves"):
            await until(lambda: len(stays.holds) == 2)
        await until(lambda: stays.holds == [0, 1, 2, 3])


@pytest.mark.parametrize("role", ROLES, ids=lambda words: words[0])
def test_a_role_process_whose_name_is_taken_ends_and_says_so(place, role, tmp_path):
    address, prefix = place
    environment = dict(os.environ) | {"SHOTBUS__BROKER__PREFIX": prefix}
    with Cluster(f"kafka://{address}?store=memory", tmp_path, environment) as cluster:
        first = cluster.start("first", *role, "--instance", "one")
        cluster.wait("first")
        second = cluster.start("second", *role, "--instance", "one")
        cluster.wait("second")
        assert first.process.wait(30) == 3
        assert "SB-2006" in first.log.read_text()
        assert second.process.poll() is None
        assert second.stop() == 0


@pytest.mark.parametrize("role", ROLES, ids=lambda words: words[0])
def test_a_name_that_kafka_would_refuse_is_refused_before_anything_starts(role, tmp_path):
    told = said(tmp_path, *role, "--instance", "a/b", code=2)
    assert "SB-2002 --instance" in told
    assert list(tmp_path.iterdir()) == []
