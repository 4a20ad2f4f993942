"""Refusals that are asked for later, from another process, on both buses: status, result, why, watch."""

import dataclasses

import pytest
from both_buses import BUSES, place_on
from cli_kit import said, told
from embedded_kit import eventually

from shotbus import Client, RefusedError
from shotbus.broker.config import Config, PoolConfig
from shotbus.schemas.ids import job_id

WIDE = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[60] q;\nbit[60] c;\nh q;\nc = measure q;\n'
SMALL = WIDE.replace("60", "2")


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    yield from place_on(request, request.param, tmp_path_factory.mktemp("refused"), "noop")


@pytest.fixture(scope="module")
def client(place):
    """One that knows a pool which no dispatcher has, and of a pool that it is wider than it is."""
    pools = Config().pools | {"ghost": PoolConfig(), "aer": PoolConfig(max_qubits=100)}
    with Client(place.url, config=dataclasses.replace(place.config, pools=pools)) as client:
        yield client


def refused(client, circuit, **options):
    """The id of a submission that was refused."""
    job = client.submit(circuit, shots=5, **options)
    with pytest.raises(RefusedError):
        job.result(30)
    assert job.status() == "ERROR"
    return job.job_id


@pytest.fixture(scope="module", params=["door", "circuit"])
def refusal(request, client):
    """The id of a submission that was refused, and the code of its problem."""
    circuit, pool, code = (SMALL, "ghost", "SB-1102") if request.param == "door" else (WIDE, "aer", "SB-1116")
    job = client.submit(circuit, shots=5, backend=pool)
    with pytest.raises(RefusedError):
        job.result(30)
    assert job.status() == "ERROR"
    # Whoever has the id alone reads what the projector has written, which comes a little later.
    eventually(lambda: client.job(job.job_id).status() == "ERROR")
    return job.job_id, code


def test_its_status_says_why(place, refusal):
    refused, code = refusal
    found = told(place.directory, "status", refused)
    assert found["status"] == "ERROR"
    assert (found["sub_status"], found["outcome"]) == ("REFUSED", "")
    assert [one["code"] for one in found["problems"]] == [code]
    text = said(place.directory, "status", refused)
    assert text.startswith("ERROR REFUSED")
    assert f"problem: {code}" in text


def test_its_result_is_the_refusal(place, refusal):
    refused, code = refusal
    with Client(place.url, config=place.config) as other, pytest.raises(RefusedError) as caught:
        other.job(refused).result(30)
    assert [one.code for one in caught.value.problems] == [code]
    (error,) = told(place.directory, "result", refused, code=2)["errors"]
    assert error["code"] == code


def test_why_and_watch_tell_it(place, refusal):
    refused, code = refusal
    found = told(place.directory, "why", refused)
    assert (found["status"], found["sub_status"]) == ("ERROR", "REFUSED")
    assert [one["code"] for one in found["problems"]] == [code]
    assert found["events"][-1]["terms"]["problems"][0]["code"] == code
    assert f"problem: {code}" in said(place.directory, "why", refused)
    assert f"problem: {code}" in said(place.directory, "watch", refused)


def test_another_tenant_is_told_nothing(place, refusal):
    refused, _ = refusal
    for command in ("status", "result", "why", "watch"):
        (error,) = told(place.directory, command, refused, "--tenant", "eve", code=4)["errors"]
        assert error["code"] == "SB-4001"


def test_a_reused_key_is_in_the_trail_and_the_job_keeps_its_status(place, client):
    job = client.submit(SMALL, shots=5, backend="noop", not_before=3600.0, idempotency_key="twice")
    assert eventually(lambda: job.status() == "QUEUED")
    with pytest.raises(RefusedError):
        client.submit(SMALL, shots=6, backend="noop", idempotency_key="twice").result(30)
    found = eventually(lambda: told(place.directory, "why", job.job_id))
    assert (found["status"], found["problems"]) == ("QUEUED", [])
    assert [one["state"] for one in found["events"]][-1] == "SUBMISSION"
    assert found["events"][-1]["terms"]["problems"][0]["code"] == "SB-1106"
    job.cancel()


def test_whoever_waits_with_the_id_alone_is_told(place, client):
    """Such a handle cannot see whose submission a refusal answers: it asks whether there is a job."""
    with Client(place.url, config=place.config) as other:
        waiting = other.job(job_id("default", idempotency_key="awaited"))
        with pytest.raises(RefusedError):
            client.submit(SMALL, shots=5, backend="ghost", idempotency_key="awaited").result(30)
        assert eventually(waiting.done)
        with pytest.raises(RefusedError):
            waiting.result(30)
