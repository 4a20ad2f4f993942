"""A small H2 plan, its undisturbed answer, and clusters of role processes on either bus."""

import os
import pathlib
import tomllib
import uuid

import numpy as np
import pytest

from shotbus import Client
from shotbus.deploy.cluster import Cluster
from shotbus.runfile import load_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Shorter than in production, so that a run in which they matter ends soon.
QUICK = {"SHOTBUS__POOLS__AER__LEASE_SECONDS": "3", "SHOTBUS__POOLS__AER__BUNDLE_JOBS": "1"}


def small_plan():
    told = load_run(ROOT / "examples" / "h2_dissociation.toml")
    parameters = tomllib.loads(told.path.read_text())["parameters"]
    small = {"length_count": 16, "shots": 4096, "modes": ["shots"]}
    return type(told)(told.path, told.run, told.output, parameters | small, told.fingerprint).plan()


@pytest.fixture(scope="session")
def shots_sweep():
    return next(sweep for sweep in small_plan().sweeps if sweep.name == "shots")


@pytest.fixture(scope="session")
def undisturbed(shots_sweep, tmp_path_factory):
    """The final reduction of the same sweep where nothing is killed."""
    with Client(f"sqlite:///{tmp_path_factory.mktemp('undisturbed')}") as client:
        return client.submit_plan(shots_sweep).result(timeout=120)


@pytest.fixture(params=["sqlite", "kafka"])
def url(request, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOTBUS__BROKER__PREFIX", f"fault-{uuid.uuid4().hex[:8]}.")
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data'}"
    kafka = request.getfixturevalue("kafka_address")
    return f"kafka://{kafka}?store={request.getfixturevalue('redis_url')}"


@pytest.fixture
def cluster(url, tmp_path):
    with Cluster(url, tmp_path / "logs", dict(os.environ)) as running:
        yield running


@pytest.fixture
def same_answer(undisturbed):
    def check(reduction):
        assert reduction.final
        assert reduction.failed == 0
        assert reduction.shots == undisturbed.shots
        assert reduction.points == undisturbed.points
        for name, expected in undisturbed.arrays.items():
            np.testing.assert_array_equal(reduction.arrays[name], expected, err_msg=name)

    return check
