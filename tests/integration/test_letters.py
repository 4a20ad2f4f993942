"""Redrive and purge on either bus, where no dispatcher takes what they publish."""

import dataclasses
import uuid

import pytest
from avro_values import request_fields
from both_buses import BUSES

from shotbus.broker.bus.base import Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.config import BrokerConfig, Config
from shotbus.broker.deadletters import dead_letter
from shotbus.producers.letters import LetterFilter, find_letters, letter_places, purge, redrive
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import job_id


@pytest.fixture(params=BUSES)
def url(request, tmp_path):
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_address')}?store=memory"
    return f"sqlite:///{tmp_path / 'data'}"


@pytest.fixture
async def session(url, tmp_path):
    prefix = f"letters-{uuid.uuid4().hex[:8]}."
    (tmp_path / "data" / "bus").mkdir(parents=True)
    config = dataclasses.replace(Config(), broker=BrokerConfig(url=url, prefix=prefix))
    session = Session(url, config)
    # Not the whole start: on SQLite that would start a broker as well.
    await session.bus.start()
    await session.bus.create_topics(session.topics.specs(("noop",)))
    yield session
    await session.bus.close()
    await session.store.close()


async def put(session, count, *, partition=0, start=0, code="SB-1001", **changes):
    """Write letters of requests; each was another record."""
    for number in range(start, start + count):
        name = job_id("tenant-", entropy=f"letter{number:06}".encode())
        value = encode("circuit_request", request_fields(job_id=name, **changes))
        source = Record(session.topics.requests("bulk"), partition, number, b"k", value, (), 0)
        letter = dead_letter(
            source,
            topic=session.topics.name("dead-letters"),
            partition=partition,
            group="g",
            error_class="INVALID",
            code=code,
            message="m",
        )
        await session.bus.publish([letter])


async def letters(session):
    return [letter async for batch in find_letters(session) for letter, _ in batch]


async def requests(session):
    topic = session.topics.requests("experiment")
    places = [TopicPartition(topic, number) for number in range(session.topics.partitions)]
    begins = await session.bus.begins(places)
    return [record async for batch in scan(session.bus, begins) for record in batch]


async def test_a_redriven_request_names_the_old_job_and_says_why_and_how_often(session):
    await put(session, 1, idempotency_key="k", sweep_id="s", shard_index=3)
    (told,) = [row async for rows in redrive(session, LetterFilter(), reason="mended") for row in rows]
    (record,) = await requests(session)
    headers, fields = dict(record.headers), decode(record.value)[1]
    assert (headers["redrive-count"], headers["redrive-reason"]) == (b"1", b"mended")
    assert headers["job-id"].decode() == fields["job_id"] == record.key.decode() == told.job_id
    (letter,) = await letters(session)
    assert (fields["rerun_of"], fields["idempotency_key"]) == (letter.job_id, "")
    assert (fields["sweep_id"], fields["shard_index"]) == ("", -1)


async def test_a_dry_run_publishes_nothing(session):
    await put(session, 3)
    told = [row async for rows in redrive(session, LetterFilter(), dry_run=True) for row in rows]
    assert [row.action for row in told] == ["would be redriven"] * 3
    assert await requests(session) == []


async def test_an_unknown_class_is_told_and_stops_nobody(session):
    await put(session, 1, priority="gone")
    await put(session, 1, start=1)
    told = [row async for rows in redrive(session, LetterFilter()) for row in rows]
    assert [row.action for row in told] == ["its class is not configured", "redriven"]
    assert len(await requests(session)) == 1


class KilledError(Exception):
    """What stands for the end of the process."""


async def test_a_purge_that_ended_between_its_two_steps_leaves_nothing_twice(session, monkeypatch):
    await put(session, 2, code="SB-1002")
    await put(session, 1, start=2)
    ends = await session.bus.ends(letter_places(session))

    async def killed(_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(session.bus, "trim", killed)
        with pytest.raises(KilledError):
            await purge(session, LetterFilter(code="SB-1001"), ends)
    assert [letter.code for letter in await letters(session)] == ["SB-1002", "SB-1002", "SB-1001"]
    ends = await session.bus.ends(letter_places(session))
    # By the name that the first of them still has: its copy goes with it.
    (first, *_) = await letters(session)
    assert await purge(session, LetterFilter(names={first.name}), ends) == 1
    assert sorted(letter.code for letter in await letters(session)) == ["SB-1001", "SB-1002"]


async def test_a_purge_deletes_nothing_that_came_after_the_look(session):
    await put(session, 1)
    ends = await session.bus.ends(letter_places(session))
    await put(session, 1, start=1)
    await put(session, 1, start=2, partition=1)
    assert await purge(session, LetterFilter(), ends) == 1
    assert len(await letters(session)) == 2
