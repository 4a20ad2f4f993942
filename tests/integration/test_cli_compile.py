"""``shotbus compile``: circuits are compiled before any worker has seen them, and workers find them."""

import shutil
from pathlib import Path

import pytest
from cli_kit import BELL, ROTATED, invoke, said, told
from embedded_kit import Broker

from shotbus import Client

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bell.qasm").write_text(BELL)
    (tmp_path / "rotated.qasm").write_text(ROTATED)
    return tmp_path


def compiled(folder, *words, code=0):
    found = told(folder, "compile", *words, "--pool", "aer", code=code)
    return [(one["file"], one["compiled"]) for one in found]


def test_circuits_are_misses_once_and_hits_for_every_later_process_and_worker(folder):
    data = ("--data", "data")
    assert compiled(folder, "bell.qasm", "rotated.qasm", *data) == [
        ("bell.qasm", "anew"),
        ("rotated.qasm", "anew"),
    ]
    assert compiled(folder, "bell.qasm", *data) == [("bell.qasm", "disk")]
    page = said(folder, "compile", "bell.qasm", "--pool", "aer", *data)
    assert "hit" in page
    assert str(folder / "data" / "compiled") in page
    with Broker(folder / "data", "aer") as broker, Client(broker.url) as client:
        result = client.submit(ROTATED, {"a": 0.1, "b": 0.2}, shots=10).result(60)
    (facts,) = result.provenance["circuits"].values()
    assert facts["compiled"] == "disk"


def test_options_and_observables_are_those_of_the_jobs_to_come(folder):
    assert compiled(folder, "bell.qasm") == [("bell.qasm", "anew")]
    assert compiled(folder, "bell.qasm", "--option", "optimization_level=3") == [("bell.qasm", "anew")]
    assert compiled(folder, "bell.qasm", "--observable", "ZZ") == [("bell.qasm", "anew")]
    assert compiled(folder, "bell.qasm", "--observable", "XX") == [("bell.qasm", "disk")]


def test_request_files_and_run_files_name_their_circuits(folder):
    (folder / "request.toml").write_text('circuit = "bell.qasm"\nobservables = ["ZZ"]\n')
    for path in EXAMPLES.glob("h2_dissociation.*"):
        shutil.copy(path, folder)
    found = told(folder, "compile", "request.toml", "h2_dissociation.toml", "--pool", "aer")
    assert [(one["file"], one["mode"]) for one in found] == [
        ("request.toml", "estimate"),
        ("h2_dissociation.toml", "estimate"),
    ]


def test_what_cannot_be_compiled_is_told_beside_what_can(folder):
    (folder / "bad.qasm").write_text("OPENQASM 3.0;\nbroken")
    found = told(folder, "compile", "bad.qasm", "missing.qasm", "bell.qasm", "--pool", "aer", code=1)
    assert [one["compiled"] for one in found] == [None, None, "anew"]
    assert [one["problems"][0]["code"] for one in found[:2]] == ["SB-1208", "SB-2003"]
    _, page, _ = invoke(folder, "compile", "bad.qasm", "bell.qasm", "--pool", "aer")
    assert "bad.qasm: SB-1208" in page


@pytest.mark.parametrize(
    ("words", "config", "code", "place"),
    [
        (("--pool", "noop"), "", "SB-2002", "--pool"),
        (("--pool", "nowhere"), "", "SB-1102", "--pool"),
        (("--pool", "aer", "--option", "level"), "", "SB-2002", "--option"),
        (("--pool", "aer"), '[workers]\ncompile_cache = ""\n', "SB-2002", "$.workers.compile_cache"),
        (("--pool", "aer"), '[workers]\ncompile_cache = "bell.qasm"\n', "SB-2003", "$.workers.compile_cache"),
        (("--pool", "aer"), '[workers]\ncompile_cache = "open"\n', "SB-2003", "$.workers.compile_cache"),
    ],
)
def test_a_pool_or_a_cache_that_cannot_be_used_is_refused(folder, words, config, code, place):
    (folder / "shotbus.toml").write_text(config)
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    found = told(folder, "compile", "bell.qasm", *words, code=2)
    (problem,) = found["errors"]
    assert (problem["code"], problem["path"]) == (code, place)
