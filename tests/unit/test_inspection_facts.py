"""Facts of circuits as records, in the store and in a machine's memory."""

import dataclasses

import pytest

from shotbus.broker.inspection.book import FactsBook, weight_of
from shotbus.broker.inspection.facts import decode_facts, encode_facts, facts_key, refused, usable_facts
from shotbus.broker.inspection.inline import InlineInspector, look_at
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import circuit_id
from shotbus.schemas.openqasm import CircuitLimits

LIMITS = CircuitLimits()
TEXTS = (
    "OPENQASM 3.0;",
    """include "stdgates.inc"; input float b; input float a; qubit[3] q; bit[2] c; bit d; rx(a) q[1];
    cx q[0], q[2]; if (d) { ctrl(2) @ x q[0], q[1], q[2]; } c = measure q[0:1];""",
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[4]; creg c[4]; h q; cx q[3],q[0]; measure q -> c;',
    "OPENQASM 3.0; nonsense",
    'include "/etc/passwd"; x q[9]; }',
)


def answer(text):
    return look_at(text.encode(), LIMITS)


@pytest.mark.parametrize("text", TEXTS)
def test_facts_and_refusals_survive_the_wire(text):
    inspected = answer(text)
    assert decode_facts(encode_facts(inspected)) == inspected
    assert inspected.circuit_id == circuit_id(text)
    assert (inspected.facts is None) == bool(inspected.problems)


async def test_the_inspector_without_a_process_gives_the_same_answers():
    inspector = InlineInspector(LIMITS)
    assert [await inspector.inspect(text.encode()) for text in TEXTS] == [answer(text) for text in TEXTS]
    await inspector.close()


def test_the_record_tells_the_cost_to_whoever_reads_it():
    record = decode(encode_facts(answer(TEXTS[2])), "circuit_facts")[1]
    assert record["statevector_cost"] == record["operations"] * 2**4
    assert record["edges"] == b"\x00\x00\x03\x00"


def test_only_the_same_circuit_as_seen_by_the_same_inspector_is_used_from_the_store():
    inspected = answer(TEXTS[1])
    raw, name = encode_facts(inspected), inspected.circuit_id
    assert usable_facts(raw, name) == inspected
    assert usable_facts(None, name) is None
    assert usable_facts(b"\0rubbish", name) is None
    assert usable_facts(raw, "another") is None
    record = decode(raw, "circuit_facts")[1]
    assert usable_facts(encode("circuit_facts", {**record, "inspector": 10**6}), name) is None
    assert facts_key(name) == f"facts:{name}"


def test_a_record_of_another_kind_is_refused():
    with pytest.raises(ShotbusError):
        decode_facts(encode("circuit", {"circuit_id": "", "language": "openqasm3", "text": ""}))


def numbered(number, **changes):
    inspected = answer(TEXTS[1])
    return dataclasses.replace(
        inspected, circuit_id=str(number), facts=dataclasses.replace(inspected.facts, **changes)
    )


def test_the_book_forgets_the_circuit_that_was_used_longest_ago():
    book = FactsBook(3)
    for number in range(3):
        book.put(numbered(number))
    assert book.get("0") is not None
    book.put(numbered(3))
    assert [number for number in range(4) if book.get(str(number))] == [0, 2, 3]


def test_the_book_is_bounded_in_bytes_too():
    heavy = numbered(0, packed_edges=bytes(16_384))
    assert weight_of(heavy.facts) > 16_384
    book = FactsBook(1_000, budget=10 * weight_of(heavy.facts))
    for number in range(100):
        book.put(dataclasses.replace(heavy, circuit_id=str(number)))
    assert len(book) == 10


def test_the_book_keeps_no_refusals():
    book = FactsBook()
    book.put(refused("name", "SB-1221"))
    assert (len(book), book.get("name")) == (0, None)
