"""What the command line reads: every mistake of a file or of options in one round, with its place."""

import click
import numpy as np
import pytest
from cli_kit import invoke

from shotbus.cli.common import FiniteRange, plain
from shotbus.cli.inputs import parse_bindings, parse_options, read_points, read_text
from shotbus.cli.main import cli
from shotbus.schemas.errors import ShotbusError


def found(problems):
    return {(one.code, one.path) for one in problems}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content):
        (tmp_path / "points.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path.joinpath("points.csv").relative_to(tmp_path)

    return write


def test_bindings_are_lists_of_numbers_by_name():
    assert parse_bindings(["a=1", "b = 0.5,-2e3"]) == ({"a": [1.0], "b": [0.5, -2000.0]}, [])
    assert parse_bindings([]) == ({}, [])


def test_every_wrong_binding_is_told_at_once_and_its_name_counts_as_bound():
    bindings, problems = parse_bindings(["a=1", "a=2", "b=x", "c", "d=1,,2", "a=3"])
    assert found(problems) == {
        ("SB-1306", "--bind a"),
        ("SB-1304", "--bind b"),
        ("SB-1304", "--bind c"),
        ("SB-1304", "--bind d"),
    }
    assert [one.actual for one in problems if one.code == "SB-1306"] == ["a=2", "a=3"]
    assert list(bindings) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text", ["a, b\n1,2\n3,4\n", "\ufeffa,b\r\n1,2\r\n\r\n3,4\r\n", '"a","b"\n1,2\n3, 4']
)
def test_points_are_columns_by_name(write, text):
    columns, problems = read_points(write(text))
    assert problems == []
    assert {name: list(column) for name, column in columns.items()} == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {("SB-1304", "points.csv")}),
        ("a,b\n", {("SB-1304", "points.csv")}),
        ("a,b,a,a\n1,2,3,4\n", {("SB-1306", "points.csv:1:3"), ("SB-1306", "points.csv:1:4")}),
        ("a,\n1,2\n", {("SB-1304", "points.csv:1:2")}),
        ("a,b\n1\n1,2,3\n", {("SB-1304", "points.csv:2"), ("SB-1304", "points.csv:3")}),
        ("a,b\n1,x\n\n,nan\n", {("SB-1303", f"points.csv:{place}") for place in ("2:2", "4:1", "4:2")}),
        (
            "a, a\n1,1e999\n1\n",
            {("SB-1306", "points.csv:1:2"), ("SB-1303", "points.csv:2:2"), ("SB-1304", "points.csv:3")},
        ),
    ],
)
def test_every_mistake_of_a_file_of_points_is_told_with_line_and_column(write, text, expected):
    columns, problems = read_points(write(text))
    assert found(problems) == expected
    assert all(column == 0.0 for column in columns.values())


def test_a_file_of_nothing_but_mistakes_is_told_in_a_few(write):
    _, problems = read_points(write("a\n" + "x\n" * 100_000))
    assert len(problems) == 20


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_says_why_and_what_to_do(write, tmp_path, content):
    path = write(content) if content else tmp_path / "missing"
    with pytest.raises(ShotbusError) as caught:
        read_text(path)
    (problem,) = caught.value.problems
    assert problem.code == "SB-2003"
    assert problem.detail in ("not text in UTF-8", "No such file or directory")
    assert problem.hint in ("save it as UTF-8", "check the path")


def test_what_json_has_no_word_for_is_printed_in_other_words():
    data = {"a": np.array([1.0, np.nan]), 2: (b"\x01", float("inf"), None, True), "c": np.int64(3)}
    assert plain(data) == {"a": [1.0, None], "2": ["01", None, None, True], "c": 3}


def test_options_are_pairs_and_every_wrong_one_is_told():
    assert parse_options(["a=1", "b=x=y"]) == ({"a": "1", "b": "x=y"}, [])
    _, problems = parse_options(["a=1", "a=2", "plain", "=x"])
    assert {one.code for one in problems} == {"SB-2002"}
    assert [one.actual for one in problems] == ["a=2", "plain", "=x"]


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "soon"])
@pytest.mark.parametrize(
    "words",
    [
        ("state", "verify", "--timeout"),
        ("pools", "drain", "noop", "--timeout"),
        ("watch", "x", "--timeout"),
        ("result", "x", "--timeout"),
        ("run", "x.toml", "--timeout"),
        ("simulate", "--faults"),
        ("bench", "--seconds"),
    ],
    ids=" ".join,
)
def test_a_time_or_rate_that_is_no_finite_number_is_refused_before_anything_starts(tmp_path, words, number):
    code, _, err = invoke(tmp_path, *words, number)
    assert (code, words[-1] in err) == (2, True)


def test_no_option_takes_a_range_that_lets_nan_through():
    assert [name for name, type_ in every_option() if type(type_) is click.FloatRange] == []
    assert [name for name, type_ in every_option() if isinstance(type_, FiniteRange)]


def every_option(command=cli, path=()):
    context = click.Context(command)
    for option in command.params:
        yield " ".join((*path, option.name)), option.type
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from every_option(command.get_command(context, name), (*path, name))
