"""An embedded broker learns what runs take: where the next job goes, and what is too late."""

from itertools import count

from embedded_kit import BELL, Broker, eventually

from shotbus import Client
from shotbus.schemas.errors import ShotbusError

CONFIG = """
[pools.slow]
adapter = "sleep"
kind = "none"
slots = 1
[pools.fast]
adapter = "sleep"
kind = "none"
slots = 1
[[routing.rules]]
name = "either"
when = { experiments = ["either"] }
then = { pools = ["slow", "fast"], choose = "soonest" }
"""


def napping(client, pool, seconds, number, **wishes):
    """Submit a job that names its pool, or none."""
    options = {"seconds": str(seconds)}
    return client.submit(BELL, backend=pool, options=options, shots=1, seed=number, **wishes)


def refused(job):
    """The code that a job is refused with."""
    try:
        job.result(30)
    except ShotbusError as error:
        return error.problems[0].code
    return ""


def test_after_a_few_runs_a_job_goes_where_they_were_short_and_not_where_it_would_be_late(tmp_path):
    (tmp_path / "shotbus.toml").write_text(CONFIG)
    with Broker(tmp_path, "slow", "fast") as broker, Client(broker.url) as client:
        first = [napping(client, "slow", 1.0, number) for number in range(4)]
        first += [napping(client, "fast", 0.01, number) for number in range(8)]
        assert all(job.result(60).outcome == "succeeded" for job in first)
        # Routing looks at its pools now and then.
        numbers = count(50)
        eventually(lambda: refused(napping(client, "slow", 1.0, next(numbers), deadline=0.5)) == "SB-1152")
        either = napping(client, None, 0.01, 49, experiment="either")
        assert either.result(30).outcome == "succeeded"
        assert {one["pool"] for one in either.events() if one["pool"]} == {"fast"}
