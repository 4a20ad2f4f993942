"""SIGKILL of the worker before, during and after it submits to a provider that bills: one bill a job, all end.

The provider's own ledger is the witness. ``SHOTBUS_SOAK_KILLS`` kills, 50 by default, in the slow version
(`make soak`); moments follow from ``SHOTBUS_SOAK_SEED``.
"""

import os
import random
import signal
import time
from collections import Counter

import pytest
from embedded_kit import BELL, eventually
from provider_kit import Provider
from remote_kit import ended, write_config

from shotbus import Client
from shotbus.deploy.cluster import Cluster

pytestmark = pytest.mark.alone
KILLS = int(os.environ.get("SHOTBUS_SOAK_KILLS", "50"))
SEED = int(os.environ.get("SHOTBUS_SOAK_SEED", "20261121"))
MOMENTS = ("before", "during", "during, for long", "accepted", "done", "any")


@pytest.fixture
def provider(tmp_path):
    with Provider(tmp_path / "provider", "--latency-seconds", 0.3) as running:
        yield running


@pytest.fixture
def cluster(url, provider, tmp_path, monkeypatch):
    write_config(tmp_path / "roles", provider, lease=2)
    monkeypatch.chdir(tmp_path / "roles")
    with Cluster(url, tmp_path / "logs") as running:
        running.start("dispatcher", "dispatcher")
        running.start("reducer", "reducer")
        running.wait("dispatcher", "reducer")
        yield running


def job_at(provider, job):
    """How the provider has a job now; empty when it has none."""
    status, told, _ = provider.ask("GET", f"/v1/jobs?token={job.job_id}.0")
    return told["job"]["status"] if status == 200 else ""


def strike(provider, moment, draw, submit):
    """Submit a job and return it at a moment of its life at the provider."""
    provider.clear()
    if moment.startswith("during"):
        provider.plan("hang", times=1, seconds=5.0 if moment.endswith("long") else 0.4)
    job = submit()
    if moment.startswith("during"):
        eventually(lambda: provider.bites()["hang"] or job_at(provider, job))
    elif moment == "accepted":
        eventually(lambda: job_at(provider, job))
    elif moment == "done":
        eventually(lambda: job_at(provider, job) == "done")
    else:
        time.sleep(draw.uniform(0, 0.1 if moment == "before" else 1.0))
    return job


def killed_again_and_again(cluster, provider, client, moments, draw):
    """Kill a worker at each of the moments; return all jobs, and how many each moment cut short."""
    jobs, cut = [], Counter()
    for number, moment in enumerate(moments):
        name = f"victim-{number}"
        cluster.worker(name, "qpu")
        cluster.wait(name)

        def submit():
            return client.submit(BELL, shots=20, backend="qpu")

        job = strike(provider, moment, draw, submit)
        cluster.roles[name].process.send_signal(signal.SIGKILL)
        cluster.roles.pop(name).kill()
        cut[moment] += not job.done()
        jobs.append(job)
    provider.clear()
    return jobs, cut


def check(cluster, provider, client, moments):
    jobs, cut = killed_again_and_again(cluster, provider, client, moments, random.Random(SEED))
    cluster.worker("heir", "qpu")
    cluster.wait("heir")
    assert [ended(job, 120) for job in jobs] == [("succeeded", [])] * len(jobs)
    assert provider.billings() == {job.job_id: 1 for job in jobs}
    tokens = [row["token"] for row in provider.ledger() if row["kind"] == "billed"]
    assert len(tokens) == len(set(tokens)) == len(jobs)
    print(f"{len(jobs)} kills, cut short {dict(cut)}, bills {len(tokens)}")
    return cut


def test_a_worker_killed_at_each_moment_of_a_submission_bills_no_job_twice(cluster, provider):
    with Client(cluster.url) as client:
        cut = check(cluster, provider, client, MOMENTS)
    assert all(cut[moment] for moment in MOMENTS[:4]), cut


@pytest.mark.slow
def test_a_worker_killed_again_and_again_around_its_submissions_bills_no_job_twice(cluster, provider):
    moments = random.Random(SEED).choices(MOMENTS, k=KILLS)
    with Client(cluster.url) as client:
        cut = check(cluster, provider, client, moments)
    assert cut.total() >= KILLS / 2, cut
