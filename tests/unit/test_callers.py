"""Who asked: named with each job's answer, once for all jobs of one caller; the caller's code is his own."""

import json
import sys
from pathlib import Path

import pytest
from worker_kit import BatchItem, request

from shotbus.producers.origin import caller_directory
from shotbus.workers.adapters.base import ItemResult
from shotbus.workers.callers import by_caller
from shotbus.workers.running import Ran


def ran(*principals, provenance=b'{"backend":"b"}'):
    raws = [
        request(principal=name, code_commit=f"{name}+", sdk_versions={"numpy": "2"}) for name in principals
    ]
    items = [BatchItem(f"{number:032x}", 1, 7, raw) for number, raw in enumerate(raws)]
    return Ran(items, [ItemResult(shots=number) for number in range(len(items))], provenance, "c")


def told(part):
    return json.loads(part.provenance)["caller"]


def test_the_jobs_of_one_caller_are_reported_together():
    whole = ran("ada", "ada", "ada")
    (part,) = by_caller(whole)
    assert (part.items, part.results, part.calibration_id) == (whole.items, whole.results, "c")
    assert told(part) == {"principal": "ada", "code_commit": "ada+", "sdk_versions": {"numpy": "2"}}
    assert json.loads(part.provenance)["backend"] == "b"


def test_each_caller_is_named_with_his_own_jobs():
    parts = by_caller(ran("ada", "bob", "ada"))
    assert [(told(part)["principal"], [one.shots for one in part.results]) for part in parts] == [
        ("ada", [0, 2]),
        ("bob", [1]),
    ]
    assert [[item.job_id[-1] for item in part.items] for part in parts] == [["0", "2"], ["1"]]


def test_a_request_that_cannot_be_read_tells_nobody_and_takes_nobody_with_it():
    whole = ran("ada")
    items = [*whole.items, BatchItem("f" * 32, 1, 7, b"no request")]
    good, bad = by_caller(whole._replace(items=items, results=[*whole.results, ItemResult()]))
    assert told(good)["principal"] == "ada"
    assert json.loads(bad.provenance) == {"backend": "b"}


def test_what_did_not_run_has_no_provenance_that_could_name_anybody():
    (part,) = by_caller(ran("ada", "bob", provenance=b""))
    assert part.provenance == b""


@pytest.mark.parametrize("program", [None, sys.executable, Path(sys.prefix) / "bin" / "jupyter"])
def test_the_code_of_an_installed_program_is_that_of_the_working_directory(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert caller_directory(program and str(program)) == tmp_path.resolve()


def test_the_code_of_a_script_is_where_the_script_stands(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert caller_directory(str(tmp_path / "script.py")) == tmp_path.resolve()
    assert caller_directory("../script.py") == tmp_path.resolve()
