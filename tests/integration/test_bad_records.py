"""Raw records as another language or an attacker would publish them: set aside or refused, and jobs go on."""

import json
import math
import os

import numpy as np
import pytest
from avro_values import request_fields
from embedded_kit import BELL, Broker, eventually, on_bus, records, shotbus

from shotbus import Client
from shotbus.broker.bus.base import Outgoing
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import circuit_id, job_id, partition_of
from shotbus.schemas.pub import Bindings, pack_bindings


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


def send(broker, value, *, topic="requests.experiment", key=None, headers=(), partition=0):
    async def publish(bus, topics):
        return await bus.publish([Outgoing(topics.name(topic), partition, key, value, headers)])

    return on_bus(broker.url, publish)


def publish_all(broker, requests):
    """Publish raw requests in one call, each on its partition."""

    async def publish(bus, topics):
        topic = topics.name(f"requests.{requests[0]['priority']}")
        return await bus.publish(
            [
                Outgoing(topic, partition_of(one["job_id"], 2), None, encode("circuit_request", one))
                for one in requests
            ]
        )

    return on_bus(broker.url, publish)


def letters(broker):
    return records(broker.url, "dead-letters")


@pytest.mark.parametrize("topic", ["outcomes", "control", "sweeps"])
def test_noise_on_other_topics_becomes_a_dead_letter_and_jobs_go_on(client, broker, topic):
    before = len(letters(broker))
    for noise in (None, b"", b"\0" * 40, b"\x80" * 100, encode("circuit_request", request_fields())):
        send(broker, noise, topic=topic)
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"
    eventually(lambda: len(letters(broker)) == before + 5)


def test_noise_on_results_deafens_nobody(client, broker):
    job = client.submit(BELL, shots=1, backend="noop", not_before=1.0)
    for noise in (None, b"", b"\0" * 40, b"noise"):
        for partition in range(2):
            send(broker, noise, topic="results", key=job.job_id.encode(), partition=partition)
    assert job.result(30).outcome == "succeeded"


def refused(broker, *, headers=(), **changes):
    """Publish a raw request; return code and place of the broker's answers to it."""
    fields = request_fields(**changes)
    before = len(refusals_of(broker, fields["job_id"]))
    partition = 0
    if len(fields["job_id"]) == 32 and fields["job_id"].isalnum():
        partition = partition_of(fields["job_id"], 2)
    send(broker, encode("circuit_request", fields), partition=partition, headers=headers)
    (told,) = eventually(lambda: refusals_of(broker, fields["job_id"])[before:])
    return {(problem["code"], problem["path"]) for problem in told["problems"]}


def refusals_of(broker, job):
    mine = [record for record in records(broker.url, "results") if record.key == job.encode()]
    return [fields for name, fields in (decode(record.value) for record in mine) if name == "refusal"]


def outcome_of(broker, job, *, problems=False):
    """Wait for a job's terminal result, on the bus itself."""

    def answer():
        found = [decode(one.value) for one in records(broker.url, "results") if one.key == job.encode()]
        return [fields for name, fields in found if name == "circuit_result"]

    fields = eventually(answer)[0]
    codes = [problem["code"] for problem in fields["problems"]]
    return (fields["outcome"], codes) if problems else fields["outcome"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"job_id": "../../etc/passwd"}, {"SB-1109": "$.job_id"}),
        ({"job_id": "x" * 10_000}, {"SB-1109": "$.job_id"}),
        ({"job_id": ""}, {"SB-1109": "$.job_id"}),
        ({"idempotency_key": "k"}, {"SB-1109": "$.job_id"}),
        ({"tenant": ""}, {"SB-1107": "$.tenant"}),
        ({"principal": "p" * 300, "tags": ["t"] * 40}, {"SB-1105": "$.principal"}),
        ({"priority": "bulk"}, {"SB-1101": "$.priority"}),
        ({"priority": "urgent"}, {"SB-1101": "$.priority"}),
        ({"shots": -1}, {"SB-1103": "$.shots"}),
        ({"shots": 2**62}, {"SB-1103": "$.shots"}),
        ({"points": 0}, {"SB-1305": "$.points"}),
        ({"points": -(2**31)}, {"SB-1305": "$.points"}),
        ({"seed": -1}, {"SB-1108": "$.seed"}),
        ({"deadline_ms": 1}, {"SB-1104": "$.deadline"}),
        ({"deadline_ms": 2**62}, {"SB-1108": "$.deadline"}),
        ({"mode": "estimate"}, {"SB-1107": "$.observables"}),
        ({"backend": "nowhere"}, {"SB-1102": "$.backend"}),
        ({"backend": "classical"}, {"SB-1110": "$.mode"}),
        (
            {"backend": "nowhere", "shots": -1, "points": 0, "deadline_ms": 1, "seed": -5},
            {
                "SB-1102": "$.backend",
                "SB-1103": "$.shots",
                "SB-1305": "$.points",
                "SB-1104": "$.deadline",
                "SB-1108": "$.seed",
            },
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_valid_avro_with_wrong_content_is_refused_with_all_its_problems(client, broker, changes, expected):
    found = refused(broker, **changes)
    assert expected.items() <= found
    assert {code for code, _ in found} == set(expected)
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"


QUBIT = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float theta;\nqubit[1] q;\nbit[1] c;\nrx(theta) q[0];\nc[0] = measure q[0];\n'


@pytest.mark.parametrize(
    ("bindings", "points", "codes"),
    [
        (Bindings(("theta",), np.array([[math.nan]])), 1, ["SB-1303"]),
        (Bindings(("theta",), np.array([[0.5]])), 7, ["SB-1304"]),
        (Bindings(("phi",), np.array([[0.5]])), 1, ["SB-1301", "SB-1302"]),
        (b"no bindings", 1, ["SB-1004"]),
    ],
    ids=["NaN", "points that are not there", "another parameter", "noise"],
)
def test_wrong_bindings_fail_their_own_job_and_none_of_its_bundle(client, broker, bindings, points, codes):
    """They share a circuit and are sent in one batch, so that they come to the worker as one bundle."""
    client.submit(QUBIT, {"theta": 0.1}, shots=5, backend="aer").result(60)
    data = bindings if isinstance(bindings, bytes) else pack_bindings(bindings)
    common = {"backend": "aer", "circuit_id": circuit_id(QUBIT), "shots": 20, "priority": "bulk"}
    ids = [job_id("tenant-", session="bundle", entropy=os.urandom(12)) for _ in range(6)]
    good = pack_bindings(Bindings(("theta",), np.array([[0.3]])))
    requests = [
        request_fields(**common, session_id="bundle", job_id=one, bindings=good, points=1) for one in ids
    ]
    requests[2] |= {"bindings": data, "points": points}
    publish_all(broker, requests)
    outcomes = [outcome_of(broker, one, problems=True) for one in ids]
    assert outcomes.pop(2) == ("failed", codes)
    assert outcomes == [("succeeded", [])] * 5


def test_a_repeated_key_with_another_payload_is_refused_whatever_hash_the_record_claims(broker):
    name = job_id("tenant-", idempotency_key="claimed")
    keyed = {"job_id": name, "idempotency_key": "claimed", "payload_hash": b"\1" * 16}
    publish_all(broker, [request_fields(**keyed)])
    assert outcome_of(broker, name) == "succeeded"
    assert refused(broker, **keyed, shots=11) == {("SB-1106", "$.idempotency_key")}


def test_a_dead_letter_keeps_hostile_headers_and_the_command_shows_them(broker):
    before = len(letters(broker))
    headers = (("a", b"1"), ("a", b"2"), ("redrive-count", b"many"), ("bin", b"\xff\x00"))
    send(broker, b"not avro", headers=headers)
    record = eventually(lambda: letters(broker)[before:])[-1]
    assert [header for header in record.headers if header in headers] == list(headers)
    words = ("dlq", "list", "--letters", "--json", "--data", broker.directory)
    code, out, _ = shotbus(*words, cwd=broker.directory)
    assert code == 0
    assert json.loads(out)[-1]["redriven"] == "0"


def test_a_request_on_the_wrong_partition_is_relayed(broker):
    for number in range(4):
        fields = request_fields(job_id=job_id("tenant-", entropy=bytes([number + 7]) * 12))
        wrong = 1 - partition_of(fields["job_id"], 2)
        send(broker, encode("circuit_request", fields), partition=wrong)
        assert outcome_of(broker, fields["job_id"]) == "succeeded"


def test_malformed_ids_in_control_records_are_no_poison(client, broker):
    before = len(letters(broker))
    control = {"target": "job", "tenant": "t", "principal": "", "correlation": "", "reason": "", "at_us": 0}
    for command in ("cancel", "locate"):
        for name in ("", "../x", "z" * 32, "x" * 100_000):
            send(broker, encode("control", control | {"command": command, "name": name}), topic="control")
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"
    assert len(letters(broker)) == before


def test_a_circuit_that_nobody_sent_is_refused_with_a_code(broker):
    job = job_id("tenant-", entropy=b"unknown circ")
    assert refused(broker, job_id=job, circuit_id=circuit_id("never sent"), backend="aer") == {
        ("SB-1219", "$.circuit")
    }
