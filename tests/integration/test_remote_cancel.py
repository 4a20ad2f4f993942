"""Cancelling what a provider has: it is asked, billed is what it says, and ``why`` tells which it was."""

import json
import subprocess
import sys
import uuid

import pytest
from embedded_kit import BELL, Broker, eventually, shotbus
from provider_kit import Provider
from remote_kit import ended, write_config
from worker_kit import angles, batch, item, request, rotations

from shotbus import Client

TEXT, NAMES = rotations(2)
#: Jobs of others who use the device, too.
STRANGERS = set()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def provider(server):
    yield server
    server.clear()


@pytest.fixture(scope="module")
def broker(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote") / "data"
    write_config(folder, server)
    # How long a run waits for its jobs: later they are looked up.
    path = folder / "shotbus.toml"
    path.write_text(path.read_text().replace("poll_seconds", "wait_seconds = 1.5\npoll_seconds"))
    with Broker(folder, "qpu") as running:
        yield running


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        assert ended(client.submit(BELL, shots=10, backend="qpu")) == ("succeeded", [])
        yield client


def busy(provider, seconds):
    """Have the device run somebody else's job for so long: what comes now waits at the provider."""
    other = item(request(TEXT, angles(NAMES, 1), shots=10), number=uuid.uuid4().int >> 8)
    STRANGERS.add(other.job_id)
    provider.plan("slow", other.token, seconds=seconds)
    provider.adapter(wait_seconds="0").run(batch([other], TEXT))
    eventually(lambda: at_provider(provider, other.token) == "running")


def at_provider(provider, token):
    return provider.ask("GET", f"/v1/jobs?token={token}")[1].get("job", {}).get("status")


def submitted(provider, client, wanted):
    """A job that is at the provider, in the state that is wanted there, and its token."""
    job = client.submit(BELL, shots=50, backend="qpu")
    token = f"{job.job_id}.0"
    eventually(lambda: at_provider(provider, token) == wanted)
    return job, token


def entries(provider, job):
    rows = [row for row in provider.ledger() if row["token"].startswith(job.job_id)]
    return [(row["kind"], row["token"]) for row in rows]


def causes(job):
    return [event["cause"] for event in job.why()["events"]]


def last_words(job):
    event = job.why()["events"][-1]
    return event["cause"], event["terms"].get("where", "")


def test_what_the_provider_has_begun_goes_on_to_its_end_and_is_billed_once(provider, client):
    provider.plan("slow", seconds=1.0)
    job, token = submitted(provider, client, "running")
    job.cancel()
    assert ended(job)[0] == "succeeded"
    assert entries(provider, job) == [("billed", token)]
    assert "revoke" in causes(job)


def test_what_waits_at_the_provider_is_cancelled_there_and_costs_nothing(provider, client):
    busy(provider, 1.0)
    job, token = submitted(provider, client, "queued")
    job.cancel()
    eventually(lambda: at_provider(provider, token) == "cancelled", seconds=2)
    assert ended(job) == ("cancelled", ["SB-4002"])
    assert last_words(job) == ("cancelled", "its provider has cancelled it as it was asked to")
    assert entries(provider, job) == [("billed", token), ("refunded", token)]


def test_what_waits_longer_than_its_worker_does_is_cancelled_by_whoever_asks_for_it(provider, client):
    busy(provider, 4.0)
    job, token = submitted(provider, client, "queued")
    eventually(lambda: "reconcile" in causes(job), seconds=30)
    job.cancel()
    assert ended(job) == ("cancelled", ["SB-4002"])
    assert last_words(job) == ("cancelled", "its provider has cancelled it as it was asked to")
    assert entries(provider, job) == [("billed", token), ("refunded", token)]


def test_all_invariants_hold_by_the_providers_own_ledger(server, client, broker):
    command = [sys.executable, "-m", "shotbus", "provider", "--dir", str(server.directory), "--ledger", "qpu"]
    exported = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    known = json.loads(exported)
    assert {one["billed"] for one in known["submissions"]} == {True, False}
    path = broker.directory / "ledger.json"
    ours = [one for one in known["submissions"] if one["job_id"] not in STRANGERS]
    path.write_text(json.dumps({**known, "submissions": ours}))
    words = ("verify", "--data", broker.directory, "--ledger", path, "--json")
    code, out, err = shotbus(*words, cwd=broker.directory)
    assert code == 0, out + err
