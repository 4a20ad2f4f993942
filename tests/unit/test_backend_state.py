"""What adapters say of their backends: made plausible, held against the runs in between."""

import json
import math
from dataclasses import replace

import pytest
from worker_kit import item, request

from shotbus.broker.dispatcher.bundles import LOOK_UP
from shotbus.workers.adapters.base import BackendState, Batch, ItemResult, load
from shotbus.workers.backend import faults_among, pack_state, plausible, state_of, unpack_state
from shotbus.workers.running import run_bundle
from shotbus.workers.settings import WorkerCounters


class Drifting:
    """An adapter whose calibration is another one whenever it is asked; of two items one fails."""

    def __init__(self, *calibrations, **told):
        self.capabilities = load("faulty").capabilities
        self.calibrations, self.told = list(calibrations), told

    def sense(self):
        return BackendState(calibration_id=self.calibrations.pop(0), **self.told)

    def calibration(self, _):
        return None

    def look_up(self, wanted):
        return [ItemResult(found="done", payload=b"p") for _ in wanted.items]

    def run(self, wanted):
        good = ItemResult(payload=b"p", cost=2.0, shots=5)
        return [good, *load("faulty").run(replace(wanted, items=wanted.items[1:]))]

    def provenance(self, _):
        return {"backend": "drifting"}


ITEMS = [item(request(), number=0), item(request(options={"fault": "transient"}), number=1)]


def results(adapter, purpose="run"):
    (ran,) = run_bundle(adapter, purpose, ITEMS, {}, int)
    return ran.results


def test_a_calibration_that_changes_under_a_run_makes_its_good_answers_unstable():
    good, bad = results(Drifting("monday", "tuesday"))
    assert (good.error_class, good.payload, good.cost, good.shots) == ("UNSTABLE", b"", 2.0, 5)
    (problem,) = good.problems
    assert (problem.code, problem.limit, problem.actual) == ("SB-5010", "monday", "tuesday")
    assert bad.error_class == "TRANSIENT"


@pytest.mark.parametrize("calibrations", [("monday", "monday"), ("", "tuesday"), ("monday", "")])
def test_one_that_stays_or_cannot_be_told_spoils_nothing(calibrations):
    good, _ = results(Drifting(*calibrations))
    assert (good.error_class, good.payload) == ("", b"p")


def test_a_look_up_is_never_unstable():
    assert [one.error_class for one in results(Drifting("monday", "tuesday"), LOOK_UP)] == ["", ""]


def test_an_adapter_that_raises_when_it_is_asked_is_unhealthy_with_the_reason():
    state = state_of(Drifting())
    assert "IndexError" in state.unhealthy
    assert state.calibration_id == ""


def test_what_knows_nothing_of_its_backend_is_healthy():
    assert state_of(load("noop")) == BackendState()


def test_what_cannot_be_is_not_believed():
    told = BackendState("a\nb" * 200, "c", -5, math.nan, 1.2, math.inf, -3.0)
    found = plausible(told)
    assert (len(found.unhealthy), "\n" in found.unhealthy) == (256, False)
    assert replace(found, unhealthy="") == BackendState(calibration_id="c")
    right = BackendState("", "c", 7, 0.0, 0.99, 100.0, 80.0)
    assert plausible(right) == right


def test_a_state_survives_its_packing():
    state = BackendState("ill", "c", 7, 0.5, 0.99, 100.0, None)
    assert unpack_state(json.loads(json.dumps(pack_state(state)))) == state


def test_only_what_speaks_against_the_backend_counts_as_its_fault():
    words = ("", "INVALID", "TRANSIENT", "UNSTABLE", "BACKEND_DOWN", "THROTTLED")
    assert faults_among([ItemResult(word) for word in words]) == 2


def test_the_share_of_faults_is_a_moving_one_that_starts_at_none():
    counters = WorkerCounters()
    counters.finished(1, 1, 1.0, faults=1)
    assert 0 < counters.error_rate < 0.1
    for _ in range(200):
        counters.finished(1, 1, 1.0, faults=1)
    assert counters.error_rate == pytest.approx(1.0, abs=1e-3)
    counters.finished(100, 100, 1.0)
    assert counters.error_rate < 0.01


def test_the_test_adapter_says_what_its_file_says(tmp_path):
    file = tmp_path / "state.json"
    adapter = load("faulty", {"state_file": str(file)})
    assert state_of(adapter) == BackendState()
    file.write_text('{"unhealthy": "no token"}')
    assert state_of(adapter).unhealthy == "no token"
    file.write_text('{"sick": true}')
    assert "TypeError" in state_of(adapter).unhealthy
    assert adapter.run(Batch([ITEMS[0]]))[0].error_class == ""
