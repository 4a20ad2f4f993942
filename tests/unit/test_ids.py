"""Ids lead to partitions, the same in every language and for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.schemas.ids import circuit_id, digest, job_id, keyed_partition, murmur2, partition_of, route_of

# From Kafka's own UtilsTest.testMurmur2, made non-negative as toPositive does.
KAFKA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("data", KAFKA, ids=lambda data: data.decode())
def test_murmur2_is_kafkas(data):
    assert murmur2(data) == KAFKA[data] & 0x7FFFFFFF


def test_a_job_id_of_a_key_follows_from_tenant_session_and_key():
    first = job_id("t", session="s", idempotency_key="k")
    assert first == job_id("t", session="s", idempotency_key="k", entropy=bytes(12))
    others = {
        job_id("u", session="s", idempotency_key="k"),
        job_id("t", idempotency_key="k"),
        job_id("t", session="s", idempotency_key="l"),
    }
    assert first not in others
    assert len(others) == 3


def test_ids_on_the_wire_are_frozen():
    assert job_id("default", idempotency_key="key") == "71913e0b1c9bd5bb3f9e37ac464ed185"
    assert job_id("default", entropy=bytes(range(12))) == "32348956000102030405060708090a0b"
    assert digest("ab", "c").hex() == "4826ed043ab3cdec576d8541fa5d5a80"
    assert circuit_id("OPENQASM 3.0;\n") == "1ab41b2be4d7a99a983b0ee62a63b557ea08b99c859c1204d24523cbbdacb740"


def test_jobs_of_one_session_share_a_partition():
    routes = {route_of(job_id("t", session="s", entropy=bytes([n]) * 12)) for n in range(20)}
    assert len(routes) == 1


def test_jobs_without_session_spread_over_partitions():
    partitions = {partition_of(job_id("t", entropy=bytes([n]) * 12), 4) for n in range(40)}
    assert partitions == {0, 1, 2, 3}


def test_a_random_id_needs_its_randomness():
    with pytest.raises(ValueError, match="12 random bytes"):
        job_id("t", entropy=b"short")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 32,
        "0" * 31,
        "0" * 33,
        "0" * 31 + "\n",
        "A" * 32,
        "+" + "0" * 31,
        " " + "0" * 31,
        "0x" + "0" * 30,
        "0_0" + "0" * 29,
        "٣" * 32,
        "../" + "0" * 29,
    ],
)
def test_what_is_no_job_id_is_refused(text):
    with pytest.raises(ValueError, match="hex digits"):
        route_of(text)


@given(st.text(max_size=40), st.text(max_size=40), st.integers(1, 64))
def test_every_id_has_a_partition(tenant, key, partitions):
    tenant, key = (text.encode("utf-8", "replace").decode() for text in (tenant, key))
    one = job_id(tenant, idempotency_key=key, entropy=bytes(12))
    assert 0 <= partition_of(one, partitions) < partitions
    assert 0 <= keyed_partition(key, partitions) < partitions


def test_a_digest_keeps_its_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest("ab")
    assert digest("a") == digest(b"a")
