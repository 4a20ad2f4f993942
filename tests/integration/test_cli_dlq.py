"""Dead letters on the command line: listed, shown, redriven, purged, and what is no letter is an error."""

import pytest
from avro_values import PROGRAM, request_fields
from cli_kit import invoke, make_folder, said, told
from embedded_kit import Broker, eventually, on_bus

from shotbus.broker.bus.base import Outgoing
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, job_id


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    return make_folder(broker)


@pytest.fixture
def put(folder, broker):
    """Puts what cannot be handled on the bus and returns its letter, alone in the queue."""
    said(folder, "dlq", "purge")

    def put(value):
        async def publish(bus, topics):
            await bus.publish([Outgoing(topics.requests("experiment"), 0, b"k", value)])

        on_bus(broker.url, publish)
        (letter,) = eventually(lambda: told(folder, "dlq", "list"))
        return letter

    return put


def damaged_request():
    fields = request_fields(job_id=job_id("tenant-", entropy=b"to redrive12"), circuit_id=circuit_id(PROGRAM))
    return fields["job_id"], encode("circuit_request", fields) + b"\0"


def test_a_letter_is_listed_and_shown_with_its_bytes(folder, put):
    letter = put(b"not avro \x1b[31m")
    assert (letter["code"], letter["class"]) == ("SB-1001", "INVALID")
    assert (letter["topic"], letter["partition"]) == ("shotbus.requests.experiment", "0")
    text = said(folder, "dlq", "list")
    assert "requests.experiment" in text
    assert max(map(len, text.splitlines())) <= 100
    assert told(folder, "dlq", "list", "--code", "SB-1002") == []
    shown = told(folder, "dlq", "show", letter["letter"])
    assert bytes.fromhex(shown["value"]) == b"not avro \x1b[31m"
    assert (shown["decoded"], shown["key"]) == (None, "k")
    assert shown["headers"]["error-code"] == "SB-1001"
    text = said(folder, "dlq", "show", letter["letter"])
    assert "6e 6f 74 20 61 76 72 6f" in text
    assert "not avro .[31m" in text


def test_a_long_letter_is_cut_for_the_eye_and_whole_in_json(folder, put):
    letter = put(b"x" * 10_000)["letter"]
    assert "… and 9488 more bytes" in said(folder, "dlq", "show", letter)
    assert len(told(folder, "dlq", "show", letter)["value"]) == 20_000


@pytest.mark.parametrize("name", ["9:9", "0:999999", "nonsense"])
@pytest.mark.parametrize("command", [["show"], ["redrive"], ["redrive", "--dry-run"]], ids=" ".join)
def test_a_letter_that_does_not_exist_exits_with_4(folder, command, name):
    (error,) = told(folder, "dlq", *command, name, code=4)["errors"]
    assert (error["code"], error["title"]) == ("SB-4008", "dead letter was not found")
    assert (error["actual"], "dlq list" in error["hint"]) == (name, True)


def test_one_missing_letter_keeps_the_others_from_being_redriven(folder, put):
    _, value = damaged_request()
    letter = put(value)["letter"]
    before = told(folder, "list", "--tenant", "tenant-")
    errors = told(folder, "dlq", "redrive", letter, "8:8", "9:9", code=4)["errors"]
    assert [error["actual"] for error in errors] == ["8:8", "9:9"]
    assert told(folder, "list", "--tenant", "tenant-") == before


def test_what_is_no_request_cannot_be_redriven(folder, put):
    letter = put(b"not avro")["letter"]
    assert told(folder, "dlq", "redrive", letter, code=1)[0]["action"] == "not a request"
    assert told(folder, "dlq", "redrive", "--all")[0]["action"] == "not a request"


def test_letters_or_all_are_needed_and_a_code_goes_with_all(folder):
    assert told(folder, "dlq", "redrive", code=2)["errors"][0]["path"] == "LETTERS"
    assert told(folder, "dlq", "redrive", "0:1", "--all", code=2)["errors"][0]["path"] == "LETTERS"
    assert told(folder, "dlq", "redrive", "0:1", "--code", "SB-1001", code=2)["errors"][0]["path"] == "--code"


def test_a_redriven_request_is_a_new_job_that_names_the_old_one(folder, put):
    (folder / "program.qasm").write_text(PROGRAM)
    told(folder, "submit", "program.qasm", "--wait")
    old, value = damaged_request()
    put(value)
    (plan,) = told(folder, "dlq", "redrive", "--all", "--dry-run")
    assert (plan["action"], plan["job_id"]) == ("would redrive", old)
    assert told(folder, "dlq", "redrive", "--all", "--code", "SB-1001") == []
    (done,) = told(folder, "dlq", "redrive", "--all", "--code", "SB-1002")
    assert done["job_id"] != old
    assert told(folder, "result", done["job_id"], "--tenant", "tenant-")["outcome"] == "succeeded"


def test_purge_deletes_what_it_counts_and_a_dry_run_nothing(folder, put):
    put(b"not avro")
    assert told(folder, "dlq", "purge", "--dry-run") == {"letters": 1, "dry_run": True}
    assert len(told(folder, "dlq", "list")) == 1
    assert invoke(folder, "dlq", "purge", "--yes")[1] == "deleted 1 letter\n"
    assert told(folder, "dlq", "list") == []
    assert said(folder, "dlq", "list") == "no dead letters\n"
