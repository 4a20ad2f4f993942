"""The two lists of bad input that reach a broker on the bus: what each is refused with, and where it is stopped.

docs/bad-input.md shows these tables, and the suites test_bad_avro.py and test_bad_circuits.py send every item through a whole broker.
"""

import functools
from typing import NamedTuple

import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from avro_values import request_fields
from hostile_avro import HOSTILE

from shotbus.schemas.pub import Bindings, PauliSums, pack_bindings, pack_observables

DECODER, DOOR, READER = "decoder: dead letter", "door: refusal", "Kafka reader: dead letter"
CLIENT, INSPECTION, WORKER = "client", "inspection: refusal", "worker: failed job"


class BadRecord(NamedTuple):
    """A record on ``requests.experiment``: its value (None: the request that the test makes), its headers."""

    code: str
    where: str
    value: bytes | None = b""
    headers: tuple = ()
    kafka_only: bool = False


def hostile(name):
    value, record, code = HOSTILE[name]
    assert record == "circuit_request"
    return BadRecord(code, DECODER, value)


def with_headers(code, *headers):
    return BadRecord(code, DOOR, value=..., headers=headers)


AVRO = {
    "empty": hostile("empty"),
    "wrong magic": hostile("wrong magic"),
    "unknown schema id": hostile("unknown schema id"),
    "truncated": hostile("truncated"),
    "trailing bytes": hostile("trailing bytes"),
    "union index −1": hostile("union index -1"),
    "union index 9": hostile("union index 9"),
    "enum −1": hostile("enum index -1 of a request"),
    "over-long varint": hostile("over-long varint"),
    "varint without end": hostile("endless varint"),
    "string of length 2^62": hostile("string of length 2^62"),
    "string of negative length": hostile("string of negative length"),
    "array of 2e9 items": hostile("array of 2e9 items"),
    "array of −2e9 items": hostile("array of -2e9 items"),
    "recursive, 5,000 deep": hostile("5,000 records in each other"),
    "container file bomb": hostile("container file"),
    "container file bomb behind a frame": hostile("container file behind a frame"),
    "invalid UTF-8": hostile("invalid UTF-8"),
    "boolean byte 7": hostile("boolean byte 7 of a request"),
    "one byte over the size cap": BadRecord("SB-1003", DECODER, bytes(262_145)),
    "compressed bytes": hostile("compressed bytes"),
    "compressed batch bomb": BadRecord("SB-1003", READER, kafka_only=True),
    "pickle bytes": hostile("pickle"),
    "pickle bytes behind a frame": hostile("pickle behind a frame"),
    "null value": hostile("null"),
    "huge headers": with_headers("SB-1007", ("x" * 200, bytes(60_000))),
    "500 headers": with_headers("SB-1007", *((f"h{n}", b"") for n in range(500))),
    "duplicate headers": with_headers("SB-1008", ("priority", b"experiment"), ("priority", b"experiment")),
    "non-ASCII header name": with_headers("SB-1009", ("ключ", b"1")),
    "header name that is no text": BadRecord("SB-1009", DOOR, value=..., kafka_only=True),
    "non-ASCII header value": with_headers("SB-1009", ("traceparent", b"\xff\xfe" * 500)),
    "header priority that contradicts the body": with_headers("SB-1010", ("priority", b"interactive")),
    "header tenant that contradicts the body": with_headers("SB-1010", ("tenant", b"mallory")),
}

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n'
HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\n'
MEASURE = "c = measure q;\n"
ONE = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float[64] a;\nqubit[1] q;\nbit[1] c;\nrx(a) q[0];\nc[0] = measure q[0];\n'
DOUBLING = "gate g0 a { U(0, 0, 0) a; } " + " ".join(
    f"gate g{n + 1} a {{ g{n} a; g{n} a; }}" for n in range(29)
)
MID_CIRCUIT = HEAD + "bit b;\nh q[0];\nb = measure q[0];\nif (b) x q[1];\n"


class BadCircuit(NamedTuple):
    """A circuit with what goes along: ``client`` False is what the client cannot know."""

    code: str
    text: str
    where: str = INSPECTION
    bindings: Bindings | None = None
    fields: dict = {}
    client: bool = True


def bound(*names):
    return Bindings(names, np.zeros((1, len(names))))


def exact(label):
    observables = pack_observables(PauliSums.from_terms([[(label, 1.0)]]))
    return {"mode": "estimate", "shots": 0, "observables": observables}


CIRCUITS = {
    "include of a file": BadCircuit("SB-1202", 'OPENQASM 3.0;\ninclude "/etc/passwd";\n'),
    "include of `../x`": BadCircuit("SB-1202", 'OPENQASM 2.0;\ninclude "../x";\n'),
    "include of `/dev/stdin`": BadCircuit("SB-1202", 'OPENQASM 3.0;\ninclude "/dev/stdin";\n'),
    "`qreg q[2000000000]`": BadCircuit("SB-1204", "OPENQASM 2.0;\nqreg q[2000000000];\n"),
    "`qreg q[0]`": BadCircuit("SB-1204", "OPENQASM 2.0;\nqreg q[0];\n"),
    "`qreg q[-1]`": BadCircuit("SB-1204", "OPENQASM 2.0;\nqreg q[-1];\n"),
    "doubling gates, 2^29": BadCircuit("SB-1205", HEAD_2 + DOUBLING + " g29 q[0];"),
    "recursive gate": BadCircuit("SB-1208", HEAD + "gate g a { g a; }\ng q[0];\n" + MEASURE),
    "20,000 qubits × 100 broadcast gates": BadCircuit(
        "SB-1204", "OPENQASM 2.0;\nqreg q[20000];\n" + "U(0,0,0) q;\n" * 100
    ),
    "990 qubits × 1,100 broadcast gates": BadCircuit(
        "SB-1205", "OPENQASM 2.0;\nqreg q[990];\n" + "U(0,0,0) q;\n" * 1100
    ),
    "10,000 nested parentheses": BadCircuit(
        "SB-1207", HEAD + f"rx({'(' * 10_000}1{')' * 10_000}) q[0];\n" + MEASURE
    ),
    "angle 1e999": BadCircuit("SB-1214", HEAD + "rx(1e999) q[0];\n" + MEASURE),
    "angle 1/0": BadCircuit("SB-1214", HEAD + "rx(1/0) q[0];\n" + MEASURE),
    "angle ln(−1)": BadCircuit("SB-1214", HEAD_2 + "rx(ln(-1)) q[0];\nmeasure q -> c;\n"),
    "100 nested ifs": BadCircuit("SB-1207", HEAD + "bit b;\n" + "if (b) { " * 100 + "x q[0];" + "}" * 100),
    "`for [0:10^12]`": BadCircuit("SB-1206", HEAD + "for int i in [0:1000000000000] { x q[0]; }\n" + MEASURE),
    "`while(true)`": BadCircuit("SB-1206", HEAD + "while (true) { x q[0]; }\n" + MEASURE),
    "unclosed comment of 1 MB": BadCircuit("SB-1203", HEAD + "/*" + "x" * 1_000_000),
    "index out of range": BadCircuit("SB-1211", HEAD + "x q[2];\n" + MEASURE),
    "duplicate qubit": BadCircuit("SB-1212", HEAD + "cx q[1], q[1];\n" + MEASURE),
    "measure into a missing register": BadCircuit("SB-1210", HEAD + "d = measure q;\n"),
    "unbound parameter": BadCircuit("SB-1301", ONE, WORKER),
    "parameter bound twice": BadCircuit("SB-1306", ONE, WORKER, bound("a", "a")),
    "parameter named `__class__`": BadCircuit(
        "SB-1213", ONE.replace(" a;", " __class__;").replace("(a)", "(__class__)")
    ),
    "value for a parameter named `__class__`": BadCircuit("SB-1302", ONE, WORKER, bound("a", "__class__")),
    "QPY": BadCircuit("SB-1200", "QISKIT\x0d\x01\x02\x00"),
    "unknown gate": BadCircuit("SB-1208", HEAD + "hadamard q[0];\n" + MEASURE),
    "too many qubits for every pool": BadCircuit(
        "SB-1116",
        'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[500] q;\nbit[500] c;\nh q;\nc = measure q;\n',
    ),
    "too deep for every pool": BadCircuit(
        "SB-1117", HEAD + "for int i in [1:500000] { h q[0]; }\n" + MEASURE
    ),
    "homoglyph gate name": BadCircuit("SB-1213", HEAD + "\N{CYRILLIC SMALL LETTER HA} q[0];\n" + MEASURE),
    "mid-circuit measurement in exact mode": BadCircuit(
        "SB-1215", MID_CIRCUIT, WORKER, fields=exact("ZZ"), client=False
    ),
    "no measurement, no observable": BadCircuit("SB-1218", HEAD + "h q[0];\n", WORKER),
    "a megabyte of calls of nothing": BadCircuit("SB-1210", HEAD + "x z;" * 250_000),
}


def raw_request(bad, **changes):
    """The request for a bad circuit as another language would publish it."""
    bindings = pack_bindings(bad.bindings) if bad.bindings is not None else b""
    fields = {"backend": "aer", "bindings": bindings, **bad.fields, **changes}
    return request_fields(**fields)


@functools.cache
def batch_bomb():
    """A batch of some kilobytes that unpacks to 200 MB, as Kafka takes it from a producer."""
    builder = DefaultRecordBatchBuilder(2, 4, 0, -1, -1, -1, 1 << 30)
    builder.append(0, 1_000, b"k", bytes(200_000_000), [])
    return bytes(builder.build())


def garbled_header(value):
    """A batch with one request whose header's name is no text in any encoding of ours."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 1_000, b"k", value, [("ab", b"1")])
    data = bytearray(bytes(builder.build()).replace(b"ab", b"\xff\xfe"))
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


def avro_rows():
    """Rows of the page's first table."""
    for item, bad in AVRO.items():
        where = f"{bad.where} (Kafka)" if bad.kafka_only and bad.where == DOOR else bad.where
        yield f"| {item} | {bad.code} | {where} |"


def circuit_rows():
    """Rows of the page's second table."""
    for item, bad in CIRCUITS.items():
        yield f"| {item} | {bad.code} | {'yes' if bad.client else 'no'} | {bad.where} |"


if __name__ == "__main__":
    print("\n".join([*avro_rows(), "", *circuit_rows()]))
