"""docs/circuits.md says what the code does: gates, limits, the fields of the record."""

import pathlib
import re

from shotbus.broker.config import Config
from shotbus.schemas.openqasm import CircuitLimits
from shotbus.schemas.openqasm_gates import BUILTIN_2, BUILTIN_3, QELIB1, QELIB1_EXTRA, STDGATES
from shotbus.schemas.openqasm_tally import MAX_EDGES, MAX_GATES
from shotbus.schemas.openqasm_tokens import KEYWORDS_2, KEYWORDS_3
from shotbus.schemas.registry import latest, raw_schema

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "circuits.md").read_text()


def row(begin):
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {begin}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_gates_of_both_libraries_are_listed():
    assert words(row("OpenQASM 3, `stdgates.inc`")[1]) == sorted(
        {gate.key for gate in (*STDGATES.values(), *BUILTIN_3.values())}
    )
    assert words(row("OpenQASM 2, `qelib1.inc`")[1]) == sorted(
        {gate.key for gate in (*QELIB1.values(), *QELIB1_EXTRA.values(), *BUILTIN_2.values())}
    )


def test_the_limits_are_those_that_hold():
    limits, config = CircuitLimits(), Config()
    told = {begin: row(begin)[1] for begin in ("text", "qubits", "classical bits", "operations, every")}
    wanted = (config.limits.max_circuit_bytes, limits.qubits, limits.clbits, limits.operations)
    assert [int(number) for number in told.values()] == list(wanted)
    assert limits.bytes == config.limits.max_circuit_bytes
    assert int(row("turns of a loop")[1]) == limits.operations
    assert int(row("nested blocks")[1]) == limits.nesting
    assert row("time of inspection")[1] == f"{config.inspection.seconds:g} second"
    assert row("memory of inspection")[1] == f"{config.inspection.memory_mb} MiB"
    assert str(MAX_GATES) in row("`gates`")[1]
    assert str(MAX_EDGES) in row("`edges`")[1]


def test_every_field_of_the_record_is_explained():
    fields = {field["name"] for field in raw_schema(latest("circuit_facts"))["fields"]}
    table = PAGE[PAGE.index("| field |") : PAGE.index("Names are those")]
    assert fields - {"circuit_id", "problems"} == set(words(table)) - {"openqasm3", "openqasm2", "if"}


def test_what_is_said_not_to_be_accepted_are_words_of_the_languages():
    (line,) = re.findall(r"^Not accepted:.*?\.$", PAGE, re.MULTILINE | re.DOTALL)
    assert set(words(line)) <= KEYWORDS_3 | KEYWORDS_2 | {"stretch", "opaque"}
