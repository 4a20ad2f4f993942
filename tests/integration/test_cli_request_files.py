"""``shotbus submit`` of request files and with the options of ``policy explain``, on an embedded broker."""

import json

import pytest
from cli_kit import make_folder, said, told
from embedded_kit import BELL, Broker, eventually

REQUEST = """
circuit = "rotated.qasm"
backend = "classical"
observables = ["ZZ"]
family = "rotations@2"
tags = ["filed"]
bindings = { a = [0.5], b = [0.0] }
[problem]
kind = "hamiltonian"
terms = { ZZ = 1.0, XI = 0.5 }
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("requests") / "data", "noop", "classical") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    folder = make_folder(broker)
    (folder / "request.toml").write_text(REQUEST)
    return folder


def test_a_stated_problem_is_solved(folder):
    answer = told(folder, "submit", "request.toml", "--wait")
    assert (answer["outcome"], answer["executed_on"]) == ("succeeded", "classical")
    assert answer["evs"][0][0] == pytest.approx(-1.118033988749895)


def test_options_go_over_the_file_and_the_rest_of_it_counts(folder):
    answer = told(folder, "submit", "request.toml", "--backend", "noop", "--bind", "b=1", "--wait")
    assert answer["executed_on"] == "noop"
    assert answer["points"] == 1


def test_the_same_file_is_explained(folder):
    assert told(folder, "policy", "explain", "request.toml")["decision"]["pool"] == "classical"


def test_what_is_wrong_with_a_file_is_exit_code_2_before_anything_is_submitted(folder):
    (folder / "wrong.json").write_text(json.dumps({"program": BELL, "satisfied": ["approval"]}))
    text = said(folder, "submit", "wrong.json", code=2)
    assert text.startswith("SB-2002 $.satisfied")


def test_session_role_and_age_are_told_with_a_submission(folder):
    words = ("--session", "s1", "--role", "lab", "--role", "night", "--max-result-age", "60")
    asked = (folder, "submit", "bell.qasm", "--shots", "3", "--backend", "noop", *words, "--wait")
    first = told(*asked)
    assert first["answered_by"] == "run"
    again = eventually(lambda: cached(told(*asked)))
    assert again["age"] > 0
    assert "answered by: cache (" in said(*asked)


def cached(answer):
    return answer if answer["answered_by"] == "cache" else None


def test_an_age_that_is_no_number_is_refused(folder):
    asked = (folder, "submit", "bell.qasm", "--backend", "noop", "--max-result-age")
    for age in ("nan", "-1", "inf"):
        assert "SB-1108 $.max_result_age" in said(*asked, age, code=2)
