"""Changing what waits: what is wrong is said before anything is asked, and what the shards answer is added up.

What shards answer that hold parts of one experiment is given by a task that stands for them.
"""

import asyncio
import contextlib
import dataclasses
import uuid

import pytest
from both_buses import BUSES
from cli_kit import told

from shotbus import AsyncClient, ShotbusError
from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.config import BrokerConfig, Config
from shotbus.producers import steering
from shotbus.producers.result import JobTimeoutError
from shotbus.schemas.codec import decode_untrusted, encode
from shotbus.schemas.ids import job_id, partition_of
from shotbus.schemas.outcomes import UNDER_WAY

JOB = job_id("default", entropy=b"to be changed"[:12])


@pytest.fixture(params=BUSES)
def url(request, tmp_path):
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_address')}?store=memory"
    return f"sqlite:///{tmp_path / 'data'}"


@pytest.fixture
async def client(url, tmp_path):
    """A client without a broker."""
    (tmp_path / "data" / "bus").mkdir(parents=True)
    config = dataclasses.replace(
        Config(), broker=BrokerConfig(url=url, prefix=f"change-{uuid.uuid4().hex[:8]}.")
    )
    client = AsyncClient(url, config=config)
    session = client.session
    await session.bus.start()
    await session.bus.create_topics(session.topics.specs(config.pools))
    await session.inbox.start()
    yield client
    await client.close()


async def answer(client, partition, control, answers):
    """Answer a control record as ``answers`` says for its partition."""
    fields = {
        "job_id": control["name"],
        "correlation": control["correlation"],
        "status": "",
        "sub_status": "",
        "outcome": "",
        "finished_ms": 0,
        "at_us": 1,
        **answers.get(partition, {}),
    }
    key, value = control["name"].encode(), encode("located", fields)
    topic = client.session.topics.name("results")
    await client.session.bus.publish([Outgoing(topic, partition, key, value)])


@contextlib.asynccontextmanager
async def shards(client, answers):
    """Answer each control record as ``answers`` says for its partition; yields what was read."""
    session, read = client.session, []
    places = [TopicPartition(session.topics.name("control"), n) for n in range(session.topics.partitions)]
    reader = session.bus.reader(await session.bus.ends(places))

    async def serve():
        while True:
            for record in await reader.poll(max_records=100, timeout=1.0):
                control = decode_untrusted(record.value, "control")
                read.append((record.partition, control))
                await answer(client, record.partition, control, answers)

    task = asyncio.create_task(serve())
    try:
        yield read
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await reader.close()


async def test_one_job_is_asked_of_its_own_shard(client):
    shard = partition_of(JOB, client.session.topics.partitions)
    async with shards(client, {shard: {"changed": 1}}) as read:
        found = await client.reprioritise(
            job=JOB, priority="interactive", deadline=60, window="night", reason="the meeting is earlier"
        )
    assert (found.changed, found.refused, found.problems) == (1, 0, ())
    ((partition, control),) = read
    assert partition == shard
    assert (control["command"], control["target"], control["name"]) == ("reprioritise", "job", JOB)
    assert (control["tenant"], control["reason"]) == ("default", "the meeting is earlier")
    arguments = control["arguments"]
    assert (arguments["class"], arguments["window"]) == ("interactive", "night")
    assert arguments.keys() == {"class", "window", "deadline_ms"}
    assert arguments["deadline_ms"].isdigit()


async def test_many_jobs_are_asked_of_every_shard_and_the_answers_are_added_up(client):
    answers = {number: {} for number in range(client.session.topics.partitions)}
    answers[0] = {"changed": 3, "problems": ["2: a worker has it"]}
    answers[1] = {"changed": 2, "problems": ["1: a worker has it", "unknown argument colour"]}
    async with shards(client, answers) as read:
        found = await client.reprioritise(experiment="H2 – 0.7 Å", pool="noop", not_before=5, reason="r")
    assert (found.changed, found.refused) == (5, 3)
    assert found.problems == (("a worker has it", 3), ("unknown argument colour", 0))
    assert sorted(partition for partition, _ in read) == list(range(client.session.topics.partitions))
    assert {control["target"] for _, control in read} == {"experiment"}


async def test_nothing_live_that_is_meant_is_not_found(client):
    async with shards(client, {}):
        with pytest.raises(ShotbusError, match="SB-4001"):
            await client.reprioritise(job=JOB, priority="bulk", reason="r")
        with pytest.raises(ShotbusError, match="SB-4007"):
            await client.reprioritise(sweep="s", priority="bulk", reason="r")


async def test_without_an_answer_it_says_that_the_wish_is_durable(client, monkeypatch):
    monkeypatch.setattr(steering, "_ANSWER_SECONDS", 0.2)
    with pytest.raises(JobTimeoutError, match="durable"):
        await client.reprioritise(job=JOB, priority="bulk", reason="r")


async def test_a_shard_that_is_at_it_is_waited_for(client, monkeypatch):
    monkeypatch.setattr(steering, "_ANSWER_SECONDS", 1.0)
    shard = partition_of(JOB, client.session.topics.partitions)
    answers = {shard: {"status": UNDER_WAY}}
    async with shards(client, answers) as read:
        asked = asyncio.create_task(client.reprioritise(job=JOB, priority="bulk", reason="r"))
        while not read:
            await asyncio.sleep(0.01)
        for _ in range(2):
            await asyncio.sleep(0.7)
            await answer(client, *read[0], answers)
        await answer(client, *read[0], {shard: {"changed": 1}})
        assert (await asked).changed == 1


async def test_an_unknown_pool_is_told_with_the_rest(client):
    client.session._started = True
    with pytest.raises(ShotbusError) as caught:
        await client.reprioritise(job=JOB, priority="urgent", pool="nowhere", reason="r")
    assert {(one.code, one.path) for one in caught.value.problems} == {
        ("SB-1101", "$.priority"),
        ("SB-1102", "$.pool"),
    }


def test_the_command_says_everything_that_is_wrong_before_anything_starts(tmp_path):
    words = ["--class", "urgent", "--deadline", "-5", "--data", "none"]
    errors = told(tmp_path, "reprioritise", JOB, *words, code=2)["errors"]
    assert {error["path"] for error in errors} == {"$.priority", "$.deadline", "$.reason"}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--deadline", "1e300"), {("SB-1108", "$.deadline", "before year 10000")}),
        (("--not-before", "1e12"), {("SB-1108", "$.not_before", "before year 10000")}),
        (("--deadline", "5", "--not-before", "9"), {("SB-1104", "$.deadline", "after not_before")}),
        (("--deadline", "nan"), {("SB-1108", "$.deadline", "seconds from now or an aware datetime")}),
    ],
)
def test_times_are_checked_as_those_of_a_submission_before_anything_starts(tmp_path, words, wrong):
    errors = told(tmp_path, "reprioritise", JOB, *words, "--reason", "r", "--data", "none", code=2)["errors"]
    assert {(one["code"], one["path"], one["limit"]) for one in errors} == wrong
    assert not (tmp_path / "none").exists()
