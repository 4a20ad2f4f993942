"""Credits: what is free is what was granted less what is in flight, at workers that are alive and ready."""

import pytest

from shotbus.broker.dispatcher.credits import SILENT_SECONDS, CreditBook


def advert(name="w1", *, pool="aer", state="ready", partitions=(3,), role="worker", **grants):
    return {
        "role": role,
        "name": name,
        "pool": pool,
        "state": state,
        "partitions": list(partitions),
        "grants": {"d1": 2} | grants,
    }


def book(*adverts, heard=100.0):
    found = CreditBook("d1")
    for number, fields in enumerate(adverts):
        found.learn(b"%d" % number, fields, heard)
    return found


def free(credit_book, *loads, now=100.0):
    return {
        (pool, one.worker): one.bundles
        for pool, credits_ in credit_book.free(loads, now).items()
        for one in credits_
    }


def test_everything_granted_is_free_at_first():
    found = book(advert(), advert("w2", pool="noop", d1=5))
    assert free(found) == {("aer", "w1"): 2, ("noop", "w2"): 5}


def test_what_all_shards_of_the_process_have_in_flight_is_not_free():
    assert free(book(advert(d1=4)), {("aer", "w1"): 1}, {("aer", "w1"): 2}) == {("aer", "w1"): 1}


@pytest.mark.parametrize("used", [2, 3])
def test_a_worker_with_nothing_free_is_absent_even_when_a_grant_shrank(used):
    assert free(book(advert()), {("aer", "w1"): used}) == {}


def test_load_at_another_pool_of_the_same_worker_does_not_count():
    assert free(book(advert()), {("noop", "w1"): 2}) == {("aer", "w1"): 2}


def test_grants_to_other_dispatchers_are_not_ours():
    fields = advert() | {"grants": {"d2": 9}}
    assert free(book(fields)) == {}


@pytest.mark.parametrize(
    "fields", [advert(state="draining"), advert(partitions=()), advert(role="dispatcher")], ids=str
)
def test_only_ready_workers_with_a_partition_get_work(fields):
    assert free(book(fields)) == {}


def test_a_silent_worker_gets_nothing():
    found = book(advert())
    assert free(found, now=100.0 + SILENT_SECONDS - 0.1) != {}
    assert free(found, now=100.0 + SILENT_SECONDS) == {}


def test_a_withdrawn_advertisement_is_forgotten():
    found = book(advert())
    found.learn(b"0", None, 101.0)
    found.learn(b"never heard of", None, 101.0)
    assert free(found) == {}


def test_a_workers_partitions_take_turns():
    found = book(advert(partitions=(1, 4, 6)))
    assert sorted(found.free([], 100.0)["aer"][0].partition for _ in range(3)) == [1, 4, 6]
