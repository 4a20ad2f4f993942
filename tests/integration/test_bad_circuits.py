"""Every bad circuit, from the client and behind its back through a whole broker: refused with its code, and jobs go on."""

import pathlib
import time

import pytest
from bad_input import CIRCUITS, INSPECTION, avro_rows, circuit_rows, raw_request
from bad_kit import SECONDS, answers, new_id, unharmed
from both_buses import place_on
from edge_kit import codes
from embedded_kit import BELL, eventually, published

from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, keyed_partition, partition_of

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"


@pytest.fixture(scope="module")
def place(request, tmp_path_factory):
    yield from place_on(request, "sqlite", tmp_path_factory.mktemp("bad"), "noop", "aer")


@pytest.fixture(scope="module")
def client(place):
    with unharmed(place, "noop", "aer") as client:
        yield client


def bindings_of(item):
    if item != "parameter bound twice":
        return CIRCUITS[item].bindings
    from qiskit.circuit import Parameter

    # A mapping has each key once; the object and its name are one parameter.
    return {"a": 0.0, Parameter("a"): 0.0}


@pytest.mark.parametrize("item", [item for item, bad in CIRCUITS.items() if bad.client])
def test_the_client_refuses_it_at_once_and_publishes_nothing(place, client, item):
    bad, bindings, before = CIRCUITS[item], bindings_of(item), published(place.url)
    begin = time.process_time()
    assert bad.code in codes(client.submit, bad.text, bindings, shots=5, backend="aer")
    assert time.process_time() - begin < 2
    assert published(place.url) == before


@pytest.mark.parametrize("item", CIRCUITS)
def test_the_broker_refuses_it_behind_the_client_s_back(place, client, item):
    bad, job, name = CIRCUITS[item], new_id(), circuit_id(CIRCUITS[item].text)
    language = "openqasm2" if "OPENQASM 2" in bad.text else "openqasm3"
    circuit = {"circuit_id": name, "language": language, "text": bad.text, "family": "", "family_version": ""}
    request = encode("circuit_request", raw_request(bad, job_id=job, circuit_id=name))
    home, shard = keyed_partition(name, place.partitions), partition_of(job, place.partitions)
    begin = time.monotonic()
    place.publish(
        ("circuits", home, name.encode(), encode("circuit", circuit), ()),
        ("requests.experiment", shard, b"k", request, ()),
    )
    ((record, told),) = eventually(lambda: answers(place, job), seconds=SECONDS)
    assert time.monotonic() - begin < SECONDS
    assert bad.code in told
    assert record == ("refusal" if bad.where == INSPECTION else "circuit_result")
    assert client.submit(BELL, shots=1, backend="noop").result(SECONDS).outcome == "succeeded"


def test_the_page_shows_every_item_as_it_was_tested():
    lines = PAGE.read_text().splitlines()
    assert [row for row in (*avro_rows(), *circuit_rows()) if row not in lines] == []
