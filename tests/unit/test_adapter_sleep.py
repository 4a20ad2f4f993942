"""The adapter that only takes time: as long as it was told, for each point, and nothing else."""

import time

import pytest
from worker_kit import batch, item, request

from shotbus.workers.adapters.base import load


def test_every_point_takes_the_time_that_the_job_asks_for():
    asked = request(options={"seconds": "0.02"}, points=3)
    began = time.perf_counter()
    (result,) = load("sleep").run(batch([item(asked)]))

    assert time.perf_counter() - began >= 0.06
    assert result.timings.seconds("execute") >= 0.06
    assert (result.error_class, result.payload) == ("", b"")


def test_without_the_option_a_job_takes_no_time():
    (result,) = load("sleep").run(batch([item(request())]))
    assert result.timings.seconds("execute") < 0.01


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "inf", "3601", ""])
def test_a_time_that_is_none_is_the_jobs_own_fault_and_its_neighbours_go_on(given):
    wrong, right = (item(request(options={"seconds": told}), number=n) for n, told in enumerate([given, "0"]))
    refused, done = load("sleep").run(batch([wrong, right]))

    assert [problem.code for problem in refused.problems] == ["SB-1108"]
    assert (refused.error_class, done.error_class) == ("INVALID", "")
