"""What people see and decide on the command line and through a client: queue places, reviews, flags, pools."""

from datetime import UTC, datetime, timedelta

import pytest
from cli_kit import said, told
from embedded_kit import BELL, Broker, eventually

from shotbus import Client, JobFailedError, ShotbusError
from shotbus.broker.config_loader import load_config

CONFIG = """
[flags]
gentle = false
[pools.desert]
adapter = "noop"
kind = "none"
[routing]
down_seconds = 0.5
[[routing.rules]]
name = "careful"
when = { tags = ["careful"] }
then = { pools = ["noop"], require = ["approval"] }
[[routing.rules]]
name = "stranded"
when = { tags = ["stranded"] }
then = { pools = ["desert"], fallback = ["noop"] }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decisions")
    (folder / "data").mkdir()
    text = f'[broker]\nurl = "sqlite:///{folder / "data"}"\n{CONFIG}'
    for place in (folder, folder / "data"):
        (place / "shotbus.toml").write_text(text)
    with Broker(folder / "data", "noop"):
        yield folder


@pytest.fixture(scope="module")
def client(folder):
    with Client(
        config=load_config(folder / "shotbus.toml").config, url=f"sqlite:///{folder / 'data'}"
    ) as client:
        yield client


def submitted(client, **options):
    job = client.submit(BELL, shots=1, **{"backend": "noop"} | options)
    eventually(job.events)
    return job


@pytest.fixture
def paused(folder):
    said(folder, "pools", "pause", "noop", "--reason", "a test")
    yield
    said(folder, "pools", "resume", "noop", "--reason", "it is over")


def test_a_job_whose_deadline_comes_while_it_waits_takes_an_earlier_result(folder, client):
    submitted(client).result(timeout=20)
    submitted(client, fallback=["cache:3600"]).result(timeout=20)
    begin = datetime.now(UTC)
    times = {"not_before": begin + timedelta(seconds=1.5), "deadline": begin + timedelta(seconds=2.5)}
    job = submitted(client, fallback=["cache:3600"], **times)
    said(folder, "pools", "pause", "noop", "--reason", "a test")
    try:
        result = job.result(timeout=20)
    finally:
        said(folder, "pools", "resume", "noop", "--reason", "it is over")
    assert (result.answered_by, result.fallback_from) == ("cache", "noop")
    assert "its deadline has passed" in said(folder, "why", job.job_id)


def test_a_job_in_a_paused_pool_tells_its_place_and_why_it_waits_and_no_end(folder, client, paused):
    first, second = submitted(client), submitted(client)
    info = eventually(lambda: paused_info(second))
    assert info.pool == "noop"
    assert info.position in (1, 2), "each shard has a queue of its own"
    assert (info.eta_low, info.eta_mid, info.eta_high) == (None, None, None)
    assert first.queue_position() == 1
    text = said(folder, "status", first.job_id)
    assert "1st in noop's queue, end unknown" in text
    assert "1st in noop's queue, end unknown" in said(folder, "why", first.job_id)
    assert "waits because noop is paused" in text
    assert told(folder, "status", second.job_id)["queue"]["reason"] == info.reason
    for job in (first, second):
        job.cancel()


def paused_info(job):
    info = job.queue_info()
    return info if "paused" in info.reason else None


def test_a_job_that_waits_for_its_time_says_until_when_and_one_that_ended_has_no_place(folder, client):
    job = submitted(client, not_before=3_600.0)
    assert job.queue_position() is None
    assert "is not to begin before 20" in job.queue_info().reason
    job.cancel()
    with pytest.raises(JobFailedError):
        job.result(30)
    assert job.queue_info() is None
    assert told(folder, "status", job.job_id)["queue"] is None
    assert "SB-4001" in said(folder, "watch", "0" * 32, code=4)


def pending(folder, *words):
    return [one["job_id"] for one in told(folder, *words)]


def test_a_job_that_needs_approval_is_listed_and_goes_when_it_is_approved(folder, client):
    job = submitted(client, backend=None, tags=["careful"])
    eventually(lambda: job.job_id in pending(folder, "review", "list"))
    assert job.job_id in pending(folder, "list", "--pending-review")
    assert "a person has to approve it" in said(folder, "status", job.job_id)
    assert "\n      rule: rule careful, matched true\n" in said(folder, "why", job.job_id)
    text = said(folder, "review", "approve", job.job_id, "--reason", "looks sound")
    assert text.startswith(f"{job.job_id} is approved")
    assert job.result(30).outcome == "succeeded"
    (event,) = eventually(lambda: [one for one in job.events() if one["cause"] == "approve"])
    assert event["terms"]["reason"] == "looks sound"
    assert (
        told(folder, "review", "approve", job.job_id, "--reason", "r", code=4)["errors"][0]["code"]
        == "SB-4001"
    )


def test_a_job_that_is_rejected_says_by_whom_and_why(folder, client):
    job = submitted(client, backend=None, tags=["careful"])
    errors = told(folder, "review", "reject", job.job_id, code=2)["errors"]
    assert [error["path"] for error in errors] == ["$.reason"]
    with pytest.raises(ShotbusError, match="SB-4001"):
        client.reject(job.job_id, reason="r", tenant="mallory")
    client.reject(job.job_id, reason="too many shots")
    with pytest.raises(JobFailedError, match="too many shots"):
        job.result(30)
    end = eventually(lambda: [one for one in job.events() if one["state"] == "ERROR"])[0]
    assert end["terms"]["reason"] == "too many shots"
    assert end["terms"]["who"]


def test_a_flag_is_switched_on_every_shard_and_nonsense_is_refused(folder, client):
    partitions = client._client.session.topics.partitions
    found = told(folder, "flag", "gentle", "25", "--reason", "a try")
    assert found == {"flag": "gentle", "value": "25", "shards": partitions}
    assert "gentle is default on" in said(folder, "flag", "gentle", "default", "--reason", "enough")
    errors = told(folder, "flag", "gentle", "maybe", code=2)["errors"]
    assert {error["path"] for error in errors} == {"$.value", "$.reason"}
    with pytest.raises(ShotbusError, match="a configured flag"):
        client.set_flag("nobody", "on", reason="r")


def test_what_was_decided_about_a_pool_is_told_with_who_and_why(folder, client, paused):
    def decided():
        found = told(folder, "why", "--pool", "noop", "--since", "1h")["events"]
        causes = {event["cause"] for event in found}
        return found if {"pause", "pool: paused"} <= causes else None

    found = eventually(decided)
    (pause, *_) = [event for event in found if event["cause"] == "pause"]
    assert pause["terms"]["reason"] == "a test"
    assert pause["by"]
    assert [event["at_us"] for event in found] == sorted(event["at_us"] for event in found)
    assert "pool: paused" in said(folder, "why", "--pool", "noop")
    assert said(folder, "why", "--pool", "aer", "--since", "0s") == "nothing was decided about aer\n"
    assert said(folder, "why", code=2)


def in_the_desert(client):
    job = submitted(client, backend="", tags=["stranded"])
    if job.queue_info().pool == "desert":
        return job
    job.cancel()
    return None


def test_a_job_that_waits_where_nobody_works_goes_down_its_chain_once_that_helps(folder, client, paused):
    # A shard hears of the pause before it looks at its pools again.
    job = eventually(lambda: in_the_desert(client))
    reason = job.queue_info().reason
    assert reason.startswith("desert is empty: no worker serves it; its rule and chain are asked"), reason
    assert reason.endswith(": noop takes no work now")
    said(folder, "pools", "resume", "noop", "--reason", "it is free")
    result = job.result(timeout=20)
    assert (result.answered_by, result.fallback_from) == ("fallback", "desert")
    assert "desert is empty: no worker serves it; it has taken no work for" in said(folder, "why", job.job_id)
    assert "waiting jobs go elsewhere" in said(folder, "why", "--pool", "desert")
