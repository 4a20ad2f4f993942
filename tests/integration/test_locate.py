"""Questions to the shards: any number at once, each tenant sees its own jobs and nobody else's."""

import asyncio
import dataclasses

import pytest
from embedded_kit import BELL, Broker

from shotbus import AsyncClient, RefusedError, ShotbusError
from shotbus.broker.config import Config
from shotbus.producers.asking import Wish, ask
from shotbus.producers.job import AsyncJob

UNKNOWN = {"status": "UNKNOWN", "sub_status": "", "outcome": "", "finished_ms": 0}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop") as broker:
        yield broker


@pytest.fixture
async def client(broker):
    async with AsyncClient(broker.url) as client:
        yield client


async def finished(client, **options):
    job = await client.submit(BELL, backend="noop", **options)
    await job.result(30)
    return job.job_id


async def test_simultaneous_questions_on_one_handle_are_all_answered(client):
    job = client.job(await finished(client))
    places = await asyncio.gather(*(job.locate() for _ in range(8)))
    assert [place["outcome"] for place in places] == ["succeeded"] * 8


async def test_an_answer_to_somebody_else_changes_nothing_for_a_handle(client):
    job_id = await finished(client)
    asking, other = client.job(job_id), client.job(job_id)
    await asking.locate()
    assert not other.done()


async def test_another_tenant_learns_nothing_of_a_job(client):
    foreign = client.job(await finished(client, tenant="ada"), tenant="eve")
    assert await foreign.locate() == UNKNOWN | {"job_id": foreign.job_id}
    for question in (foreign.status, foreign.result, foreign.cancel_and_locate):
        with pytest.raises(ShotbusError) as caught:
            await question()
        assert caught.value.problems[0].code == "SB-4001"


async def test_a_job_that_its_shard_has_not_read_yet_is_not_lost_to_who_submitted_it(client):
    finished_id = await finished(client)
    on_its_way = finished_id[:-8] + "0badcafe"
    mine = AsyncJob(client.session, on_its_way, tenant="default", payload=b"as published")
    assert await mine.details() == UNKNOWN | {
        "job_id": on_its_way,
        "status": "INITIALIZING",
        "sub_status": "SUBMITTED",
    }


async def test_what_is_being_inspected_is_not_accepted_yet(broker):
    wide = BELL.replace("[2]", "[40]") + "// never seen before\n"
    # The client thinks more of the pool than the broker does.
    aer = dataclasses.replace(Config().pools["aer"], max_qubits=64)
    config = dataclasses.replace(Config(), pools={"aer": aer})
    async with AsyncClient(broker.url, config=config) as client:
        job = await client.submit(wide, backend="aer")
        with pytest.raises(RefusedError) as caught:
            await job.accepted(30)
    assert caught.value.problems[0].code == "SB-1116"


async def test_another_tenants_handle_does_not_hear_the_result(client):
    await ask(
        client.session, [Wish("pause", "pool", "noop"), Wish("locate", "pool", "noop")], (0, 1), timeout=10
    )
    job = await client.submit(BELL, backend="noop", tenant="ada")
    mine, foreign = client.job(job.job_id, tenant="ada"), client.job(job.job_id, tenant="eve")
    await client.control_pool("resume", "noop")
    await job.result(30)
    async with asyncio.timeout(10):
        await mine.result()
    assert mine.done()
    assert not foreign.done()


async def test_a_cancel_tells_where_the_job_was_and_what_became_of_it(client):
    await client.control_pool("pause", "noop")
    job = await client.submit(BELL, backend="noop")
    await job.accepted(10)
    before, after = await job.cancel_and_locate()
    assert (before["status"], after["outcome"]) == ("QUEUED", "cancelled")
    before, after = await job.cancel_and_locate()
    assert before["outcome"] == after["outcome"] == "cancelled"
    await client.control_pool("resume", "noop")
    before, after = await client.job(await finished(client)).cancel_and_locate()
    assert before["outcome"] == after["outcome"] == "succeeded"


async def test_a_shard_that_does_not_answer_is_a_timeout_and_leaves_no_listener(client):
    with pytest.raises(TimeoutError):
        await ask(client.session, [Wish("locate", "pool", "noop")], (0, 1), timeout=0)
    assert b"noop" not in client.session.inbox._listeners
