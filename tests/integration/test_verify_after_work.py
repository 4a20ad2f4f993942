"""verify and state verify after real work on both buses, with all that they can be told; a projector that is behind."""

import json
import os
import signal
import time

import pytest
from both_buses import BUSES, place_on
from cli_kit import invoke, said, told
from embedded_kit import BELL, eventually

from shotbus.schemas.codec import decode, encode, identify

# Nothing here waits, or takes, that long.
LONG = "10m"


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SHOTBUS__POOLS__NOBODY__ADAPTER", "noop")
    try:
        for place in place_on(request, request.param, tmp_path_factory.mktemp("verify"), "noop"):
            place.work = work_through(place)
            yield place
    finally:
        patch.undo()


def work_through(place):
    """Jobs that succeed, one under a key that comes again, one cancelled, one that waits, and a dead letter."""
    folder = place.directory
    (folder / "bell.qasm").write_text(BELL)
    done = [submit(folder, "noop", "--seed", number) for number in range(4)]
    keyed = submit(folder, "noop", "--seed", 9, "--idempotency-key", "k")
    assert submit(folder, "noop", "--seed", 9, "--idempotency-key", "k") == keyed
    refused = invoke(
        folder, "submit", "bell.qasm", "--backend", "noop", "--seed", 8, "--idempotency-key", "k"
    )
    assert "SB-1106" in refused[2]
    for job in (*done, keyed):
        assert told(folder, "result", job)["outcome"] == "succeeded"
    cancelled, waiting = submit(folder, "nobody"), submit(folder, "nobody", "--seed", 1)
    assert told(folder, "cancel", cancelled)["cancelled"]
    place.publish(("requests.experiment", 0, b"k", b"not avro", ()))
    eventually(lambda: told(folder, "dlq", "list"))
    return {"done": [*done, keyed], "waiting": waiting}


def submit(folder, pool, *words):
    return told(folder, "submit", "bell.qasm", "--backend", pool, *words)["job_id"]


def test_every_promise_that_can_be_judged_is_judged_and_kept(place):
    eventually(lambda: told(place.directory, "verify")["judged"]["I1"])
    options = ("--longest-wait", LONG, "--healed", LONG, "--heal-within", LONG)
    answer = told(place.directory, "verify", *options)
    assert answer["violations"] == []
    assert (answer["complete"], answer["missing_topics"]) == (True, [])
    looked = {name for name, count in answer["judged"].items() if count}
    assert looked >= {"I1", "I2", "I4", "I5", "I8", "I10", "I12", "I13", "I16"}
    assert answer["judged"]["I2"] >= 2 * len(place.work["done"])


def test_where_nobody_looked_the_table_has_dashes_and_a_reason(place):
    lines = [line for line in said(place.directory, "verify").splitlines() if line.startswith("I")]
    counts = {line.split()[0]: line[line.index("  ", 10) :].split(maxsplit=2) for line in lines}
    assert counts["I6"] == ["-", "-", "no client's history"]
    assert counts["I8"] == ["-", "-", "no bound was given"]
    assert counts["I2"][1:] == ["0"]


def test_a_wait_and_a_life_that_last_too_long_are_found_while_they_last(place):
    time.sleep(1.1)  # so that the job has waited for longer than a second
    options = ("--longest-wait", "1s", "--healed", "0s", "--heal-within", "1s")
    found = told(place.directory, "verify", *options, code=1)["violations"]
    assert ("bounded-wait", place.work["waiting"]) in {(one["rule"], one["about"]) for one in found}
    options = ("--healed", LONG, "--heal-within", "0.5s")
    found = told(place.directory, "verify", *options, code=1)["violations"]
    assert ("healed-in-time", place.work["waiting"]) in {(one["rule"], one["about"]) for one in found}


def test_a_providers_books_are_held_against_the_topics(place, tmp_path):
    entries = [{"token": "t", "job_id": job, "attempt": 1, "at": 1.0} for job in place.work["done"]]
    books = tmp_path / "books.json"
    books.write_text(json.dumps({"pools": ["noop"], "submissions": entries}))
    answer = told(place.directory, "verify", "--ledger", books)
    assert answer["violations"] == []
    assert answer["judged"]["I3"] >= len(entries)
    assert "I3" not in answer["unjudged"]
    again = {**entries[0], "token": "u", "attempt": 2}
    books.write_text(json.dumps({"pools": ["noop"], "submissions": [*entries[:-1], again]}))
    found = told(place.directory, "verify", "--ledger", books, code=1)["violations"]
    assert {one["rule"] for one in found} == {"billed-once", "a-success-was-submitted"}


def test_the_projector_is_waited_for_and_then_nothing_differs(place):
    submit(place.directory, "noop", "--seed", 77)
    answer = told(place.directory, "state", "verify")
    assert (answer["differences"], answer["projector_behind"], answer["projectors"]) == ([], {}, 1)
    assert answer["documents"] >= 2 * len(place.work["done"])


def test_a_second_result_is_found(place):
    job = place.work["done"][0]
    mine = [one for one in place.records("results") if one.key == job.encode()]
    record = next(one for one in mine if identify(one.value).name == "circuit_result")
    forged = encode("circuit_result", decode(record.value)[1] | {"outcome": "failed"})
    place.publish(("results", record.partition, record.key, forged, record.headers))
    answer = told(place.directory, "verify", code=1)
    assert [one["rule"] for one in answer["violations"]] == ["one-terminal-result"]


def test_what_a_dead_projector_has_not_read_is_told_and_is_no_difference(place):
    # The last test of the module: nothing serves the read models any more.
    assert told(place.directory, "state", "verify")["projector_behind"] == {}
    os.kill(place.pids[min(1, len(place.pids) - 1)], signal.SIGKILL)
    record = next(one for one in place.records("events"))
    place.publish(("events", record.partition, record.key, record.value, record.headers))
    answer = told(place.directory, "state", "verify")
    (behind,) = answer["projector_behind"].items()
    assert behind[0].endswith(f"events[{record.partition}]")
    assert (answer["projectors"], answer["differences"]) == (0, [])
    assert "no projector runs; what follows from those was not compared" in said(
        place.directory, "state", "verify"
    )
