"""A backend of one's own, as the documentation shows it: installed, named by a pool, run through a broker."""

import os
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from embedded_kit import ROTATED, Broker
from worker_kit import angles, batch, item, request, rotations

from shotbus import Client
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.pub import unpack_result
from shotbus.workers.adapters.base import load

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_backend"
POOL = """
[pools.mine]
adapter = "reference"
modes = ["sample"]
max_qubits = 4
options = { max_qubits = "4" }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder on the path as an installer leaves it: the module, and what its distribution offers."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    (site / "shotbus_reference.py").write_bytes((EXAMPLE / "shotbus_reference.py").read_bytes())
    told = site / "shotbus_reference-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    offered = [
        line
        for group, names in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in names.items()))
    ]
    (told / "entry_points.txt").write_text("\n".join(offered) + "\n")
    return site


@pytest.fixture
def on_path(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    yield
    sys.modules.pop("shotbus_reference", None)


def test_an_entry_point_is_an_adapter_and_its_options_are_checked_like_ours(on_path):
    assert load("reference").capabilities.max_qubits == 12
    with pytest.raises(ShotbusError) as refused:
        load("reference", {"max_qubit": "3"}, place="$.pools.mine.options")
    (problem,) = refused.value.problems
    assert (problem.code, problem.path) == ("SB-2001", "$.pools.mine.options.max_qubit")
    with pytest.raises(ShotbusError, match="SB-1102") as refused:
        load("referenz")
    assert "reference" in refused.value.problems[0].limit


def test_it_samples_what_ours_sample(on_path):
    text, names = rotations(3)
    raw = request(text, angles(names, 3), shots=4_000)
    mine, ours = (
        unpack_result(load(name).run(batch([item(raw)], text))[0].payload) for name in ("reference", "vector")
    )
    assert mine.registers == ours.registers
    for row in range(3):
        both = [frequencies(counts, row) for counts in (mine, ours)]
        assert np.abs(both[0] - both[1]).sum() / 2 < 0.08


def frequencies(counts, row):
    found = np.zeros(8)
    start, stop = counts.indptr[row], counts.indptr[row + 1]
    found[counts.outcomes[start:stop, 0]] = counts.counts[start:stop]
    return found / found.sum()


def test_a_pool_names_it_and_jobs_run_there_with_options_of_its_own(installed, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "shotbus.toml").write_text(POOL)
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Broker(folder, "mine", environ={"PYTHONPATH": path}) as broker, Client(broker.url) as client:
        asked = {"shots": 200, "backend": "mine", "seed": 3, "options": {"x.note": "mine alone"}}
        first, again = (
            client.submit(ROTATED, [[0.4, 0.9], [3.0, 0.0]], **asked).result(120) for _ in range(2)
        )
        assert first.executed_on == "qiskit.primitives.StatevectorSampler"
        assert sum(first.counts(1).values()) == 200
        assert first.counts(1) == again.counts(1)
