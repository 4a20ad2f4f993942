"""A change of mind about what waits, through a whole broker on either bus, from the command line and a client."""

import json

import pytest
from avro_values import PROGRAM
from both_buses import BUSES, place_on
from cli_kit import invoke, said, told
from embedded_kit import eventually

from shotbus import Client, ShotbusError

LATER = {"shots": 5, "backend": "noop", "not_before": 3_600.0}


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    yield from place_on(request, request.param, tmp_path_factory.mktemp("mind"), "noop")


@pytest.fixture(scope="module")
def client(place):
    with Client(place.url, config=place.config) as client:
        yield client


def submitted(client, **options):
    job = client.submit(PROGRAM, **LATER, **options)
    eventually(job.events)
    return job


def test_a_waiting_job_gets_another_class_and_its_trail_says_so(place, client):
    job = submitted(client)
    words = ["--class", "interactive", "--deadline", "7200", "--reason", "the meeting is earlier"]
    assert told(place.directory, "reprioritise", job.job_id, *words) == {
        "changed": 1,
        "refused": 0,
        "problems": [],
    }
    change = eventually(lambda: [one for one in job.events() if one["cause"] == "change"])[0]
    assert change["terms"]["before"]["class"] == "experiment"
    assert said(place.directory, "reprioritise", job.job_id, *words) == "1 job changed\n"


def test_a_job_that_was_put_off_runs_at_once_when_that_is_wished_for(place, client):
    job = submitted(client)
    assert said(place.directory, "reprioritise", job.job_id, "--not-before", "0", "--reason", "now") == (
        "1 job changed\n"
    )
    assert job.result(30).outcome == "succeeded"


def test_every_waiting_job_of_an_experiment_is_changed_and_no_other_s(place, client):
    mine = [submitted(client, experiment="h2") for _ in range(5)]
    other = submitted(client, experiment="h2", tenant="else")
    found = client.reprioritise(experiment="h2", priority="bulk", reason="not so urgent")
    assert (found.changed, found.refused) == (5, 0)
    for job in mine:
        assert eventually(lambda job=job: [one for one in job.events() if one["cause"] == "change"])
    assert [one for one in other.events() if one["cause"] == "change"] == []


def test_what_cannot_be_changed_is_told_with_the_reason(place, client):
    job = submitted(client)
    words = ["--pool", "classical", "--reason", "r"]
    found = failed(place.directory, "reprioritise", job.job_id, *words)
    assert (found["changed"], found["refused"]) == (0, 1)
    assert "classical" in found["problems"][0]["problem"]


def test_a_window_that_is_not_configured_is_refused_in_a_wish_and_in_a_submission(place, client):
    words = ["--window", "nosuch", "--reason", "r"]
    (error,) = told(place.directory, "reprioritise", submitted(client).job_id, *words, code=2)["errors"]
    assert (error["code"], error["path"], error["actual"]) == ("SB-1108", "$.window", "nosuch")
    with pytest.raises(ShotbusError) as refused:
        client.submit(PROGRAM, shots=5, backend="noop", window="nosuch", fallback=["nowhere"]).result(30)
    paths = [(one.code, one.path) for one in refused.value.problems]
    assert paths == [("SB-1108", "$.window"), ("SB-1102", "$.fallback[0]")]


def failed(folder, *words):
    code, out, err = invoke(folder, *words, "--json")
    assert code == 1, err
    return json.loads(out)


def test_what_has_ended_or_is_another_s_is_not_found(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop")
    job.result(30)
    with pytest.raises(ShotbusError, match="SB-4001"):
        client.reprioritise(job=job.job_id, priority="bulk", reason="r")
    words = ["--tenant", "mallory", "--class", "bulk", "--reason", "r"]
    waiting = submitted(client)
    (error,) = told(place.directory, "reprioritise", waiting.job_id, *words, code=4)["errors"]
    assert error["code"] == "SB-4001"
