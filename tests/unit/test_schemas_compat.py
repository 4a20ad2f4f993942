"""Schemas on disk: frozen ids, and every version readable as its record's kind demands."""

import io
from importlib import resources

import fastavro
import pytest

from shotbus.schemas import registry
from shotbus.schemas.compat import check_versions, why_unreadable
from shotbus.schemas.registry import IDS, SchemaKey, compatibility, raw_schema

# Append only. An id on the wire means this record and version for ever.
GOLDEN = {
    1001: ("circuit", 1),
    1002: ("circuit_request", 1),
    1003: ("work_bundle", 1),
    1004: ("outcome", 1),
    1005: ("circuit_result", 1),
    1006: ("refusal", 1),
    1007: ("located", 1),
    1008: ("job_row", 1),
    1009: ("ledger_page", 1),
    1010: ("event_batch", 1),
    1011: ("control", 1),
    1012: ("pool_status", 1),
    1013: ("sweep_command", 1),
    1014: ("sweep_reduction", 1),
    1015: ("fold_row", 1),
    1016: ("status_document", 1),
    1017: ("located", 2),
    1018: ("job_row", 2),
    1019: ("circuit_request", 2),
    1020: ("control", 2),
    1021: ("pool_status", 2),
    1022: ("outcome", 2),
    1023: ("work_bundle", 2),
    1024: ("circuit_result", 2),
    1025: ("event_batch", 2),
    1026: ("located", 3),
    1027: ("job_row", 3),
    1028: ("revocation", 1),
    1030: ("circuit_facts", 1),
    1031: ("treasury_command", 1),
    1032: ("grant", 1),
    1033: ("treasury_row", 1),
    1034: ("audit_entry", 1),
    1036: ("recalled", 1),
    1037: ("packed_job", 1),
    1038: ("revocation", 2),
    1039: ("place", 1),
    1040: ("pool_status", 3),
    1041: ("located", 4),
    1042: ("treasury_row", 2),
    1044: ("job_row", 4),
    1043: ("work_bundle", 3),
    1045: ("treasury_row", 3),
    1050: ("calibration", 1),
    1055: ("template", 1),
    1056: ("circuit_request", 3),
}
RECORDS = sorted({key.name for key in IDS.values()})


def record(*fields, name="R"):
    return {"type": "record", "name": name, "fields": list(fields)}


def of(kind, **more):
    return {"name": "f", "type": kind, **more}


def enum(*symbols, **more):
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


#: (what, older, newer, older reads newer, newer reads older)
CHANGES = [
    ("nothing", record(of("int")), record(of("int")), True, True),
    ("a field added with a default", record(), record(of("int", default=1)), True, True),
    ("a field added without a default", record(), record(of("int")), True, False),
    ("a field removed that had a default", record(of("int", default=1)), record(), True, True),
    ("a field removed that had none", record(of("int")), record(), False, True),
    ("a field renamed", record(of("int")), record({"name": "g", "type": "int"}), False, False),
    (
        "a field renamed with an alias",
        record(of("int")),
        record({"name": "g", "type": "int", "aliases": ["f"]}),
        False,
        True,
    ),
    ("int widened to long", record(of("int")), record(of("long")), False, True),
    ("float widened to double", record(of("float")), record(of("double")), False, True),
    ("long narrowed to int", record(of("long")), record(of("int")), True, False),
    ("string turned to bytes", record(of("string")), record(of("bytes")), True, True),
    ("string turned to int", record(of("string")), record(of("int")), False, False),
    ("made optional", record(of("int")), record(of(["null", "int"])), False, True),
    ("made mandatory", record(of(["null", "int"])), record(of("int")), True, False),
    (
        "a branch added",
        record(of(["null", "int"])),
        record(of(["null", "int", "string"])),
        False,
        True,
    ),
    ("a symbol added", record(of(enum("a"))), record(of(enum("a", "b"))), False, True),
    (
        "a symbol added and a default for it",
        record(of(enum("a", default="a"))),
        record(of(enum("a", "b", default="a"))),
        True,
        True,
    ),
    ("a symbol removed", record(of(enum("a", "b"))), record(of(enum("a"))), True, False),
    (
        "items changed",
        record(of({"type": "array", "items": "int"})),
        record(of({"type": "array", "items": "string"})),
        False,
        False,
    ),
    (
        "values widened",
        record(of({"type": "map", "values": "int"})),
        record(of({"type": "map", "values": "long"})),
        False,
        True,
    ),
    (
        "a nested field added without a default",
        record(of(record(name="N"))),
        record(of(record(of("int"), name="N"))),
        True,
        False,
    ),
    (
        "a fixed of another size",
        record(of({"type": "fixed", "name": "F", "size": 4})),
        record(of({"type": "fixed", "name": "F", "size": 8})),
        False,
        False,
    ),
    ("the record renamed", record(name="R"), record(name="S"), False, False),
]


def versions(name):
    keys = sorted(key for key in IDS.values() if key.name == name)
    return [raw_schema(key) for key in keys]


def test_ids_on_the_wire_are_frozen():
    assert {number: tuple(key) for number, key in IDS.items()} == GOLDEN


def test_every_schema_file_is_registered_and_every_registered_schema_has_its_file():
    folder = resources.files("shotbus.schemas") / "avro"
    files = sorted(file.name for file in folder.iterdir())
    assert files == sorted(f"{key.name}.v{key.version}.avsc" for key in IDS.values())


@pytest.mark.parametrize("name", RECORDS)
def test_versions_of_a_record_are_numbered_from_one_without_a_gap(name):
    numbers = sorted(key.version for key in IDS.values() if key.name == name)
    assert numbers == list(range(1, len(numbers) + 1))
    assert registry.latest(name) == SchemaKey(name, numbers[-1])


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_compatible_with_all_its_earlier_versions(name):
    assert check_versions(compatibility(name), versions(name)) == []


@pytest.mark.parametrize("name", ["job_row", "packed_job", "ledger_page", "fold_row", "treasury_row"])
def test_rows_of_the_ledger_are_read_by_older_and_newer_processes(name):
    assert compatibility(name) == "FULL_TRANSITIVE"


@pytest.mark.parametrize(
    ("older", "newer", "forward", "backward"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_resolution_rules(older, newer, forward, backward):
    assert (why_unreadable(older, newer) == []) is forward
    assert (why_unreadable(newer, older) == []) is backward
    assert (check_versions("BACKWARD_TRANSITIVE", [older, newer]) == []) is backward
    assert (check_versions("FULL_TRANSITIVE", [older, newer]) == []) is (forward and backward)


@pytest.mark.parametrize(
    ("older", "value", "newer"),
    [
        (record(), {}, record(of("int"))),
        (record(of("string")), {"f": "x"}, record(of("int"))),
        (record(of(["null", "int"])), {"f": None}, record(of("int"))),
        (record(of(enum("a", "b"))), {"f": "b"}, record(of(enum("a")))),
        (
            record(of({"type": "array", "items": "int"})),
            {"f": [7]},
            record(of({"type": "array", "items": "string"})),
        ),
    ],
    ids=["no default", "type", "null", "symbol", "items"],
)
def test_what_the_checker_refuses_breaks_the_reader_too(older, value, newer):
    assert why_unreadable(newer, older)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, older, value)
    stream.seek(0)
    with pytest.raises((fastavro.read.SchemaResolutionError, ValueError)):
        fastavro.schemaless_reader(stream, older, newer)


def test_a_field_without_default_planted_in_a_real_record_is_found():
    older = raw_schema(SchemaKey("circuit_request", 1))
    newer = {**older, "fields": [*older["fields"], {"name": "colour", "type": "string"}]}
    (problem,) = check_versions("BACKWARD_TRANSITIVE", [older, newer])
    assert problem == "version 2 cannot read version 1: $.colour: was not written and has no default"


def test_a_field_taken_from_a_ledger_row_is_found_by_the_older_process():
    older = raw_schema(SchemaKey("job_row", 1))
    newer = {**older, "fields": [one for one in older["fields"] if one["name"] != "tenant"]}
    (problem,) = check_versions("FULL_TRANSITIVE", [older, newer])
    assert problem == "version 1 cannot read version 2: $.tenant: was not written and has no default"


def test_compatibility_is_transitive_over_a_version_in_between():
    first, second, third = record(of("int")), record(of("int", default=0)), record(of("string"))
    problems = check_versions("BACKWARD_TRANSITIVE", [first, second, third])
    assert [problem.partition(":")[0] for problem in problems] == [
        "version 3 cannot read version 1",
        "version 3 cannot read version 2",
    ]


def test_a_recursive_schema_is_compared_without_end():
    tree = record(of({"type": "array", "items": "R"}))
    assert why_unreadable(tree, tree) == []


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="SIDEWAYS"):
        check_versions("SIDEWAYS", [])


def takes_bytes(schema, named, above=()):
    """Whether every value of a schema takes a byte at least; fails for one that contains itself."""
    if isinstance(schema, list):
        return all(takes_bytes(branch, named, above) or branch == "null" for branch in schema)
    if isinstance(schema, str):
        return schema != "null" if schema not in named else takes_bytes(named[schema], named, above)
    if schema["type"] == "record":
        assert schema["name"] not in above, f"{schema['name']} contains itself"
        named[schema["name"]] = schema
        inside = (*above, schema["name"])
        fields = [takes_bytes(field["type"], named, inside) for field in schema["fields"]]
        return any(fields)
    if schema["type"] in ("array", "map"):
        items = schema.get("items", "string")
        assert takes_bytes(items, named, above), (
            "a count of two thousand million would cost memory and no bytes"
        )
        takes_bytes(schema.get("values", "string"), named, above)
        return True
    return schema["type"] != "fixed" or schema["size"] > 0


@pytest.mark.parametrize("key", IDS.values(), ids=str)
def test_no_schema_contains_itself_and_every_item_of_an_array_takes_a_byte(key):
    assert takes_bytes(raw_schema(key), {})
