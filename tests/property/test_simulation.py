"""The whole broker in simulated time: nothing is lost, doubled or out of order, whatever goes wrong when."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections import Counter

import pytest
import structlog
from click.testing import CliRunner

from shotbus.broker.dispatcher.done import DoneLog
from shotbus.cli.main import cli
from shotbus.simulation import FAULTS, Scenario, simulate
from shotbus.simulation.child import Temper
from shotbus.simulation.loop import DeadlockError, LivelockError, run
from shotbus.simulation.many import ENOUGH_SEEDS, run_seeds
from shotbus.simulation.provider import Manners

CALM = {"temper": Temper(seconds=0.01), "manners": Manners(throttles=0.0, forgets=0.0)}


@pytest.fixture(autouse=True)
def quiet():
    """Faults are logged by the thousand; the story tells them."""
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize("first", range(0, ENOUGH_SEEDS, 5))
def test_the_invariants_hold_under_faults(first):
    for seed, outcome in run_seeds(range(first, first + 5), Scenario, 1):
        assert outcome.violations == [], f"seed {seed}\n" + "\n".join(outcome.story)
        assert outcome.answers["succeeded"] > 20


@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_of_fault_bites_and_heals(kind):
    bites = Counter()
    for _, outcome in run_seeds(
        (1, 2), lambda seed: Scenario(seed, kinds=(kind,), jobs=30, seconds=8.0, faults=60.0), 1
    ):
        assert outcome.violations == [], "\n".join(outcome.story)
        bites.update(outcome.bites)
    assert bites[kind] > 0


def test_what_is_called_off_at_the_provider_ends_as_it_says_whatever_is_wrong_besides():
    bites = Counter()
    slow = Manners(latency=2.0)
    for seed in range(6):
        kinds = ("call_off", "call_off", "call_off", "kill", "cut", "pause")
        outcome = simulate(Scenario(seed, features=False, kinds=kinds, faults=60.0, manners=slow, jobs=40))
        assert outcome.violations == [], f"seed {seed}\n" + "\n".join(outcome.story)
        bites.update(outcome.bites)
    assert bites["cancelled_there"] > 3
    assert bites["cancelled_too_late"] > 0


@pytest.mark.parametrize("seed", range(100, 104))
def test_the_invariants_hold_when_something_breaks_every_second(seed):
    outcome = simulate(Scenario(seed, faults=60.0, temper=Temper(dies=0.1, fails=0.1, hangs=0.02)))
    assert outcome.violations == [], "\n".join(outcome.story)


def test_without_faults_every_sound_job_succeeds_at_its_first_attempt():
    outcome = simulate(Scenario(7, faults=0.0, features=False, **CALM))
    assert outcome.violations == []
    kinds = {"succeeded", "served_from_cache", "refusal", "located", "cancelled", "expired", "dead_lettered"}
    assert outcome.answers.keys() <= kinds
    assert outcome.judged["I3"] > 30


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


async def never():
    await asyncio.get_running_loop().create_future()


async def for_ever():
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize(("work", "error"), [(never, DeadlockError), (for_ever, LivelockError)])
def test_a_world_that_stands_still_is_told_and_does_not_hang(work, error):
    with pytest.raises(error):
        run(lambda _: work())


def test_the_command_tells_each_seed_on_one_process_as_on_two():
    words = ["simulate", "--seed", "3", "--seeds", "3", "--jobs", "20", "--json", "--processes"]
    told = []
    for processes in ("1", "2"):
        done = CliRunner().invoke(cli, [*words, processes])
        assert done.exit_code == 0, done.output
        told.append([json.loads(line) for line in done.stdout.splitlines()])
    assert told[0] == told[1]
    assert [one.get("seed") for one in told[0]] == [3, 4, 5, None]
    assert (told[0][-1]["seeds"], told[0][-1]["broken"]) == (3, [])


def test_the_command_tells_the_story_of_a_seed_that_broke(monkeypatch):
    monkeypatch.setattr(DoneLog, "find", lambda *_: None)
    words = ["simulate", "--seeds", "6", "--processes", "1", "--only", "repeat"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "I2 one-terminal-result" in done.stdout
    assert "dispatcher-0: serves" in done.stdout
    assert "records come again" in done.stdout
    assert "submit by" in done.stdout


def test_a_thousand_seeds_in_which_a_fault_never_bit_have_failed(monkeypatch):
    monkeypatch.setattr("shotbus.simulation.many.ENOUGH_SEEDS", 2)
    done = CliRunner().invoke(cli, ["simulate", "--seeds", "2", "--jobs", "10", "--processes", "1"])
    assert done.exit_code == 1
    assert "never bit" in done.stdout


def test_a_process_that_simulates_has_its_logs_afterwards_as_before(caplog):
    list(run_seeds(range(1), lambda seed: Scenario(seed, jobs=5, **CALM), 1))
    with structlog.testing.capture_logs() as lines:
        structlog.get_logger("shotbus").warning("heard")
    logging.getLogger("shotbus").warning("this too")
    assert [line["event"] for line in lines] == ["heard"]
    assert "this too" in caplog.text
