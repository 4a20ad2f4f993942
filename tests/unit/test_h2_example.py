"""The H2 example: its plan, evaluated offline, gives the curve that diagonalisation gives."""

import importlib.util
import io
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from qiskit import qasm3
from qiskit.quantum_info import SparsePauliOp, Statevector
from rich.console import Console

from shotbus.producers.plan import Output, Reduction
from shotbus.reducers.sweep import Sweep
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.layout import Layout, pack_layout
from shotbus.schemas.pub import Estimates, pack_estimates, unpack_observables

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"length_count": 12, "thetas": 8}


@cache
def example(name="h2_dissociation"):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def small_plan():
    return example().plan(SMALL)


@cache
def states(circuit, thetas):
    program = qasm3.loads(circuit)
    return np.array([Statevector(program.assign_parameters([theta])).data for theta in thetas])


def operator(observables, number):
    return SparsePauliOp.from_list(observables.terms(number)).to_matrix()


def evaluate(job):
    """Answer a job as a backend would: exactly, by sampling eigenvalues, or by diagonalisation."""
    matrices = [operator(job.observables, number) for number in range(job.observables.count)]
    if job.backend == "classical":
        return Estimates(np.linalg.eigvalsh(matrices[0])[:1, None], np.zeros((1, 1)))
    psi = states(job.circuit, tuple(job.bindings.matrix[:, 0].tolist()))
    if job.shots == 0:
        evs = np.stack([np.einsum("ri,ij,rj->r", psi.conj(), m, psi).real for m in matrices], axis=1)
        return Estimates(evs, np.zeros_like(evs))
    return sample(matrices, psi, job.shots, np.random.default_rng(job.seed))


def sample(matrices, psi, shots, rng):
    evs, stds = [], []
    for matrix in matrices:
        eigenvalues, vectors = np.linalg.eigh(matrix)
        drawn = rng.multinomial(shots, np.abs(psi.conj() @ vectors) ** 2) / shots
        evs.append(drawn @ eigenvalues)
        stds.append(np.sqrt(np.maximum(drawn @ eigenvalues**2 - evs[-1] ** 2, 0) / shots))
    return Estimates(np.stack(evs, axis=1), np.stack(stds, axis=1))


def reduce(sweep_plan):
    """Run a sweep's jobs through the real reduction and over the wire."""
    jobs = sweep_plan.jobs
    rows, groups = [job.points for job in jobs], [job.group for job in jobs]
    layout = Layout(np.array(rows), np.array(groups), np.concatenate([job.axis for job in jobs]))
    declaration = {
        "sweep_id": sweep_plan.name,
        "tenant": "t",
        "traceparent": "",
        "at_us": 1,
        "shards": len(jobs),
    }
    declaration |= {
        "reduce": sweep_plan.reduce,
        "options": dict(sweep_plan.options),
        "layout": pack_layout(layout),
    }
    sweep = Sweep.declare(declaration)
    for shard, job in enumerate(jobs):
        fields = {"outcome": "succeeded", "payload": pack_estimates(evaluate(job)), "finished_us": 1}
        fields |= {"points": job.points, "shots": job.shots * job.points * job.observables.count}
        sweep.count(shard, sweep.digest(shard, fields | {"executed_on": "numpy", "provenance": b""}))
    return Reduction.from_record(encode("sweep_reduction", sweep.reduction(final=True)))


@cache
def reductions():
    return {sweep.name: reduce(sweep) for sweep in small_plan().sweeps}


def test_sinusoid_minimum_of_every_length_is_the_ground_state_energy():
    exact = reductions()["exact"].arrays
    deviation = np.abs(exact["minimum"] - reductions()["diagonalisation"].arrays["values"])
    assert deviation.max() < 1e-9
    assert exact["residual"].max() < 1e-9
    assert (exact["stderr"] == 0).all()


def test_sampled_minima_lie_within_their_standard_errors():
    shots = reductions()["shots"].arrays
    sigmas = (shots["minimum"] - reductions()["diagonalisation"].arrays["values"]) / shots["stderr"]
    assert np.abs(sigmas).max() < 4.5
    assert 0.3 < sigmas.std() < 2.5


def test_the_curve_has_the_textbook_bottom():
    curve = example().Curve.of(example().bond_lengths(values()), reductions())
    bottom = example().equilibrium(curve)
    assert bottom.length == pytest.approx(0.735, abs=0.004)
    assert bottom.energy == pytest.approx(-1.1373, abs=2e-4)


def values(**changes):
    known = example().PARAMETERS
    return {name: parameter.default for name, parameter in known.items()} | SMALL | changes


def test_the_ansatz_is_hartree_fock_turned_into_the_double_excitation():
    theta = 0.7
    (state,) = states(example().ANSATZ, (theta,))
    expected = np.zeros(16)
    expected[0b0011], expected[0b1100] = np.cos(theta / 2), np.sin(theta / 2)
    assert abs(np.vdot(expected, state)) == pytest.approx(1.0, abs=1e-12)


def test_terms_are_split_into_five_groups_that_one_setting_measures_each():
    terms = example().hamiltonian(0.74)
    groups = example().commuting_groups(terms)
    assert sorted(sum(groups, [])) == terms
    assert sorted(len(group) for group in groups) == [1, 1, 1, 1, 11]


def test_a_job_a_length_and_a_sweep_a_mode():
    sweeps = {sweep.name: sweep for sweep in small_plan().sweeps}
    assert list(sweeps) == ["exact", "shots", "diagonalisation"]
    assert {len(sweep.jobs) for sweep in sweeps.values()} == {12}
    assert {job.shots for job in sweeps["shots"].jobs} == {1024}
    assert {job.backend for job in sweeps["diagonalisation"].jobs} == {"classical"}


def test_every_job_carries_the_problem_and_the_family_that_its_circuit_is_of():
    exact, shots, diagonalisation = small_plan().sweeps
    for jobs in zip(exact.jobs, shots.jobs, diagonalisation.jobs, strict=True):
        assert len({job.problem.payload for job in jobs}) == 1
        assert {(job.problem.kind, job.problem.version) for job in jobs} == {("hamiltonian", 1)}
        assert {(job.family, job.family_version) for job in jobs} == {("ucc-doubles", "1")}
    terms = unpack_observables(exact.jobs[0].problem.payload).terms(0)
    assert terms == example().hamiltonian(example().bond_lengths(values())[0])
    assert len(exact.jobs[0].problem.payload) < 500


@pytest.mark.parametrize("changes", [{}, {"length_count": 40}, {"length_stop": 0.7}, {"focus": 0.3}])
def test_lengths_ascend_inside_the_range_and_are_as_many_as_asked_for(changes):
    wanted = values(**changes)
    lengths = example().bond_lengths(wanted)
    assert lengths.size == wanted["length_count"]
    assert (np.diff(lengths) > 0).all()
    assert (lengths[0], lengths[-1]) == (wanted["length_start"], wanted["length_stop"])


def test_unknown_and_wrong_parameters_are_refused_all_at_once():
    wrong = {"shot": 5, "thetas": 2.5, "modes": ["exact", "exact"], "seed": True, "length_stop": float("nan")}
    with pytest.raises(ShotbusError) as caught:
        example().plan(wrong)
    problems = {problem.path: problem for problem in caught.value.problems}
    assert {problem.code for problem in problems.values()} == {"SB-2001", "SB-2002"}
    assert problems["$.parameters.shot"].hint == "did you mean 'shots'?"
    assert len(problems) == 5


def test_the_run_file_gives_the_defaults():
    document = tomllib.loads((EXAMPLES / "h2_dissociation.toml").read_text(encoding="utf-8"))
    defaults = {name: parameter.default for name, parameter in example().PARAMETERS.items()}
    assert {**document["parameters"], "modes": tuple(document["parameters"]["modes"])} == defaults
    assert document["run"]["plan"] == "h2_dissociation.py:plan"


def test_the_report_states_accuracy_and_cost_and_draws_the_curve(tmp_path):
    text = io.StringIO()
    picture = tmp_path / "h2.png"
    small_plan().report(reductions(), Output(Console(file=text, width=160), picture))
    report = text.getvalue()
    assert "within chemical accuracy" in report
    assert "Equilibrium: 0.73" in report
    assert "Taken: 204 points" in report
    assert "0 from the cache" in report
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_report_shows_failed_points_as_failed():
    found = dict(reductions())
    arrays = {name: array.copy() for name, array in found["exact"].arrays.items()}
    arrays["minimum"][3] = np.nan
    changes = {name: getattr(found["exact"], name) for name in Reduction.__slots__}
    found["exact"] = Reduction(**(changes | {"arrays": arrays}))
    text = io.StringIO()
    small_plan().report(found, Output(Console(file=text, width=160)))
    assert "failed" in text.getvalue()
    assert "within chemical accuracy" in text.getvalue()
