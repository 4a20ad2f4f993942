"""Every bad record, through a whole broker on either bus: set aside or refused with its code, and jobs go on."""

import time
import uuid

import pytest
from avro_values import PROGRAM, request_fields
from bad_input import AVRO, DOOR, batch_bomb, garbled_header
from bad_kit import SECONDS, answers, new_id, unharmed
from both_buses import BUSES, place_on
from embedded_kit import eventually

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.deadletters import PREFIX
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import partition_of

REQUESTS = "requests.experiment"
ONLY_KAFKA = pytest.mark.parametrize("place", [BUSES[1]], indirect=True)


@pytest.fixture(scope="module", params=BUSES)
def place(request, tmp_path_factory):
    yield from place_on(request, request.param, tmp_path_factory.mktemp("bad"), "noop")


@pytest.fixture(scope="module")
def client(place):
    with unharmed(place, "noop") as client:
        yield client


def still_works(client):
    assert client.submit(PROGRAM, shots=1, backend="noop").result(SECONDS).outcome == "succeeded"


def letters_from(place, start):
    return place.records("dead-letters")[start:]


@pytest.mark.parametrize(
    "item", [item for item, bad in AVRO.items() if bad.where != DOOR and not bad.kafka_only]
)
def test_a_bad_record_becomes_a_dead_letter_with_its_bytes(place, client, item):
    bad, mark, begin = AVRO[item], uuid.uuid4().hex.encode(), time.monotonic()
    place.publish((REQUESTS, 0, mark, bad.value, (("who", b"me"),)))
    mine = eventually(
        lambda: [one for one in place.records("dead-letters") if one.key == mark], seconds=SECONDS
    )
    assert time.monotonic() - begin < SECONDS
    ((letter),) = mine
    headers = dict(letter.headers)
    assert headers["error-code"].decode() == bad.code
    assert (letter.value or b"", headers["who"], headers["error-class"]) == (
        bad.value or b"",
        b"me",
        b"INVALID",
    )
    assert headers[f"{PREFIX}topic"].decode().endswith(REQUESTS)
    still_works(client)


@pytest.mark.parametrize(
    "item", [item for item, bad in AVRO.items() if bad.where == DOOR and not bad.kafka_only]
)
def test_a_request_with_bad_headers_is_refused(place, client, item):
    bad, job = AVRO[item], new_id()
    request = encode("circuit_request", request_fields(job_id=job))
    begin = time.monotonic()
    place.publish((REQUESTS, partition_of(job, place.partitions), b"k", request, bad.headers))
    ((record, told),) = eventually(lambda: answers(place, job), seconds=SECONDS)
    assert time.monotonic() - begin < SECONDS
    assert (record, set(told)) == ("refusal", {bad.code})
    still_works(client)


def test_a_request_of_another_language_is_told_all_its_unknown_options_at_once(place, client):
    job, odd = new_id(), {"optimisation_levle": "1", "shots_per_cal": "9", "method": "automatic"}
    request = encode("circuit_request", request_fields(job_id=job, options=odd))
    place.publish((REQUESTS, partition_of(job, place.partitions), b"k", request, ()))
    ((record, told),) = eventually(lambda: answers(place, job), seconds=SECONDS)
    assert (record, told) == ("refusal", ["SB-1119"] * 2)
    still_works(client)


def send_batch(place, partition, batch):
    """Send a batch as it is, as any program can that speaks Kafka's protocol."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.protocol.produce import ProduceRequest

    async def work(bus, topics):
        topic = topics.name(REQUESTS)
        client = AIOKafkaClient(bootstrap_servers=place.url.removeprefix("kafka://").partition("?")[0])
        await client.bootstrap()
        try:
            await client.set_topics([topic])
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
            answer = await client.send(node, request)
            assert answer.topics[0][1][0][1] == 0, answer
        finally:
            await client.close()

    place.on_bus(work)


@ONLY_KAFKA
def test_a_compressed_batch_bomb_becomes_a_dead_letter_with_the_batch(place, client):
    before, begin = len(place.records("dead-letters")), time.monotonic()
    send_batch(place, 0, batch_bomb())
    (letter,) = eventually(lambda: letters_from(place, before), seconds=SECONDS)
    assert time.monotonic() - begin < SECONDS
    assert dict(letter.headers)["error-code"].decode() == AVRO["compressed batch bomb"].code
    assert letter.value.endswith(batch_bomb()[61:])
    still_works(client)


@ONLY_KAFKA
def test_a_header_name_that_is_no_text_is_refused_and_the_partition_goes_on(place, client):
    job = new_id()
    request = encode("circuit_request", request_fields(job_id=job))
    send_batch(place, partition_of(job, place.partitions), garbled_header(request))
    ((record, told),) = eventually(lambda: answers(place, job), seconds=SECONDS)
    assert (record, told) == ("refusal", [AVRO["header name that is no text"].code])
    still_works(client)
