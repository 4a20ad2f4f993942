"""A budget of backend time on a real embedded broker: cold, with more jobs at once than it covers."""

import pytest
from cli_kit import told
from embedded_kit import BELL, Broker, eventually

from shotbus import Client, RefusedError

LIMIT = 2.5
CONFIG = f"""
[pools.lab]
adapter = "sleep"
slots = 4
attempt_seconds = 1.0
[budgets.lab]
tenant = "*"
resource = "backend_seconds"
limit = {LIMIT}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bound") / "data"
    folder.mkdir(parents=True)
    (folder / "shotbus.toml").write_text(f'[broker]\nurl = "sqlite:///{folder}"\n{CONFIG}')
    with Broker(folder, "lab"):
        yield folder


def spent(folder):
    return max(one["units"]["spent"] for one in told(folder, "budget")["budgets"]) / 1e6


def ended(job):
    """Why a job was refused, empty when it ran."""
    try:
        job.result(30)
    except RefusedError as error:
        return str(error)
    return ""


def test_jobs_that_take_longer_than_a_cold_pool_expects_never_spend_more_than_the_limit(folder):
    with Client(f"sqlite:///{folder}") as client:
        jobs = [
            client.submit(BELL, shots=1, backend="lab", seed=number, options={"seconds": "0.3"})
            for number in range(12)
        ]
        looks = [spent(folder) for _ in range(3)]
        reasons = [ended(job) for job in jobs]
    refused = [why for why in reasons if why]
    assert 0 < len(refused) < 12

    def is_told():
        # What shards have spent reaches the Treasury about a second later.
        looks.append(spent(folder))
        return looks[-1] >= 0.3 * (12 - len(refused))

    eventually(is_told)
    assert max(looks) <= LIMIT
    assert all("$.budgets.lab" in why and "1 s backend_seconds wanted" in why for why in refused)
    assert told(folder, "verify")["violations"] == []
