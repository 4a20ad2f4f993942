"""Run files: checked whole before anything is planned, and remembered until they are through."""

import json

import pytest
from edge_kit import codes, refusal

from shotbus.producers.plan import Plan
from shotbus.runfile import RunMemory, load_run, memory_of
from shotbus.schemas.errors import Problem

PLAN = (
    "from shotbus.producers.plan import Plan\ndef plan(parameters):\n    return Plan((), lambda *_: None)\n"
)
GOOD = '[run]\nname = "r"\nplan = "plan.py:plan"\n'


@pytest.fixture
def write(tmp_path):
    (tmp_path / "plan.py").write_text(PLAN)

    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


def test_a_run_file_names_plan_parameters_and_output(write):
    told = load_run(write(GOOD + '[parameters]\nx = 3\n[output]\npng = "p.png"\n'))
    assert (told.run.name, told.run.priority, told.output.png, told.parameters) == (
        "r",
        "experiment",
        "p.png",
        {"x": 3},
    )
    assert isinstance(told.plan(), Plan)


def test_the_fingerprint_follows_file_and_plan(write, tmp_path):
    first = load_run(write(GOOD)).fingerprint
    assert load_run(write(GOOD)).fingerprint == first
    second = load_run(write(GOOD + "# changed\n")).fingerprint
    (tmp_path / "plan.py").write_text(PLAN + "# changed\n")
    third = load_run(write(GOOD)).fingerprint
    assert len({first, second, third}) == 3


def test_every_mistake_is_said_at_once(write):
    text = 'parameters = 3\n[run]\nnam = "r"\nplan = "plan.py"\nbackend = 7\n[outptu]\n[output]\npng = 1\n'
    found = {(one.path, one.code) for one in refusal(load_run, write(text))}
    assert found == {
        ("$.outptu", "SB-2001"),
        ("$.run.nam", "SB-2001"),
        ("$.run.name", "SB-1107"),
        ("$.run.plan", "SB-2002"),
        ("$.run.backend", "SB-2002"),
        ("$.output.png", "SB-2002"),
        ("$.parameters", "SB-2002"),
    }


def test_parameters_that_the_plan_declares_are_checked_in_the_same_round(write, tmp_path):
    declared = "from shotbus.producers.parameters import integer\nPARAMETERS = {'points': integer(3, 1, 9)}\n"
    (tmp_path / "plan.py").write_text(declared + PLAN)
    text = '[run]\nnam = "r"\nplan = "plan.py:plan"\n[parameters]\npoints = 10\npiont = 1\n'
    found = {(one.path, one.code) for one in refusal(load_run, write(text))}
    assert found == {
        ("$.run.nam", "SB-2001"),
        ("$.run.name", "SB-1107"),
        ("$.parameters.points", "SB-2002"),
        ("$.parameters.piont", "SB-2001"),
    }


def test_what_the_caller_finds_in_the_section_is_said_in_the_same_round(write):
    def also(run):
        return [Problem("SB-1101", "$.run.priority", actual=run.priority)]

    path = write('[run]\nname = "r"\nplan = "plan.py:plan"\npriority = "fast"\n[outptu]\n')
    assert codes(lambda: load_run(path, also)) == ["SB-2001", "SB-1101"]


def test_a_plan_file_that_cannot_be_imported_is_told_with_its_place(write, tmp_path):
    (tmp_path / "plan.py").write_text("1 / 0\n")
    (problem,) = refusal(load_run, write(GOOD))
    assert problem.code == "SB-2003"
    assert "ZeroDivisionError" in problem.detail
    assert "plan.py:1" in problem.detail
    assert "repair the plan" in problem.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["SB-1107", "SB-2002"]),
        ('[run]\nname = "r"\n', ["SB-2002"]),
        ('[run]\nname = "r"\nplan = "none.py:plan"\n', ["SB-2002"]),
        ('[run]\nname = "r"\nplan = "plan.py"\n', ["SB-2002"]),
        ("run = 3\n", ["SB-2002"]),
        ("[run", ["SB-2003"]),
    ],
)
def test_a_file_that_cannot_be_run_is_refused(write, text, expected):
    assert codes(load_run, write(text)) == expected


def test_a_missing_file_is_refused(tmp_path):
    (problem,) = refusal(load_run, tmp_path / "none.toml")
    assert problem.code == "SB-2003"
    assert "check the path" in problem.hint


def test_a_missing_function_is_refused(write):
    told = load_run(write(GOOD.replace(":plan", ":plant")))
    assert codes(told.plan) == ["SB-2002"]


def test_an_unfinished_run_is_remembered_until_it_is_forgotten(tmp_path):
    memory = RunMemory(tmp_path / "runs", "key")
    assert memory.recall() == {}
    memory.remember({"s": "id"})
    assert RunMemory(tmp_path / "runs", "key").recall() == {"s": "id"}
    assert RunMemory(tmp_path / "runs", "other").recall() == {}
    memory.forget()
    memory.forget()
    assert memory.recall() == {}


def remembered(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.json")}


def test_a_run_is_remembered_beside_the_brokers_data_whatever_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    memory_of("f" * 32, "sqlite:///data", "p.").remember({"s": "id"})
    assert {name.rpartition("/")[0] for name in remembered(tmp_path)} == {"data/runs"}
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert memory_of("f" * 32, f"sqlite:///{tmp_path}/data", "p.").recall() == {"s": "id"}
    assert memory_of("e" * 32, f"sqlite:///{tmp_path}/data", "p.").recall() == {}
    assert memory_of("f" * 32, f"sqlite:///{tmp_path}/data", "q.").recall() == {}


@pytest.mark.parametrize(
    ("told", "place"),
    [("state", "state/shotbus/runs"), ("", ".local/state/shotbus/runs"), (None, ".local/state/shotbus/runs")],
)
def test_a_run_on_a_remote_broker_is_remembered_with_the_users_state(tmp_path, monkeypatch, told, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / told) if told else "relative")
    if told is None:
        monkeypatch.delenv("XDG_STATE_HOME")
    url = "kafka://host:9092?store=redis://host"
    memory_of("f" * 32, url, "p.").remember({"s": "id"})
    assert {name.rpartition("/")[0] for name in remembered(tmp_path)} == {place}
    assert memory_of("f" * 32, url.replace("host:", "other:"), "p.").recall() == {}


def test_a_memory_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    (problem,) = refusal(RunMemory(tmp_path / "runs", "key").remember, {"s": "id"})
    assert problem.code == "SB-2003"
    assert "XDG_STATE_HOME" in problem.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1, 2]", b'"text"', json.dumps({"s": 3}).encode()])
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    (tmp_path / "key.json").write_bytes(content)
    assert RunMemory(tmp_path, "key").recall() == {}
