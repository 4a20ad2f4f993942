"""Another placement, and compiling anew: what a remedy changes of how a circuit is compiled, and nothing else."""

import json

import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import unpack_result
from shotbus.workers.adapters.aer_layout import another_layout
from shotbus.workers.adapters.base import load

TEXT, NAMES = rotations(2)
LINE = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
DEVICE = {"device_model": "generic", "qubits": "5", "coupling": "line"}


def told(adapter, **options):
    """Run once; what is told of the circuit."""
    wanted = batch([item(request(TEXT, angles(NAMES, 1), options=options))], TEXT)
    (result,) = adapter.run(wanted)
    assert result.problems == ()
    (circuit,) = json.loads(json.dumps(adapter.provenance(wanted)))["circuits"].values()
    return circuit, unpack_result(result.payload)


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_placement_is_connected_and_not_the_one_that_failed(seed):
    placed = another_layout(LINE, 3, seed, {(0, 1, 2)})
    assert placed != [0, 1, 2]
    assert len(set(placed)) == 3
    assert max(placed) - min(placed) == 2
    assert placed == another_layout(LINE, 3, seed, {(0, 1, 2)})


def test_where_there_is_no_other_placement_the_same_comes_again():
    assert sorted(another_layout([(0, 1), (1, 0)], 2, 1, {(0, 1), (1, 0)})) == [0, 1]


@pytest.mark.parametrize("level", ["0", "1", "2", "3"])
def test_on_a_device_another_layout_uses_another_place_at_every_level(level):
    adapter = load("aer", DEVICE)
    usual, _ = told(adapter, optimization_level=level)
    other, _ = told(adapter, optimization_level=level, layout="another")
    assert usual["layout"] != other["layout"]
    assert (usual["seed_transpiler"], other["seed_transpiler"] > 0) == (0, True)
    assert told(adapter, optimization_level=level, layout="another")[0]["layout"] == other["layout"]


def test_a_seed_of_the_transpiler_is_taken_and_a_layout_goes_before_it():
    adapter = load("aer", DEVICE)
    usual, _ = told(adapter)
    seeded, _ = told(adapter, seed_transpiler="41")
    assert (usual["seed_transpiler"], seeded["seed_transpiler"], seeded["compiled"]) == (0, 41, "anew")
    remedied, _ = told(adapter, seed_transpiler="41", layout="another")
    assert remedied["seed_transpiler"] == told(adapter, layout="another")[0]["seed_transpiler"]


@pytest.mark.parametrize("seed", ["-1", "2147483648", "1e3", "", " 1", "\u0663"])
def test_a_seed_that_the_transpiler_cannot_take_is_refused(seed):
    wanted = batch([item(request(TEXT, angles(NAMES, 1), options={"seed_transpiler": seed}))], TEXT)
    (result,) = load("aer").run(wanted)
    assert [problem.path for problem in result.problems] == ["$.options.seed_transpiler"]


def test_where_everything_is_coupled_another_layout_changes_the_seed_of_the_transpiler_alone():
    adapter = load("aer")
    usual, counts = told(adapter)
    other, again = told(adapter, layout="another")
    assert (
        usual["seed_transpiler"]
        != other["seed_transpiler"]
        != told(adapter, layout="third")[0]["seed_transpiler"]
    )
    assert counts.row(0) == again.row(0)


def test_recompiling_uses_nothing_that_is_kept_and_keeps_what_comes_out():
    adapter = load("aer")
    assert [told(adapter)[0]["compiled"] for _ in range(2)] == ["anew", "memory"]
    assert told(adapter, recompile="true")[0]["compiled"] == "anew"
    assert told(adapter)[0]["compiled"] == "memory"
    assert told(adapter, recompile="false")[0]["compiled"] == "memory"


@pytest.mark.parametrize(
    ("name", "given"), [("layout", "two words"), ("layout", "x" * 33), ("recompile", "yes")]
)
def test_values_that_nobody_understands_are_refused_with_what_they_may_be(name, given):
    (result,) = load("aer").run(batch([item(request(TEXT, angles(NAMES, 1), options={name: given}))], TEXT))
    (problem,) = result.problems
    assert (result.error_class, problem.code, problem.path) == ("INVALID", "SB-1108", f"$.options.{name}")
    assert (problem.actual, bool(problem.limit)) == (given, True)
