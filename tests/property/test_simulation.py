"""The whole broker in simulated time: nothing is lost, doubled or out of order, whatever is killed when."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import structlog
from click.testing import CliRunner

from shotbus.broker.dispatcher.done import DoneLog
from shotbus.broker.dispatcher.judge import Judge
from shotbus.cli.main import cli
from shotbus.reducers.sweep import Sweep
from shotbus.simulation import Scenario, simulate
from shotbus.simulation.child import Temper
from shotbus.simulation.loop import DeadlockError, LivelockError, run

CALM = Temper(seconds=0.01)


@pytest.fixture(autouse=True)
def quiet():
    """Faults are logged by the thousand; the story tells them."""
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize("seed", range(24))
def test_the_invariants_hold_under_faults(seed):
    outcome = simulate(Scenario(seed))
    assert outcome.violations == [], "\n".join(outcome.story)
    assert outcome.answers["succeeded"] > 50


@pytest.mark.parametrize("seed", range(100, 104))
def test_the_invariants_hold_when_something_dies_every_second(seed):
    outcome = simulate(Scenario(seed, faults=60.0, jobs=60, temper=Temper(dies=0.1, fails=0.1, hangs=0.02)))
    assert outcome.violations == [], "\n".join(outcome.story)


def test_without_faults_every_sound_job_succeeds_at_its_first_attempt():
    outcome = simulate(Scenario(7, faults=0.0, temper=CALM))
    assert outcome.violations == []
    assert outcome.answers.keys() <= {
        "succeeded",
        "served_from_cache",
        "refusal",
        "located",
        "cancelled",
        "expired",
    }


def test_two_runs_of_a_seed_publish_the_same_records():
    first, second = (simulate(Scenario(11)) for _ in range(2))
    assert (first.digest, first.story) == (second.digest, second.story)
    assert simulate(Scenario(12)).digest != first.digest


def test_the_order_of_hashes_does_not_show():
    code = "from shotbus.simulation import *; print(simulate(Scenario(5, jobs=40)).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def broken(names, monkeypatch, target, attribute, replacement):
    """Plant a bug and return which of the invariants some seed breaks."""
    monkeypatch.setattr(target, attribute, replacement)
    scenario = Scenario(0, settle=60.0)
    for seed in range(12):
        found = {one.rule for one in simulate(replace(scenario, seed=seed)).violations}
        if found & names:
            return found & names
    return set()


def test_a_dispatcher_that_forgets_finished_jobs_is_found(monkeypatch):
    names = {"one-terminal-result", "states-follow-the-table"}
    assert broken(names, monkeypatch, DoneLog, "find", lambda *_: None)


def test_a_dispatcher_that_swallows_an_answer_is_found(monkeypatch):
    judge = Judge._judge

    def swallowing(self, bundle, outcome, item, now):
        commands = judge(self, bundle, outcome, item, now)
        return [] if item["job_id"].endswith("0") else commands

    names = {"a-submission-is-answered", "a-job-ends", "one-terminal-result", "an-end-has-a-result"}
    assert broken(names, monkeypatch, Judge, "_judge", swallowing)


def test_a_fold_that_counts_a_shard_twice_is_found(monkeypatch):
    count = Sweep.count

    def twice(self, shard, facts):
        self.shots += facts.shots
        count(self, shard, facts)

    assert broken({"fan-in-conserves-shots"}, monkeypatch, Sweep, "count", twice)


async def never():
    await asyncio.get_running_loop().create_future()


async def for_ever():
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize(("work", "error"), [(never, DeadlockError), (for_ever, LivelockError)])
def test_a_world_that_stands_still_is_told_and_does_not_hang(work, error):
    with pytest.raises(error):
        run(lambda _: work())


def test_the_command_tells_each_seed_and_the_story_of_one_that_broke(monkeypatch):
    runner = CliRunner()
    sound = runner.invoke(cli, ["simulate", "--seed", "3", "--seeds", "2", "--jobs", "20", "--json"])
    assert sound.exit_code == 0
    assert [json.loads(line)["seed"] for line in sound.stdout.splitlines()] == [3, 4]
    monkeypatch.setattr(DoneLog, "find", lambda *_: None)
    broken = runner.invoke(cli, ["simulate", "--seed", "0", "--seeds", "12"])
    assert broken.exit_code == 1
    assert "one-terminal-result" in broken.stdout
    assert "dispatcher-0 serves" in broken.stdout
