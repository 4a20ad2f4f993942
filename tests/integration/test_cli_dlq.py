"""Dead letters on the command line, on both buses: by cause, shown, redriven, purged; what is no letter is an error."""

import json
import time

import pytest
from avro_values import PROGRAM, request_fields
from both_buses import BUSES, place_on
from cli_kit import invoke, said, told
from embedded_kit import eventually

from shotbus.broker.deadletters import REDRIVE_REASON
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, job_id, partition_of

TENANT = "tenant-"


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    # With the Aer adapter under it, "aer" would cost a Kafka run its start; no circuit is run here.
    yield from place_on(request, request.param, tmp_path_factory.mktemp("dlq"), "noop")


@pytest.fixture
def folder(place):
    said(place.directory, "dlq", "purge")
    return place.directory


@pytest.fixture
def put(folder, place):
    """Puts values that cannot be handled on the bus and returns their letters; there are no others."""

    def put(*values, topic="requests.experiment"):
        before = len(told(folder, "dlq", "list", "--letters"))
        place.publish(*((topic, 0, b"k", value, ()) for value in values))
        return eventually(lambda: whole(told(folder, "dlq", "list", "--letters"), before + len(values)))

    return put


def whole(found, count):
    return found if len(found) == count else None


def damaged_request(number=0, **changes):
    """A request with a byte too many: it is refused as a record, and can be read all the same."""
    name = job_id(TENANT, entropy=f"redrive{number:05}".encode())
    fields = request_fields(job_id=name, circuit_id=circuit_id(PROGRAM), **changes)
    return name, encode("circuit_request", fields) + b"\0"


def test_letters_are_listed_by_cause(folder, put):
    put(b"not avro", b"nor this", damaged_request()[1], damaged_request(1)[1], damaged_request(2)[1])
    first, second = told(folder, "dlq", "list")
    assert (first["letters"], first["code"], first["class"]) == (3, "SB-1002", "INVALID")
    assert (first["pool"], first["tenants"]) == ("noop", {TENANT: 3})
    assert (second["letters"], second["code"], len(second["sample"])) == (2, "SB-1001", 2)
    assert first["fingerprint"] != second["fingerprint"]
    lines = said(folder, "dlq", "list").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [one["fingerprint"], str(one["letters"])] for one in (first, second)
    ]
    assert "record is not in canonical form" in lines[1]
    rows = told(folder, "dlq", "list", "--fingerprint", second["fingerprint"])
    assert [row["letter"] for row in rows] == second["sample"]


def test_a_letter_is_listed_and_shown_with_its_bytes(folder, put):
    (letter,) = put(b"not avro \x1b[31m")
    assert (letter["code"], letter["class"]) == ("SB-1001", "INVALID")
    assert letter["topic"].endswith(".requests.experiment")
    text = said(folder, "dlq", "list", "--letters")
    assert "requests.experiment" in text
    assert max(map(len, text.splitlines())) <= 100
    assert told(folder, "dlq", "list", "--code", "SB-1002") == []
    shown = told(folder, "dlq", "show", letter["letter"])
    assert bytes.fromhex(shown["value"]) == b"not avro \x1b[31m"
    assert (shown["decoded"], shown["key"]) == (None, "k")
    assert (shown["headers"]["error-code"], shown["fingerprint"]) == ("SB-1001", letter["fingerprint"])
    text = said(folder, "dlq", "show", letter["letter"])
    assert "6e 6f 74 20 61 76 72 6f" in text
    assert "not avro .[31m" in text


def test_a_long_letter_is_cut_for_the_eye_and_whole_in_json(folder, put):
    (letter,) = put(b"x" * 10_000)
    assert "… and 9488 more bytes" in said(folder, "dlq", "show", letter["letter"])
    assert len(told(folder, "dlq", "show", letter["letter"])["value"]) == 20_000


@pytest.mark.parametrize("name", ["9:9", "0:999999", "nonsense"])
@pytest.mark.parametrize(
    "command", [["show"], ["redrive"], ["redrive", "--dry-run"], ["purge"]], ids=" ".join
)
def test_a_letter_that_does_not_exist_exits_with_4(folder, command, name):
    (error,) = told(folder, "dlq", *command, name, code=4)["errors"]
    assert (error["code"], error["title"]) == ("SB-4008", "dead letter was not found")
    assert (error["actual"], "dlq list" in error["hint"]) == (name, True)


def test_one_missing_letter_keeps_the_others_from_being_redriven(folder, put):
    (letter,) = put(damaged_request()[1])
    before = told(folder, "list", "--tenant", TENANT)
    errors = told(folder, "dlq", "redrive", letter["letter"], "8:8", "9:9", code=4)["errors"]
    assert [error["actual"] for error in errors] == ["8:8", "9:9"]
    assert told(folder, "list", "--tenant", TENANT) == before


def test_what_is_no_request_cannot_be_redriven(folder, put):
    letter = put(b"not avro")[0]["letter"]
    code, out, _ = invoke(folder, "dlq", "redrive", letter, "--json")
    report = json.loads(out)
    assert (code, report["redriven"], report["jobs"][0]["action"]) == (1, 0, "not a request")
    assert told(folder, "dlq", "redrive", "--all")["actions"] == {"not a request": 1}


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ([], "LETTERS"),
        (["0:1", "--all"], "LETTERS"),
        (["0:1", "--code", "SB-1001"], "--code"),
        (["0:1", "--class", "POISON"], "--class"),
        (["0:1", "--until", "5m"], "--until"),
        (["--all", "--rate", "fast"], "--rate"),
        (["--all", "--rate", "0/s"], "--rate"),
        (["--all", "--reason", "x" * 257], "--reason"),
        (["--since", "yesterday"], "--since"),
        (["--until", "2026-01-01T00:00"], "--until"),
    ],
    ids=" ".join,
)
def test_who_is_meant_and_how_fast_must_be_clear(folder, words, path):
    (error,) = told(folder, "dlq", "redrive", *words, code=2)["errors"]
    assert (error["code"], error["path"]) == ("SB-2002", path)


def outcome(folder, job):
    """What became of a job that may still be on its way to its shard."""
    eventually(lambda: invoke(folder, "status", job, "--tenant", TENANT)[0] == 0)
    return told(folder, "result", job, "--tenant", TENANT, "--timeout", "60")["outcome"]


def test_a_redriven_request_is_a_new_job(folder, put):
    old, value = damaged_request()
    put(value)
    plan = told(folder, "dlq", "redrive", "--all", "--dry-run")
    (row,) = plan["sample"]
    assert (plan["letters"], row["action"], row["job_id"]) == (1, "would be redriven", old)
    assert told(folder, "dlq", "redrive", "--code", "SB-1001")["letters"] == 0
    done = told(folder, "dlq", "redrive", "--code", "SB-1002", "--reason", "reader repaired")
    (new,) = (row["job_id"] for row in done["jobs"])
    assert new != old
    assert outcome(folder, new) == "succeeded"


def test_redriven_twice_is_one_job_unless_another_is_asked_for(folder, put):
    put(damaged_request(7)[1])
    first = told(folder, "dlq", "redrive", "--all")["jobs"]
    assert outcome(folder, first[0]["job_id"]) == "succeeded"
    (letter,) = put(damaged_request(8)[1])[1:]
    done = told(folder, "dlq", "redrive", "--all")
    assert (done["letters"], done["redriven"]) == (2, 1)
    assert done["actions"] == {"redriven": 1, "redriven before": 1}
    second, fresh = done["jobs"]
    assert (second["job_id"], second["action"]) == (first[0]["job_id"], "redriven before")
    outcome(folder, fresh["job_id"])
    assert said(folder, "dlq", "redrive", letter["letter"]).endswith("\n1 redriven before\n")
    plan = told(folder, "dlq", "redrive", "--all", "--dry-run")
    assert (plan["redriven"], plan["actions"]) == (0, {"redriven before": 2})
    third, _ = told(folder, "dlq", "redrive", "--all", "--again")["jobs"]
    assert third["job_id"] != first[0]["job_id"]
    assert outcome(folder, third["job_id"]) == "succeeded"


def test_a_group_or_a_filter_is_redriven_at_a_rate(folder, put):
    put(b"not avro", *(damaged_request(number)[1] for number in range(20, 26)))
    (group, _) = told(folder, "dlq", "list")
    plan = told(folder, "dlq", "redrive", "--fingerprint", group["fingerprint"], "--dry-run")
    assert (plan["letters"], plan["redriven"], len(plan["sample"])) == (6, 6, 6)
    assert told(folder, "dlq", "redrive", "--tenant", "nobody", "--dry-run")["letters"] == 0
    assert told(folder, "dlq", "redrive", "--until", "1h", "--dry-run")["letters"] == 0
    begin = time.monotonic()
    done = told(folder, "dlq", "redrive", "--pool", "noop", "--since", "1h", "--rate", "10/s")
    assert time.monotonic() - begin >= 0.5
    assert (done["redriven"], done["actions"]) == (6, {"redriven": 6})
    assert {outcome(folder, row["job_id"]) for row in done["jobs"]} == {"succeeded"}


def test_a_deadline_that_has_passed_does_not_come_along(folder, put):
    put(damaged_request(30, deadline_ms=1_000)[1])
    (row,) = told(folder, "dlq", "redrive", "--all")["jobs"]
    assert row["action"] == "redriven without its deadline"
    assert outcome(folder, row["job_id"]) == "succeeded"


def test_a_redriven_job_that_dies_again_counts_its_redrives(folder, put, place):
    name = job_id(TENANT, entropy=b"dies again 1")
    fields = request_fields(job_id=name, tenant=TENANT, backend="noop")
    headers = (("redrive-count", b"1"), (REDRIVE_REASON, b"once"))
    value = encode("circuit_request", fields) + b"\0"
    place.publish(("requests.experiment", partition_of(name, place.partitions), b"k", value, headers))
    (letter,) = eventually(lambda: told(folder, "dlq", "list", "--letters"))
    assert (letter["redriven"], letter["reason"]) == ("1", "once")


def test_purge_deletes_what_it_counts_and_a_dry_run_nothing(folder, put):
    put(b"not avro")
    plan = told(folder, "dlq", "purge", "--dry-run")
    assert (plan["letters"], plan["dry_run"], len(plan["sample"])) == (1, True, 1)
    assert len(told(folder, "dlq", "list", "--letters")) == 1
    assert invoke(folder, "dlq", "purge", "--yes")[1] == "deleted 1 letter\n"
    assert told(folder, "dlq", "list") == []
    assert said(folder, "dlq", "list") == "no dead letters\n"


def test_purge_of_a_cause_keeps_the_others_with_their_bytes_and_times(folder, put):
    put(damaged_request(40)[1], b"not avro", damaged_request(41)[1])
    before = told(folder, "dlq", "list", "--letters", "--code", "SB-1002")
    (group,) = told(folder, "dlq", "list", "--code", "SB-1001")
    assert told(folder, "dlq", "purge", "--fingerprint", group["fingerprint"]) == {
        "letters": 1,
        "dry_run": False,
    }
    after = told(folder, "dlq", "list", "--letters")
    assert sorted(row["job_id"] for row in after) == sorted(row["job_id"] for row in before)
    assert sorted(row["time"] for row in after) == sorted(row["time"] for row in before)
    shown = told(folder, "dlq", "show", after[0]["letter"])
    assert bytes.fromhex(shown["value"]) in (damaged_request(40)[1], damaged_request(41)[1])
    assert told(folder, "dlq", "purge", after[0]["letter"])["letters"] == 1
    assert [row["job_id"] for row in told(folder, "dlq", "list", "--letters")] == [after[1]["job_id"]]
