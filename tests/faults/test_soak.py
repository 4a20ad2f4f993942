"""The slow fault run: everything that has a process is killed in turn while H2 jobs go through; `make soak`.

Each victim dies ``SHOTBUS_SOAK_CYCLES`` times, in an order and at moments that follow from
``SHOTBUS_SOAK_SEED``.
"""

import os
import random

import pytest

from shotbus import Client

from .job import Job
from .victims import ChildVictim, ClusterVictim, RoleVictim, ServiceVictim, WorkerVictim

pytestmark = [pytest.mark.slow, pytest.mark.alone]
CYCLES = int(os.environ.get("SHOTBUS_SOAK_CYCLES", "2"))
SEED = int(os.environ.get("SHOTBUS_SOAK_SEED", "20261121"))


def victims_of(cluster, services):
    found = [RoleVictim(cluster, name) for name in cluster.roles if name.startswith(("disp", "red"))]
    found += [WorkerVictim(cluster, "aer-0", "aer"), WorkerVictim(cluster, "aer-1", "aer")]
    # Twice, as it has four points to die at and no twin.
    found += [WorkerVictim(cluster, "classical-0", "classical")] * 2
    found += [ChildVictim(cluster, "aer-0", "shots"), ChildVictim(cluster, "classical-0", "diagonalisation")]
    found += [ServiceVictim(services, kind) for kind in ("kafka", "redis") if services]
    return [*found, ClusterVictim(cluster)]


@pytest.mark.parametrize("url", ["sqlite", "own"], indirect=True)
def test_what_is_killed_again_and_again_loses_and_repeats_nothing(cluster, url, plan, undisturbed, request):
    cluster.standard()
    services = request.getfixturevalue("own") if url.startswith("kafka") else None
    victims, draw = victims_of(cluster, services), random.Random(SEED)
    rounds = [victim for _ in range(CYCLES) for victim in draw.sample(victims, len(victims))]
    with Client(url) as client:
        for number, victim in enumerate(rounds):
            victim.prepare(draw)
            # Another tenant each time, so that nothing is served from the cache.
            job = Job(client, plan, tenant=f"round-{number}")
            print(f"round {number}: {victim}")
            victim.kill(job)
            hit = job.under_way()
            assert hit, "the job ended before it could be disturbed"
            victim.revive()
            attempts = job.ends_like(undisturbed)
            job.shown(hit)
            print(f"round {number}: attempts after the first {repeated(attempts)}")
            victim.check(attempts)


def repeated(attempts):
    return {sweep: sum(attempt - 1 for attempt in found) for sweep, found in attempts.items()}
