"""How a result says how it was made and what it cost."""

import json
import math

import pytest
from reuse_kit import record

from shotbus.broker.config_loader import load_config
from shotbus.cli.answers import in_brief, making_lines, print_result
from shotbus.cli.common import Options
from shotbus.producers.result import read_answer, read_making


def made(**fields):
    return read_making(record(**fields))


def test_a_result_tells_its_cost_and_seconds():
    answer = read_answer(record(cost=0.3, backend_seconds=1.25))
    assert (answer.cost, answer.backend_seconds) == (0.3, 1.25)
    assert answer.made()["cost"] == 0.3


def test_a_deviation_that_is_not_known_is_none():
    assert made(deviation=-1.0)["deviation"] is None
    assert made(deviation=0.0)["deviation"] == 0.0


@pytest.mark.parametrize(("apart", "shown"), [(math.inf, "inf"), (0.5, 0.5), (-1.0, None)])
def test_json_says_of_a_deviation_what_the_text_says(apart, shown, capsys):
    answer = read_answer(record(deviation=apart))
    print_result(Options(load_config(None), "", as_json=True), answer, late=answer)
    told = json.loads(capsys.readouterr().out)
    assert (told["deviation"], told["came_late"]["deviation"]) == (shown, shown)
    text = "".join(making_lines(answer.made()))
    assert text == ("" if shown is None else f"answered by: run, deviation {shown}")


def test_a_plain_free_run_needs_no_line():
    assert list(making_lines(made(backend_seconds=3.0, cost=0.0))) == []


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        (
            {"answered_by": "fallback", "fallback_from": "qpu", "deviation": 0.02},
            ["answered by: fallback (from qpu), deviation 0.02"],
        ),
        ({"answered_by": "cache", "age_ms": 1500}, ["answered by: cache (1.5 s old)"]),
        ({"cost": 0.3, "backend_seconds": 1.2}, ["cost 0.3, 1.2 backend seconds"]),
        ({"deviation": 0.5}, ["answered by: run, deviation 0.5"]),
    ],
)
def test_what_is_no_plain_run_says_so(fields, lines):
    assert list(making_lines(made(**fields))) == lines


def test_a_failure_tells_in_brief_what_it_cost():
    fields = {"outcome": "failed", "executed_on": "", "pool": "qpu", "cost": 2.0, "backend_seconds": 4.0}
    assert in_brief(made(**fields)) == "failed: run on qpu, cost 2, 4 backend seconds"


def test_names_from_outside_cannot_steer_a_terminal():
    assert "\x1b" not in in_brief(made(executed_on="\x1b[2J"))
