"""Errors: stable codes, bounded text, and a table in the docs that is the table in the code."""

import json
import pathlib
import re

import pytest

from shotbus.schemas.errors import CODES, MAX_PROBLEMS, Problem, ShotbusError, fail

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def test_the_docs_list_every_code_with_its_title_and_nothing_else():
    rows = re.findall(
        r'^\| <a id="(sb-\d{4})"></a>(SB-\d{4}) \| (.+?) \| (.+?) \| (.+?) \|$',
        DOCS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert {code: title for _, code, title, _, _ in rows} == dict(CODES)
    assert all(anchor == code.lower() for anchor, code, *_ in rows)
    assert [code for _, code, *_ in rows] == list(CODES)


def test_every_row_of_the_docs_says_what_happened_and_what_to_do():
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith('| <a id="'):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 4
            assert all(len(cell) > 5 for cell in cells[1:])


def test_a_problem_points_to_its_row_of_the_docs():
    doc = Problem("SB-1103", "$.shots").as_json()["doc"]
    path, _, anchor = doc.partition("#")
    assert path == "docs/errors.md"
    assert f'<a id="{anchor}"></a>' in DOCS.read_text(encoding="utf-8")


def test_an_unregistered_code_cannot_be_raised():
    with pytest.raises(ValueError, match="SB-0000"):
        Problem("SB-0000")


def test_a_problem_says_code_place_title_actual_limit_and_hint_in_one_line():
    text = str(Problem("SB-1103", "$.shots", limit="1 or more", actual="0", hint="take some"))
    assert text == "SB-1103 $.shots: shots out of range; got 0; limit 1 or more; take some"


@pytest.mark.parametrize("name", ["path", "limit", "actual", "hint", "detail"])
def test_what_is_echoed_is_short_and_printable(name):
    problem = Problem("SB-1108", **{name: "\x1b[2J\n\r\0" + "x" * 10_000})
    text = getattr(problem, name)
    assert len(text) <= 201
    assert text.isprintable()


def test_a_problem_survives_its_record_form():
    problem = Problem("SB-1103", "$.shots", limit="a", actual="b", hint="c", detail="d")
    assert Problem.from_record(problem.as_record()) == problem


def test_a_code_of_a_newer_version_is_kept_in_the_detail():
    problem = Problem.from_record({"code": "SB-7777", "path": "$.x", "detail": "new"})
    assert (problem.code, problem.detail) == ("SB-9001", "SB-7777 new")


def test_the_json_form_is_json():
    assert json.loads(json.dumps(Problem("SB-1103").as_json()))["title"] == CODES["SB-1103"]


def test_an_error_carries_all_problems_up_to_a_bound():
    error = ShotbusError([Problem("SB-1303", f"$.bindings[{n}]") for n in range(100)])
    assert len(error.problems) == MAX_PROBLEMS
    assert str(error).count("\n") == MAX_PROBLEMS - 1


def test_fail_takes_values_of_any_kind():
    assert fail("SB-1103", "$.shots", limit=3, actual=None).problems[0].actual == "None"
