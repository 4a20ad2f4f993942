"""Attempts before the last: kept with a job through its row, told with its result, whatever it was answered by."""

import json

from dispatcher_kit import request

from shotbus.broker.dispatcher.attempted import MOST, note_attempt, note_lost, with_history
from shotbus.broker.dispatcher.bundles import Bundle
from shotbus.broker.dispatcher.job import Job, Reference, Seat
from shotbus.broker.dispatcher.rows import decode_row, encode_row
from shotbus.broker.dispatcher.states import Cause
from shotbus.schemas.jsonbytes import flat_member, with_member

BUNDLE = Bundle("b", "qpu", "w1", 0, 0)


def job():
    made = Job(request(1), Reference("requests", 0, 1), "qpu")
    made.move(Cause.ACCEPT)
    return made


def report(made, provenance=b"", **item):
    told = {"job_id": made.job_id, "attempt": 1, "error_class": "TRANSIENT", "found": "", "cost": -1.0}
    told |= {"problems": [{"code": "SB-5001"}], "provider_job_id": ""} | item
    outcome = {"worker": "w1", "at_us": 9, "provenance": provenance, "calibration_id": "c1"}
    return outcome, told


def attempts(made, **answer):
    return json.loads(with_history(made, answer)["provenance"])["attempts"]


def test_a_failure_is_told_with_where_its_program_and_raw_answer_are():
    made = job()
    references = {"token": "t.0", "submission_sha256": "aa", "answer": "/v1/jobs/1/result", "cost": 3}
    provenance = {"host": "h", "provider": {"jobs": {made.job_id: references}}}
    provenance["circuits"] = {made.circuit_id: {"compiled_key": "kk", "depth": 3}}
    outcome, item = report(made, json.dumps(provenance).encode(), provider_job_id="p1", cost=0.5)
    note_attempt(made, BUNDLE, outcome, item)
    (one,) = attempts(made)
    head = {"attempt": 1, "pool": "qpu", "worker": "w1", "ended_us": 9, "error_class": "TRANSIENT"}
    more = {"code": "SB-5001", "provider_job_id": "p1", "cost": 0.5, "calibration_id": "c1", "host": "h"}
    assert one == head | more | {"compiled_key": "kk", "token": "t.0", "submission_sha256": "aa"} | {
        "answer": "/v1/jobs/1/result"
    }


def test_a_success_is_its_own_report_and_adds_nothing():
    made = job()
    outcome, item = report(made, error_class="", problems=[])
    note_attempt(made, BUNDLE, outcome, item)
    assert made.extras is None
    assert with_history(made, {"provenance": b"{}"}) == {"provenance": b"{}"}


def test_what_is_no_provenance_is_no_reason_to_stumble():
    made = job()
    for raw in (b"", b"nonsense", b"[1]", b'{"provider":[1],"circuits":2}'):
        note_attempt(made, BUNDLE, *report(made, raw))
    assert [one["error_class"] for one in attempts(made)] == ["TRANSIENT"] * 4


def test_they_outlive_a_restart_and_only_the_last_are_told():
    made = job()
    for number in range(MOST + 3):
        made.attempt = number
        note_lost(made, BUNDLE, "LOST")
    again, _ = decode_row(encode_row(made, Seat()))
    told = attempts(again, provenance=b'{"backend":"x"}')
    assert [one["attempt"] for one in told] == list(range(3, MOST + 3))
    assert json.loads(with_history(again, {"provenance": b'{"backend":"x"}'})["provenance"])["backend"] == "x"


def test_the_attempts_of_a_job_whose_answer_was_taken_are_not_taken_for_its_own():
    made = job()
    note_lost(made, BUNDLE, "LOST")
    other = b'{"backend":"x","attempts":[{"pool":"elsewhere"}]}'
    assert [one["pool"] for one in attempts(made, provenance=other)] == ["qpu"]


def test_a_result_says_whose_work_it_repeats():
    made = job()
    made.keep(rerun_of="f" * 32)
    assert with_history(made, {})["rerun_of"] == "f" * 32


def test_members_of_json_are_added_and_found_as_bytes():
    document = with_member(with_member(b"", "a", "1"), "versions", '{"x":"}"}')
    assert json.loads(document) == {"a": 1, "versions": {"x": "}"}}
    assert flat_member(b'{"sdk_versions":{"a":"1"},"versions":{"b":"2"},"c":{}}', "versions") == b'{"b":"2"}'
    assert flat_member(b'{"a":1}', "versions") == flat_member(b'{"versions":{"b"', "versions") == b""
