"""``shotbus why`` and ``job.why()`` on both buses: the trail of jobs that wait, run and have ended."""

import pytest
from avro_values import PROGRAM
from both_buses import BUSES, place_on
from cli_kit import said, told
from embedded_kit import eventually

from shotbus import Client
from shotbus.cli.steps import term_lines
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import partition_of


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    yield from place_on(request, request.param, tmp_path_factory.mktemp("why"), "noop")


@pytest.fixture(scope="module")
def client(place):
    with Client(place.url, config=place.config) as client:
        yield client


def test_a_finished_job_has_a_trail_from_any_process(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", experiment="trail")
    job.result(30)
    told_ = eventually(lambda: ended(told(place.directory, "why", job.job_id)))
    assert [event["state"] for event in told_["events"]][-1] == "DONE"
    assert told_["events"][0]["cause"] in ("validate", "accept")
    assert [event["at_us"] for event in told_["events"]] == sorted(
        event["at_us"] for event in told_["events"]
    )
    text = said(place.directory, "why", job.job_id)
    assert text.startswith(f"{job.job_id}  DONE succeeded\n")
    assert len(text.splitlines()) >= len(told_["events"]) + 1


def ended(told_):
    return (
        told_ if told_["outcome"] and told_["events"][-1]["state"] in ("DONE", "ERROR", "CANCELLED") else None
    )


def test_a_job_is_run_again_by_its_request_on_either_bus(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", seed=3)
    job.result(30)
    found = told(place.directory, "replay", job.job_id, "--timeout", "30")
    assert (found["verdict"], found["rerun_of"], found["differences"]) == ("identical", job.job_id, [])
    (made,) = eventually(lambda: told(place.directory, "why", found["job_id"])["results"])
    assert made["attempts"] == []
    assert told(place.directory, "calibration", "0" * 64, code=4)["errors"][0]["code"] == "SB-4013"


def test_a_job_that_waits_says_so_and_its_handle_says_the_same(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", not_before=3600.0)
    found = job.why()
    assert (found["status"], found["sub_status"], found["outcome"]) == ("QUEUED", "SCHEDULED", "")
    assert found["events"] == job.events()
    assert found["events"][-1]["sub_status"] == "SCHEDULED"
    assert "QUEUED" in said(place.directory, "why", job.job_id)
    job.cancel()
    found = eventually(lambda: ended(job.why()))
    assert (found["outcome"], found["events"][-1]["state"]) == ("cancelled", "CANCELLED")


def test_who_paused_a_pool_is_found_with_the_filters_of_audit(place, client):
    said(place.directory, "pools", "pause", "noop", "--reason", "to look at it")
    said(place.directory, "pools", "resume", "noop")
    entries = ["--target", "noop", "--since", "1h"]
    found = told(place.directory, "audit", *entries)
    assert {one["action"] for one in found["entries"]} == {"pause", "resume"}
    assert (found["checked"], found["broken"]) == (2 * place.partitions, [])
    (who,) = {one["principal"] for one in found["entries"]}
    pauses = told(place.directory, "audit", *entries, "--action", "pause", "--principal", who)["entries"]
    assert [(one["reason"], one["before"], one["after"]) for one in pauses] == [
        ("to look at it", False, True)
    ] * place.partitions
    text = said(place.directory, "audit", "--action", "pause")
    assert f"pause  noop  by {who}  {place.partitions} shards\n    reason: to look at it\n" in text


def test_a_pool_that_nobody_knows_is_refused_with_those_that_are_known(place):
    (error,) = told(place.directory, "why", "--pool", "nosuch", code=2)["errors"]
    assert (error["code"], error["path"], error["actual"]) == ("SB-1102", "--pool", "nosuch")
    assert "noop" in error["limit"].split(", ")


def test_a_job_that_failed_names_its_problems(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", not_before=3600.0)
    job.cancel()
    found = eventually(lambda: problems_of(told(place.directory, "why", job.job_id)))
    assert found[0]["code"] == "SB-4002"
    assert "job was cancelled" in said(place.directory, "why", job.job_id)


def problems_of(told_):
    return told_["problems"]


def test_a_job_that_nobody_knows_or_anothers_is_not_found(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", not_before=3600.0)
    assert job.why()["events"]
    (error,) = told(place.directory, "why", job.job_id, "--tenant", "mallory", code=4)["errors"]
    assert error["code"] == "SB-4001"
    assert told(place.directory, "why", "0" * 32, code=4)["errors"][0]["code"] == "SB-4001"
    assert told(place.directory, "why", "nonsense", code=4)["errors"][0]["code"] == "SB-4001"


def test_terms_of_a_decision_are_shown_whatever_they_are(place, client):
    job = client.submit(PROGRAM, shots=5, backend="noop", not_before=3600.0)
    eventually(job.events)
    details = ['{"eta_ms": 12, "pools": ["a", "b"], "why": "\\u001b[31m"}', "no JSON", "[1]", ""]
    event = {
        "job_id": job.job_id,
        "state": "QUEUED",
        "sub_status": "",
        "cause": "route",
        "attempt": 2,
        "pool": "noop",
        "tenant": "default",
        "sweep_id": "",
        "traceparent": "",
        "stage": "",
    }
    events = [event | {"detail": detail, "at_us": number} for number, detail in enumerate(details, 1)]
    batch = {"shard": 0, "sequence": 1, "at_us": 5, "events": [*events, event | {"tenant": "other"}]}
    shard = partition_of(job.job_id, place.partitions)
    noise = [None, b"", b"noise " + job.job_id.encode()]
    for value in [encode("event_batch", batch), *noise]:
        place.publish(("events", shard, None, value, ()))
    found = [event["terms"] for event in job.events() if event["cause"] == "route"]
    assert found == [
        {"eta_ms": 12, "pools": ["a", "b"], "why": "\x1b[31m"},
        {"detail": "no JSON"},
        {"detail": [1]},
        {},
    ]
    text = said(place.directory, "why", job.job_id)
    assert '    pools: ["a", "b"]' in text
    assert "\x1b" not in text
    assert "attempt 2  on noop" in text


def test_a_routing_trail_is_printed_whole_a_line_a_step():
    long = "; ".join(f"reason {number}" for number in range(60))
    trail = [
        {"step": "rule", "rule": "careful", "matched": False, "why": "flag new is off"},
        {"step": "candidate", "pool": "qpu", "eta_seconds": [0.1, 0.2, 0.3], "rejected": ["too deep", long]},
        {"step": "candidate", "pool": "aer\x1b", "eta_seconds": None, "rejected": []},
        {"step": "decided", "rule": "careful", "pool": "aer"},
    ]
    assert list(term_lines({"trail": trail, "redriven": 1})) == [
        "    trail:",
        "      rule: rule careful, matched false, why flag new is off",
        f"      candidate: pool qpu, eta_seconds [0.1, 0.2, 0.3], rejected too deep; {long}",
        "      candidate: pool aer\N{REPLACEMENT CHARACTER}, eta_seconds null, rejected nothing",
        "      decided: rule careful, pool aer",
        "    redriven: 1",
    ]
