"""Quality gates as callers say them: values to options, and what is wrong with them before anything is published."""

import pytest
from edge_kit import refusal
from embedded_kit import BELL

from shotbus.broker.config import Config
from shotbus.producers.options import wishes_of
from shotbus.producers.quality import quality_options
from shotbus.producers.request import Wishes, build_request, check_envelope, question_of
from shotbus.runfile import load_run


@pytest.mark.parametrize(
    ("quality", "options"),
    [
        (None, {}),
        ({}, {}),
        ({"max_stderr": 0.01}, {"quality.max_stderr": "0.01"}),
        ({"max_stderr": "0.01", "share": 1}, {"quality.max_stderr": "0.01", "quality.share": "1.0"}),
        ({"range": (-1.2, 2)}, {"quality.range": "-1.2..2.0"}),
        ({"range": [None, 0]}, {"quality.range": "..0.0"}),
        ({"outcomes": ["00", "11"]}, {"quality.outcomes": "00,11"}),
        ({"parity": ("even", 0.9)}, {"quality.parity": "even:0.9"}),
    ],
)
def test_values_become_options(quality, options):
    assert quality_options(quality, {}) == (options, [])


@pytest.mark.parametrize(
    "quality",
    [
        {"max_stderr": None},
        {"range": 3},
        {"range": (0, "1", 2)},
        {"outcomes": [0, 11]},
        {"parity": 0.9},
        {"share": True},
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_name(quality):
    (problem,) = quality_options(quality, {})[1]
    assert (problem.code, problem.path) == ("SB-1108", f"$.quality.{next(iter(quality))}")


def test_what_is_no_mapping_and_what_is_said_twice_is_told():
    assert quality_options("high", {})[1][0].path == "$.quality"
    assert quality_options({"share": 1}, {"quality.share": "1"})[1][0].path == "$.quality.share"


def test_a_gate_joins_the_other_options_of_a_job():
    wishes, problems = wishes_of({"options": {"method": "automatic"}, "quality": {"max_stderr": 0.5}})
    assert problems == []
    assert wishes.options == {"method": "automatic", "quality.max_stderr": "0.5"}


def test_a_gate_that_does_not_fit_the_circuit_is_refused_by_the_client():
    wishes, _ = wishes_of(
        {"quality": {"outcomes": "000,111", "share": 0.8, "max_stderr": 0.1, "colour": "red"}}
    )
    asked = question_of(BELL, None, shots=10, observables=None, precision=None)
    told = refusal(
        build_request,
        asked,
        wishes,
        config=Config(),
        origin={"code_commit": "", "sdk_versions": {}},
        entropy=bytes(12),
        now_us=1,
    )
    assert sorted((one.code, one.path) for one in told) == [
        ("SB-1108", "$.options.quality.colour"),
        ("SB-1108", "$.options.quality.max_stderr"),
        ("SB-1108", "$.options.quality.outcomes"),
    ]


def test_before_it_is_known_what_is_asked_only_the_form_of_a_gate_is_checked():
    sound = Wishes(principal="me", options={"quality.max_stderr": "0.1"})
    assert check_envelope(sound, Config(), shots=1, now_ms=1) == []
    wrong = Wishes(principal="me", options={"quality.max_stderr": "no"})
    assert [one.code for one in check_envelope(wrong, Config(), shots=1, now_ms=1)] == ["SB-1108"]


def test_a_run_file_may_say_a_gate_for_all_its_jobs(tmp_path):
    (tmp_path / "plan.py").write_text("")
    path = tmp_path / "run.toml"
    path.write_text(
        '[run]\nname = "r"\nplan = "plan.py:plan"\nquality = { max_stderr = 0.01, range = "..0" }\n'
    )
    assert load_run(path).run.quality.as_options() == {"max_stderr": "0.01", "range": "..0"}
    path.write_text('[run]\nplan = "plan.py:plan"\nquality = { max_stderr = "low", colour = 1 }\n')
    assert sorted(one.path for one in refusal(load_run, path)) == [
        "$.run.name",
        "$.run.quality.colour",
        "$.run.quality.max_stderr",
    ]
