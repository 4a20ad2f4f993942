"""The slow fault run: roles are killed again and again while sweeps go through; `make soak`."""

import random

import pytest

from shotbus import Client

from .test_kill import check_once_each

pytestmark = [pytest.mark.slow, pytest.mark.alone]
ROUNDS = 12


def again(cluster, name):
    """Start a killed role under the same name."""
    role = name.rpartition("-")[0]
    if role == "aer":
        cluster.worker(name)
    else:
        cluster.start(name, role)
    cluster.wait(name)


def test_roles_killed_again_and_again_lose_and_repeat_nothing(cluster, url, shots_sweep, same_answer):
    cluster.standard(pools=())
    draw = random.Random(20261121)
    names = sorted(cluster.roles)
    with Client(url) as client:
        for number in range(ROUNDS):
            # Another tenant each time, so that nothing is served from the cache.
            sweep = client.submit_plan(shots_sweep, tenant=f"round-{number}")
            victim = draw.choice(names)
            while (latest := sweep.partial()) is None or latest.done < draw.randint(1, 8):
                assert not (latest and latest.final), "the sweep ended before it could be disturbed"
            cluster.roles[victim].kill()
            again(cluster, victim)
            same_answer(sweep.result(timeout=120))
        check_once_each(client, ROUNDS * len(shots_sweep.jobs))
