"""A pool at a remote provider, through a real embedded broker: every fault ends as designed, billed once."""

import hashlib
import json
import subprocess
import sys

import pytest
from cli_kit import told as told_by_cli
from embedded_kit import BELL, Broker, eventually, shotbus
from provider_kit import Provider
from remote_kit import ended, write_config

from shotbus import Client

SECRET = "SHOTBUS_TEST_QPU_TOKEN"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Provider(tmp_path_factory.mktemp("provider"), "--max-shots", 1_000) as running:
        yield running


@pytest.fixture
def provider(server):
    yield server
    server.clear()


@pytest.fixture(scope="module")
def broker(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote") / "data"
    # By the environment: the worker's child gets this one variable, and nothing else that is a secret.
    write_config(folder, server, credentials=f"env:{SECRET}")
    secret = (server.directory / "credential").read_text()
    with Broker(folder, "qpu", environ={SECRET: secret}) as running:
        yield running


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        assert ended(client.submit(BELL, shots=10, backend="qpu")) == ("succeeded", [])
        yield client


def causes(job):
    return [event["cause"] for event in job.why()["events"]]


def test_a_job_is_answered_billed_and_says_where_it_was(provider, client):
    job = client.submit(BELL, shots=500, backend="qpu")
    result = job.result(60)
    assert result.executed_on == "fake_qpu"
    assert sum(result.counts().values()) == 500
    mine = result.provenance["provider"]["jobs"][job.job_id]
    assert mine["cost"] == pytest.approx(0.06)
    assert provider.billings()[job.job_id] == 1
    assert mine["provider_job_id"].startswith("qpu-")


def test_each_attempt_is_told_with_its_program_and_answer_and_its_calibration_can_be_had(provider, client):
    provider.plan("fail")
    job = client.submit(BELL, shots=50, backend="qpu")
    found = job.result(60).provenance
    (before,) = found["attempts"]
    mine = found["provider"]["jobs"][job.job_id]
    assert (before["attempt"], before["error_class"]) == (1, "TRANSIENT")
    assert before["provider_job_id"] != mine["provider_job_id"]
    assert before["submission"] == f"/v1/jobs/{before['provider_job_id']}/submission"
    for one in (before, mine):
        handed_in = provider.fetch(one["submission"])
        assert hashlib.sha256(handed_in).hexdigest() == one["submission_sha256"]
    kept = client.calibration(found["calibration_id"])
    assert (kept["backend"], job.calibration()) == ("fake_qpu", kept)
    assert provider.ask("GET", f"/v1/calibrations/{found['calibration_id']}")[1] == kept["snapshot"]


@pytest.mark.parametrize(
    ("fault", "times", "outcome", "bills"),
    [
        ("throttle", 1, "succeeded", 1),
        ("error", 1, "succeeded", 1),
        ("error_after", 1, "succeeded", 1),
        ("lost_answer", 1, "succeeded", 1),
        ("garbage", 1, "succeeded", 1),
        ("duplicate_id", 1, "succeeded", 1),
        ("hang", 1, "succeeded", 1),
        ("fail", 1, "succeeded", 1),
        ("cancel", 1, "succeeded", 1),
        ("cancel", 0, "dead_lettered", 0),
        ("slow", 1, "succeeded", 1),
        ("poll_error", 3, "succeeded", 1),
        # What the provider billed and spoiled is repeated once, as UNSTABLE is: under another token.
        ("recalibrate", 1, "succeeded", 2),
        ("recalibrate", 0, "failed", 2),
        ("result_lost", 1, "succeeded", 2),
        ("result_lost", 0, "failed", 2),
        ("wrong_shots", 1, "succeeded", 1),
        ("wrong_shots", 0, "failed", 2),
        ("negative", 1, "succeeded", 1),
        ("wide", 1, "succeeded", 1),
        ("not_hex", 1, "succeeded", 1),
        ("missing", 1, "succeeded", 1),
    ],
)
def test_a_fault_ends_as_designed_and_each_submission_is_billed_at_most_once(
    provider, client, fault, times, outcome, bills
):
    provider.plan(fault, times=times, seconds=2.0)
    job = client.submit(BELL, shots=50, backend="qpu")
    assert ended(job)[0] == outcome, causes(job)
    assert provider.bites()[fault] >= 1
    assert provider.billings()[job.job_id] == bills
    tokens = [row["token"] for row in provider.ledger() if row["kind"] == "billed"]
    assert len(tokens) == len(set(tokens))


def test_an_answer_that_was_lost_with_the_question_is_asked_for_and_not_handed_in_again(provider, client):
    provider.plan("lost_answer")
    provider.plan("poll_error", times=3)
    job = client.submit(BELL, shots=50, backend="qpu")
    assert ended(job) == ("succeeded", [])
    assert "reconcile" in causes(job)
    rows = [row for row in provider.ledger() if row["token"].startswith(job.job_id)]
    assert [(row["kind"], row["token"]) for row in rows] == [("billed", f"{job.job_id}.0")]


def test_a_cancelled_job_that_a_provider_may_have_is_said_to_be_cancelled_not_finished(
    provider, client, broker
):
    provider.plan("slow", seconds=4.0)
    job = client.submit(BELL, shots=50, backend="qpu")
    eventually(lambda: job.status() == "RUNNING")
    words = ("cancel", job.job_id, "--json", "--data", "data")
    code, out, err = shotbus(*words, cwd=broker.directory.parent)
    assert code == 5, out + err
    told = json.loads(out)
    assert (told["cancelled"], told["cancelling"], told["outcome"]) == (False, True, "")
    assert ended(job)[0] in ("succeeded", "cancelled")


def test_more_shots_than_the_device_takes_at_once_are_taken_in_increments_of_one_bill(provider, client):
    job = client.submit(BELL, shots=2_500, backend="qpu")
    assert sum(job.result(60).counts().values()) == 2_500
    assert provider.billings()[job.job_id] == 1


def test_a_device_off_line_holds_the_job_and_tells_why(provider, client, broker):
    provider.admin("POST", "offline", {"reason": "the fridge is warm"})
    folder = broker.directory.parent

    def row():
        rows = told_by_cli(folder, "pools", "list", "--data", "data")["pools"]
        return next(row for row in rows if row["pool"] == "qpu")

    eventually(lambda: "fridge" in row()["reason"], seconds=30)
    job = client.submit(BELL, shots=50, backend="qpu")
    provider.admin("POST", "offline", {"reason": ""})
    assert ended(job) == ("succeeded", [])
    assert provider.billings()[job.job_id] == 1


def test_all_invariants_hold_by_the_providers_own_ledger(server, client, broker):
    command = [sys.executable, "-m", "shotbus", "provider", "--dir", str(server.directory), "--ledger", "qpu"]
    exported = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    (broker.directory / "ledger.json").write_bytes(exported)
    submissions = json.loads(exported)["submissions"]
    assert {one["billed"] for one in submissions} == {True, False}
    assert all(one["attempt"] > 0 for one in submissions)
    words = ("verify", "--data", broker.directory, "--ledger", broker.directory / "ledger.json", "--json")
    code, out, err = shotbus(*words, cwd=broker.directory)
    assert code == 0, out + err


def test_nobody_finds_the_credential(server, broker):
    secret = (server.directory / "credential").read_text().encode()
    files = [path for path in broker.directory.rglob("*") if path.is_file()]
    assert [path.name for path in files if secret in path.read_bytes()] == []
