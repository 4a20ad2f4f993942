"""The store is emptied, Redis and Kafka are killed and come back: the H2 job ends with the same numbers."""

import pytest

from shotbus import Client

from .job import Job

pytestmark = pytest.mark.alone


def test_a_store_that_is_emptied_in_mid_run_breaks_nothing(cluster, url, plan, undisturbed):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("shots", 2)
        client._loop.run(client._client.session.store.clear())
        assert "shots" in job.under_way()
        job.ends_like(undisturbed)
        job.shown(["shots"])


@pytest.mark.parametrize("url", ["own"], indirect=True)
def test_the_curve_survives_sigkill_of_redis_and_goes_on_without_it(cluster, url, plan, undisturbed, own):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("shots", 2)
        own.kill("redis")
        job.wait("shots", job.came("shots") + 4)
        assert "shots" in job.under_way()
        own.start("redis")
        job.ends_like(undisturbed)
        job.shown(["shots"])


@pytest.mark.parametrize("url", ["own"], indirect=True)
def test_the_curve_survives_sigkill_of_kafka(cluster, url, plan, undisturbed, own):
    cluster.standard()
    with Client(url) as client:
        job = Job(client, plan)
        job.wait("shots", 2)
        own.kill("kafka")
        assert "shots" in job.under_way()
        own.start("kafka")
        job.ends_like(undisturbed)
        job.shown(["shots"])
