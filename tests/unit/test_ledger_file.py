"""A provider's books from a file: what is read, and each way in which it cannot be."""

import json

import pytest

from shotbus.broker.invariants.witnesses import Submission
from shotbus.cli.ledgerfile import read_ledger
from shotbus.schemas.errors import ShotbusError

ENTRY = {"token": "t", "job_id": "j", "attempt": 1, "at": 2}


def written(tmp_path, document):
    path = tmp_path / "books.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def problems(tmp_path, document):
    with pytest.raises(ShotbusError) as told:
        read_ledger(written(tmp_path, document))
    return {(one.code, one.path) for one in told.value.problems}


def test_books_are_read_with_what_may_be_left_out(tmp_path):
    entries = [ENTRY, ENTRY | {"billed": False, "cost": 1.5, "pool": "p", "tenant": "ada"}]
    ledger = read_ledger(written(tmp_path, {"pools": ["p"], "submissions": entries}))
    assert ledger.pools == ("p",)
    assert ledger.submissions == [
        Submission("t", "j", 1, 2),
        Submission("t", "j", 1, 2, "ada", 1.5, billed=False, pool="p"),
    ]


@pytest.mark.parametrize("document", [[], {}, {"pools": "p", "submissions": []}, {"pools": []}, 7])
def test_another_document_is_refused_and_the_form_is_told(tmp_path, document):
    assert problems(tmp_path, document) == {("SB-2002", "--ledger")}


def test_every_wrong_entry_is_told_by_its_place(tmp_path):
    entries = [ENTRY, "t", {"token": "t", "job_id": "j", "at": 1}, ENTRY | {"attempt": True, "price": 1.0}]
    assert problems(tmp_path, {"pools": [], "submissions": entries}) == {
        ("SB-2002", "--ledger: $.submissions[1]"),
        ("SB-2002", "--ledger: $.submissions[2].attempt"),
        ("SB-2002", "--ledger: $.submissions[3].attempt"),
        ("SB-2001", "--ledger: $.submissions[3].price"),
    }


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path):
    path = tmp_path / "books.json"
    assert problems(tmp_path, "no json") == {("SB-2003", str(path))}
    path.unlink()
    with pytest.raises(ShotbusError, match="SB-2003"):
        read_ledger(path)
