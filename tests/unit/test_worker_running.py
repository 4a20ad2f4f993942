"""Running a bundle: look-ups, what replaces a request's wishes, what is told of a run that costs."""

import json
from dataclasses import replace

import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.broker.dispatcher.bundles import LOOK_UP
from shotbus.workers.adapters.base import BatchItem, CanLookUp, ItemResult, load
from shotbus.workers.outcomes import item_fields
from shotbus.workers.running import run_bundle

TEXT, NAMES = rotations(2)


class Spy:
    """An adapter that notes what it is asked for; ``defect`` makes it raise."""

    def __init__(self, *, paid=False, defect=False):
        self.capabilities = replace(load("faulty").capabilities, paid=paid)
        self.asked, self.defect = [], defect

    def run(self, wanted):
        self.asked.append([(one.request["options"], one.request["shots"], one.token) for one in wanted.items])
        if self.defect:
            raise RuntimeError("after the submission")
        return [ItemResult() for _ in wanted.items]

    def provenance(self, _):
        return {"backend": "spy", "calibration_id": "c1"}


class Asked(Spy):
    """The same, whose provider can be asked."""

    def look_up(self, wanted):
        if self.defect:
            raise RuntimeError("the provider speaks in riddles")
        return [ItemResult(found="done", cost=2.5, provider_job_id=one.token) for one in wanted.items]


def attempt(number=0, **changes):
    raw = request(options={"level": "1", "kept": "yes"})
    return BatchItem(f"{number:032x}", 2, 7, raw, **changes)


def ran(adapter, items, purpose="run"):
    return list(run_bundle(adapter, purpose, items, {}, int))


def found(adapter, items):
    return [result.found for part in ran(adapter, items, LOOK_UP) for result in part.results]


def test_overrides_and_shots_reach_the_adapter_and_the_provenance():
    adapter = Spy()
    (one,) = ran(adapter, [attempt(overrides={"level": "3"}, shots=5)])
    assert adapter.asked == [[({"level": "3", "kept": "yes"}, 5, f"{0:032x}.0")]]
    told = json.loads(one.provenance)
    assert told["overrides"] == {"options": {"level": "3"}, "shots": 5}
    assert (told["calibration_id"], one.calibration_id) == ("c1", "c1")


def test_a_plain_bundle_runs_at_once_and_its_provenance_names_no_overrides():
    adapter = Spy()
    (one,) = ran(adapter, [attempt(0), attempt(1, token="t.1")])
    assert [told[2] for told in adapter.asked[0]] == [f"{0:032x}.0", "t.1"]
    assert adapter.asked[0][0][:2] == ({"level": "1", "kept": "yes"}, 100)
    assert "overrides" not in json.loads(one.provenance)


def test_what_replaces_one_jobs_wishes_is_not_told_of_its_neighbours():
    items = [attempt(0), attempt(1, shots=0), attempt(2), attempt(3, shots=0, overrides={"a": "b"})]
    parts = ran(Spy(), items)
    told = {one.job_id: json.loads(part.provenance).get("overrides") for part in parts for one in part.items}
    wanted = [None, {"shots": 0}, None, {"options": {"a": "b"}, "shots": 0}]
    assert told == {f"{k:032x}": one for k, one in enumerate(wanted)}


def test_an_override_changes_what_aer_does():
    plain = request(TEXT, angles(NAMES, 1))
    known = batch([item(plain)], TEXT).circuits
    changed = BatchItem(f"{0:032x}", 1, 7, plain, overrides={"optimization_level": "3"}, shots=30)
    (one,) = run_bundle(load("aer"), "run", [changed], known, int)
    (facts,) = json.loads(one.provenance)["circuits"].values()
    assert (facts["optimization_level"], one.results[0].shots) == (3, 30)


@pytest.mark.parametrize("name", ["aer", "classical", "noop", "sleep"])
def test_of_what_leaves_nothing_outside_there_is_nothing_to_be_found(name):
    assert not isinstance(load(name), CanLookUp)
    assert found(load(name), [attempt(0), attempt(1)]) == ["absent", "absent"]


def test_a_purpose_of_later_versions_runs_nothing():
    spy = Spy(paid=True)
    ((_, (result,), *_),) = run_bundle(spy, "rehearse", [attempt(0)], {}, int)
    assert (result.error_class, spy.asked) == ("NOT_STARTED", [])


def test_what_is_late_is_not_run_and_the_others_of_its_bundle_are():
    spy = Spy()
    items = [attempt(0, deadline_ms=1_000), attempt(1), attempt(2, deadline_ms=1_001), attempt(3)]
    late, rest = run_bundle(spy, "run", items, {}, lambda: 1_000)
    assert [one.job_id for one in late.items] == [f"{0:032x}"]
    assert (late.results[0].error_class, late.provenance, late.calibration_id) == ("EXPIRED", b"", "")
    assert (late.results[0].problems[0].code, late.results[0].problems[0].actual) == (
        "SB-4003",
        "0.000 s late",
    )
    assert [one[2] for one in spy.asked[0]] == [f"{number:032x}.0" for number in (1, 2, 3)]
    assert [one.error_class for one in rest.results] == ["", "", ""]


def test_a_bundle_that_is_late_as_a_whole_asks_its_backend_for_nothing():
    spy = Spy(paid=True)
    (late,) = run_bundle(spy, "run", [attempt(0, deadline_ms=5), attempt(1, deadline_ms=6)], {}, lambda: 7)
    assert ([one.error_class for one in late.results], spy.asked) == (["EXPIRED"] * 2, [])


def test_what_waits_for_another_part_of_its_bundle_may_become_late_meanwhile():
    spy, times = Spy(), iter([1, 1, 3])
    items = [attempt(0, deadline_ms=2), attempt(1, deadline_ms=2, shots=5)]
    parts = run_bundle(spy, "run", items, {}, lambda: next(times))
    assert [one.error_class for part in parts for one in part.results] == ["", "EXPIRED"]


def test_a_look_up_has_no_deadline():
    (one,) = run_bundle(Asked(paid=True), LOOK_UP, [attempt(0, deadline_ms=5)], {}, lambda: 7)
    assert one.results[0].found == "done"


def test_a_look_up_runs_nothing_and_brings_what_the_provider_says():
    adapter = Asked(paid=True)
    (one,) = ran(adapter, [attempt(token="t.3")], LOOK_UP)
    told = item_fields(one.items[0], one.results[0])
    assert adapter.asked == []
    assert (told["found"], told["cost"], told["provider_job_id"]) == ("done", 2.5, "t.3")


@pytest.mark.parametrize("adapter", [Asked(paid=True, defect=True), Spy(paid=True)])
def test_a_paid_adapter_that_cannot_tell_never_says_absent(adapter):
    assert found(adapter, [attempt()]) == ["unknown"]


def test_the_test_provider_answers_for_what_it_took_or_as_it_is_told():
    adapter = load("faulty")
    asked = request(options={"fault": "unknown"})
    (result,) = adapter.run(batch([BatchItem("j", 1, 7, asked, token="t")]))
    assert result.error_class == "UNKNOWN_OUTCOME"
    told = request(options={"found": "running"})
    items = [BatchItem("j", 2, 7, asked, token=token) for token in ("t", "u")] + [item(told)]
    assert found(adapter, items) == ["done", "absent", "running"]


def test_a_defect_on_a_paid_pool_is_an_unknown_outcome_and_nothing_runs_twice():
    adapter = Spy(paid=True, defect=True)
    (one,) = ran(adapter, [attempt(0), attempt(1)])
    assert [result.error_class for result in one.results] == ["UNKNOWN_OUTCOME"] * 2
    assert len(adapter.asked) == 1


@pytest.mark.parametrize(
    ("fault", "error_class", "wait_ms"),
    [("down", "BACKEND_DOWN", 0), ("throttled", "THROTTLED", 1_000), ("unstable", "UNSTABLE", 0)],
)
def test_what_a_backend_can_say_has_classes_of_its_own(fault, error_class, wait_ms):
    (result,) = load("faulty").run(batch([item(request(options={"fault": fault}))]))
    assert (result.error_class, result.retry_after_ms) == (error_class, wait_ms)


def test_backend_seconds_are_those_of_the_run_unless_the_provider_counts_otherwise():
    measured, told, silent = ItemResult(), ItemResult(backend_seconds=9.0), ItemResult()
    for result in (measured, told):
        result.timings.add("execute", 2.0)
    seconds = [item_fields(attempt(), one)["backend_seconds"] for one in (measured, told, silent)]
    assert seconds == [2.0, 9.0, -1.0]
