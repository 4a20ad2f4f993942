"""Shots in increments: how they are cut, which seeds they have, and that nothing else shows in what comes out."""

import json
from itertools import pairwise

import numpy as np
import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.pub import Counts, PauliSums, merge_counts, pack_counts, pack_observables, unpack_result
from shotbus.workers.adapters import aer_run
from shotbus.workers.adapters.aer_run import SEED_STRIDE, row_seed
from shotbus.workers.adapters.base import load
from shotbus.workers.adapters.increments import increments_of, seed_offset

TEXT, NAMES = rotations(3)
SUMS = PauliSums.from_terms([[("ZZI", 1.0), ("IIX", 0.5)], [("IZZ", -1.0)]])


@pytest.fixture(scope="module")
def aer():
    return load("aer")


def ask(shots=100, per_call=None, *, rows=None, sums=None, **fields):
    options = {} if per_call is None else {"shots_per_call": str(per_call)}
    fields |= {"mode": "estimate", "observables": pack_observables(sums)} if sums else {}
    return request(TEXT, angles(NAMES, 3) if rows is None else rows, shots=shots, options=options, **fields)


def answer(adapter, *items):
    results = adapter.run(batch(items, TEXT))
    assert [result.problems for result in results] == [()] * len(items)
    return [result.payload for result in results]


def test_shots_are_cut_into_calls_of_at_most_so_many():
    assert increments_of({}, 1_000) == (1_000,)
    assert increments_of({"shots_per_call": "300"}, 1_000) == (300, 300, 300, 100)
    assert increments_of({"shots_per_call": "500"}, 1_000) == (500, 500)
    assert increments_of({"shots_per_call": "5000"}, 1_000) == (1_000,)
    assert increments_of({"shots_per_call": "5"}, 0) == (0,)


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "", "many", "1_000", "٣", "9" * 30])
def test_a_limit_that_is_no_whole_number_is_refused(given):
    with pytest.raises(ShotbusError, match="SB-1108") as refused:
        increments_of({"shots_per_call": given}, 100)
    (problem,) = refused.value.problems
    assert (problem.path, problem.limit) == ("$.options.shots_per_call", "a whole number, 1 or more")


def test_a_limit_that_would_make_too_many_calls_is_refused_with_the_least_that_would_not():
    with pytest.raises(ShotbusError, match="100 or more"):
        increments_of({"shots_per_call": "99"}, 1_000_000)


def test_seeds_of_increments_and_bases_stay_farther_apart_than_the_rows_of_a_job_reach():
    seeds = [
        row_seed(0, 0, basis, increment) % 2**64 for basis in [None, *range(8)] for increment in range(200)
    ]
    seeds.sort()
    assert min(b - a for a, b in pairwise([*seeds, seeds[0] + 2**64])) > 1_000_000 * SEED_STRIDE
    assert row_seed(7, 3, 1) == row_seed(7, 3, 1, 0)
    assert seed_offset(0) == 0


def test_every_increment_is_a_run_of_its_own_with_the_seed_that_is_told(aer):
    (whole,) = answer(aer, item(ask(100, 40)))
    parts = [
        unpack_result(answer(aer, item(ask(shots), seed=row_seed(7, 0, None, number)))[0])
        for number, shots in enumerate((40, 40, 20))
    ]
    assert pack_counts(merge_counts(merge_counts(parts[0], parts[1]), parts[2])) == whole
    assert unpack_result(whole).least_shots == 100


def test_a_limit_that_is_not_reached_changes_nothing(aer):
    plain, limited = answer(aer, item(ask(100)), item(ask(100, 100)))
    assert plain == limited


@pytest.mark.parametrize("sums", [None, SUMS], ids=["sample", "estimate"])
def test_chunks_bundles_and_shards_do_not_show_in_increments_either(aer, monkeypatch, sums):
    rows = angles(NAMES, 6)
    (whole,) = answer(aer, item(ask(90, 40, rows=rows, sums=sums)))
    shards = [
        item(ask(90, 40, rows=rows.rows(a, b), sums=sums), seed=row_seed(7, a)) for a, b in ((0, 4), (4, 6))
    ]
    strangers = [item(ask(90, 30, rows=rows, sums=sums)), item(ask(90, rows=rows, sums=sums), seed=5)]
    mixed = answer(aer, strangers[0], shards[1], strangers[1], shards[0])
    assert [mixed[3], mixed[1]] == [answer(load("aer"), one)[0] for one in shards]
    monkeypatch.setattr(aer_run, "MAX_ENTRIES", 16)
    assert answer(aer, item(ask(90, 40, rows=rows, sums=sums))) == [whole]
    parts = [unpack_result(mixed[place]) for place in (3, 1)]
    if sums is None:
        assert [part.row(row) for part in parts for row in range(part.points)] == [
            unpack_result(whole).row(row) for row in range(6)
        ]
    else:
        assert np.concatenate([part.stds for part in parts]).tobytes() == unpack_result(whole).stds.tobytes()


def test_estimates_in_increments_have_the_errors_of_all_shots(aer):
    rows = angles(NAMES, 30)
    once, cut, exact = answer(
        aer,
        *(
            item(ask(shots, per_call, rows=rows, sums=SUMS))
            for shots, per_call in ((3_000, None), (3_000, 700), (0, 700))
        ),
    )
    once, cut, exact = unpack_result(once), unpack_result(cut), unpack_result(exact)
    np.testing.assert_allclose(cut.stds, once.stds, rtol=0.15, atol=1e-3)
    pulls = (cut.evs - exact.evs) / np.maximum(cut.stds, 1e-9)
    assert 0.7 < pulls.std() < 1.3


def test_the_number_of_calls_is_told_and_all_shots_are_counted(aer):
    wanted = batch([item(ask(100, 30))], TEXT)
    (result,) = aer.run(wanted)
    (told,) = json.loads(json.dumps(aer.provenance(wanted)))["circuits"].values()
    assert (told["shots_per_call"], told["calls"], result.shots) == (30, 4, 300)
    assert "call" in aer.provenance(wanted)["seeds"]


def test_a_limit_that_makes_no_sense_fails_its_own_job_only(aer):
    bad, good = aer.run(batch([item(ask(100, 0)), item(ask(100))], TEXT))
    assert (bad.error_class, bad.problems[0].code) == ("INVALID", "SB-1108")
    assert isinstance(unpack_result(good.payload), Counts)


def test_a_call_with_more_shots_than_the_pool_allows_is_refused_in_words_that_lead_to_increments():
    from shotbus.broker.dispatcher.remedies import remedies

    limited = load("aer", {"max_shots": "30"})
    (refused,) = limited.run(batch([item(ask(100))], TEXT))
    assert (refused.error_class, refused.problems[0].limit) == ("CONSTRAINT", "30 shots a call")
    first = next(remedies([refused.problems[0].as_record()], shots=100, tried=()))
    assert first.overrides == (("shots_per_call", "30"),)
    assert answer(limited, item(ask(100, 30))) == answer(load("aer"), item(ask(100, 30)))
