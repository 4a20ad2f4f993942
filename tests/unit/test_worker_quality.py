"""Gates in a worker: held against what would be the answer, earlier shots included; what it cost stays with it."""

import pytest
from reuse_kit import record, sampled
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import Counts, pack_counts, unpack_result
from shotbus.workers.adapters.base import ItemResult, load
from shotbus.workers.quality import gated
from shotbus.workers.running import Ran, run_bundle
from shotbus.workers.topup import with_priors

TEXT, NAMES = rotations(2)


def asked(number=0, **quality):
    options = {f"quality.{name}": text for name, text in quality.items()}
    return item(request(TEXT, angles(NAMES, 1), options=options), number=number)


def outcome(*results, **quality):
    """What becomes of results of a job with this gate."""
    ran = gated(Ran([asked(number, **quality) for number in range(len(results))], list(results), b"{}", ""))
    return ran.results


def test_one_job_that_fails_its_gate_leaves_its_neighbours_alone():
    items = [asked(0, parity="even:1"), asked(1), asked(2, parity="even:0.01")]
    circuits = batch(items, TEXT).circuits
    (ran,) = run_bundle(load("aer"), "run", items, circuits, int)
    bad, plain, good = gated(ran).results
    assert (bad.error_class, bad.problems[0].code, bad.payload) == ("UNSTABLE", "SB-5011", b"")
    assert plain is ran.results[1]
    assert good is ran.results[2]


def test_what_a_bad_answer_cost_stays_with_it():
    answer = ItemResult(payload=sampled({1: 5}), shots=5, cost=2.5, provider_job_id="p")
    (bad,) = outcome(answer, parity="even:1")
    assert (bad.cost, bad.shots, bad.provider_job_id, bad.timings) == (2.5, 5, "p", answer.timings)
    assert answer.payload


def test_without_a_gate_a_run_is_handed_on_as_it_is():
    ran = Ran([asked()], [ItemResult(payload=sampled({1: 5}))], b"{}", "")
    assert gated(ran) is ran


def test_what_has_failed_already_and_what_holds_nothing_is_not_looked_at():
    failed, empty = ItemResult(error_class="TRANSIENT"), ItemResult()
    assert outcome(failed, empty, parity="even:1") == [failed, empty]


@pytest.mark.parametrize(("share", "error"), [("0.5", ""), ("0.75", "UNSTABLE")])
def test_earlier_shots_count_before_the_gate_is_held_against_them(share, error):
    new = ItemResult(payload=sampled({1: 10}), shots=10)
    priors = {f"{0:032x}": record(payload=sampled({0: 20}))}
    ran = with_priors(Ran([asked(parity=f"even:{share}")], [new], b"{}", ""), priors)
    (result,) = gated(ran).results
    assert result.error_class == error
    assert error or isinstance(unpack_result(result.payload), Counts)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"junk", "SB-1004"), (b"broken", "SB-9001")],
    ids=["not packed", "arrays that do not fit"],
)
def test_an_answer_that_cannot_be_read_has_not_passed(payload, code):
    if payload == b"broken":
        good = unpack_result(sampled({1: 5}))
        payload = pack_counts(Counts(good.registers, good.indptr + 7, good.outcomes, good.counts))
    (result,) = outcome(ItemResult(payload=payload), parity="even:1")
    assert (bool(result.error_class), result.problems[0].code) == (True, code)
