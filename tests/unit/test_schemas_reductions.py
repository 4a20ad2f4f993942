"""The catalogue of reductions: names, options and what they are made of, checked before anything is sent."""

import pytest

from shotbus.reducers import reductions
from shotbus.schemas.reductions import MODELS, REDUCTIONS, check_modes, check_reduction


def found(problems):
    return [(one.path, one.code) for one in problems]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_of_the_catalogue_is_sound_without_options(name):
    assert check_reduction(name, {}, 1) == []


def test_every_model_of_the_catalogue_exists():
    assert set(MODELS) == set(reductions._MODELS)


def test_an_unknown_reduction_names_the_nearest():
    (problem,) = check_reduction("minimun", {}, 1)
    assert (problem.path, problem.code, problem.hint) == ("$.reduce", "SB-1108", "did you mean 'minimum'?")


def test_everything_wrong_with_options_is_said_at_once():
    options = {"modle": "grid", "model": "cubic", "min_success": "9"}
    assert found(check_reduction("minimum", options, 3)) == [
        ("$.options.modle", "SB-2001"),
        ("$.options.model", "SB-1108"),
        ("$.options.min_success", "SB-1108"),
    ]


@pytest.mark.parametrize("value", [3, None, 1.5, b"3"])
def test_an_option_that_is_no_text_is_refused(value):
    assert found(check_reduction("collect", {"min_success": value}, 5)) == [
        ("$.options.min_success", "SB-1108")
    ]


@pytest.mark.parametrize("name", [None, 3, ["collect"]])
def test_a_name_that_is_no_text_is_refused(name):
    assert found(check_reduction(name, {}, 1)) == [("$.reduce", "SB-1108")]


@pytest.mark.parametrize(
    ("name", "mode", "fits"),
    [
        ("collect", "sample", True),
        ("collect", "estimate", True),
        ("histogram", "sample", True),
        ("histogram", "estimate", False),
        ("minimum", "estimate", True),
        ("minimum", "sample", False),
        ("expectation", "sample", False),
    ],
)
def test_a_reduction_is_made_of_one_kind_of_answer(name, mode, fits):
    assert found(check_modes(name, [mode])) == ([] if fits else [("$.reduce", "SB-1108")])


def test_one_problem_tells_of_all_jobs_of_the_wrong_kind():
    (problem,) = check_modes("minimum", ["estimate", "sample", "sample"])
    assert "2 of 3" in problem.detail
    assert "job 1" in problem.detail
