"""What the dispatcher publishes: every record fits its schema, and goes where its reader looks."""

import pytest
from dispatcher_kit import PROVENANCE, START_MS, item, job_id, outcome, request

from shotbus.broker.dispatcher.job import Job, Reference
from shotbus.broker.dispatcher.reports import EVENTS_A_RECORD, Reports
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.stages import Timings
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import keyed_partition

NOW = Now(START_MS + 5_000, 0.0)
PARTITIONS = 4


@pytest.fixture
def reports():
    return Reports(1, PARTITIONS)


def job(number=1, **changes):
    made = Job(request(number, **changes), Reference("requests", 1, 42), "aer")
    made.accepted_us, made.admit_us, made.queue_us, made.bytes_in = START_MS * 1_000, 2, 3_000_000, 300
    made.attempt, made.seed, made.traceparent = 2, 11, "00-trace"
    return made


def sent(emit):
    """The record as its reader finds it."""
    return decode(encode(emit.schema, emit.fields))[1]


def answer():
    fields, one = outcome("finished", "b"), item(job_id(1), 2)
    names = ("executed_on", "provenance")
    return {name: fields[name] for name in names} | {
        name: one[name] for name in ("payload", "shots", "timings")
    }


def test_a_result_carries_what_is_needed_to_run_it_again(reports):
    fields = sent(reports.result(job(), "succeeded", NOW, answer()))
    expected = {
        "job_id": job_id(1),
        "tenant": "ada",
        "outcome": "succeeded",
        "attempt": 2,
        "seed": 11,
        "shots": 100,
        "circuit_id": "c" * 64,
        "request_offset": 42,
        "executed_on": "aer_simulator",
        "payload": b"answer",
        "provenance": PROVENANCE,
        "finished_us": NOW.wall_ms * 1_000,
    }
    assert {name: fields[name] for name in expected} == expected


def test_a_result_without_an_answer_says_why(reports):
    fields = sent(reports.result(job(), "expired", NOW, {"problems": [Problem("SB-4003").as_record()]}))
    assert fields["problems"][0]["code"] == "SB-4003"
    assert (fields["payload"], fields["shots"], fields["executed_on"]) == (b"", 0, "")


def test_a_result_adds_the_dispatchers_stages_to_the_workers(reports):
    worker = Timings()
    worker.add("execute", 1.5)
    fields = sent(reports.result(job(), "succeeded", NOW, {**answer(), "timings": worker.pack()}))
    stages = Timings.unpack(fields["timings"]).as_dict()
    assert stages == pytest.approx({"execute": 1.5, "admit": 2e-6, "queue": 3.0})


def test_headers_let_a_reader_filter_before_it_decodes(reports):
    headers = dict(reports.result(job(sweep_id="s"), "succeeded", NOW, answer()).headers)
    assert headers["job-id"] == job_id(1).encode()
    assert headers["tenant"] == b"ada"
    assert headers["sweep-id"] == b"s"
    assert headers["traceparent"] == b"00-trace"


@pytest.mark.parametrize("sweep", ["", "s1", "s2"])
def test_answers_go_to_the_sweeps_partition_else_to_the_shards(reports, sweep):
    home = keyed_partition(sweep, PARTITIONS) if sweep else 1
    fields = request(1, sweep_id=sweep)
    assert reports.home(sweep) == home
    assert reports.result(job(sweep_id=sweep), "succeeded", NOW, answer()).partition == home
    assert reports.refusal(fields, [Problem("SB-1101")], NOW).partition == home


def test_a_refusal_says_what_is_wrong_and_when_to_come_back(reports):
    problems = [Problem("SB-1111", "$", limit="5", actual="5"), Problem("SB-1101")]
    fields = sent(reports.refusal(request(3), problems, NOW, retry_after_ms=5_000))
    assert [problem["code"] for problem in fields["problems"]] == ["SB-1111", "SB-1101"]
    assert (fields["job_id"], fields["retry_after_ms"]) == (job_id(3), 5_000)


@pytest.mark.parametrize(
    ("where", "status", "sub_status"),
    [
        ({"phase": Phase.RETRYING}, "QUEUED", "RETRYING"),
        ({"phase": Phase.RUNNING}, "RUNNING", "EXECUTING"),
        ({"outcome": "failed", "finished_ms": 7}, "FINISHED", ""),
        ({}, "UNKNOWN", ""),
    ],
)
def test_a_location_is_live_finished_or_unknown(reports, where, status, sub_status):
    emit = reports.located(job_id(1), NOW, correlation="c", **where)
    fields = sent(emit)
    assert (fields["status"], fields["sub_status"], fields["correlation"]) == (status, sub_status, "c")
    assert fields["outcome"] == where.get("outcome", "")
    assert emit.partition == 1


def note(reports, count, **changes):
    for number in range(count):
        one = job(number, **changes)
        one.phase = Phase.WAITING
        reports.note(one, Cause.ACCEPT)


def flushed(reports):
    numbers = iter(range(1, 1_000))
    return [sent(emit) for emit in reports.flush(NOW, lambda _: next(numbers))]


def test_a_micro_batch_has_one_event_record(reports):
    note(reports, 3)
    (batch,) = flushed(reports)
    assert (batch["shard"], batch["sequence"], len(batch["events"])) == (1, 1, 3)
    assert batch["events"][0]["state"] == "QUEUED"
    assert flushed(reports) == []


def test_many_events_are_split_so_that_each_record_fits_its_topic(reports):
    names = {"tenant": "\N{GRINNING FACE}" * 256, "sweep_id": "\N{GRINNING FACE}" * 256}
    note(reports, 2 * EVENTS_A_RECORD + 1, **names)
    sizes = [len(encode(emit.schema, emit.fields)) for emit in reports.flush(NOW, lambda _: 1)]
    (topic,) = [spec for spec in Topics().specs(["aer"]) if spec.name.endswith("events")]
    assert len(sizes) == 3
    assert max(sizes) < topic.max_record_bytes
