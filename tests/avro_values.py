"""Values for Avro records: one good request, and any value that a schema allows."""

from hypothesis import strategies as st

from shotbus.schemas.ids import circuit_id, job_id

PROGRAM = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'


def request_fields(**changes):
    """Fields of a valid ``circuit_request`` of the noop pool."""
    fields = {
        "job_id": job_id("tenant-", entropy=bytes(range(12))),
        "tenant": "tenant-",
        "principal": "somebody",
        "payload_hash": bytes(16),
        "priority": "experiment",
        "intent": "test",
        "circuit_id": circuit_id(PROGRAM),
        "points": 1,
        "bindings": b"",
        "mode": "sample",
        "shots": 10,
        "observables": b"",
        "expected": {"registers": [{"name": "c", "width": 2}], "observables": 0, "shape": [1]},
        "backend": "noop",
        "submitted_us": 0,
    }
    return fields | changes


def values_of(schema, names=None):
    """A strategy for any value that a schema allows, as fastavro reads it back."""
    names = {} if names is None else names
    if isinstance(schema, list):
        return st.one_of([values_of(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES[schema] if schema in _PRIMITIVES else names[schema]
    return (
        _COMPLEX[schema["type"]](schema, names)
        if schema["type"] in _COMPLEX
        else values_of(schema["type"], names)
    )


def _record(schema, names):
    fields = {one["name"]: values_of(one["type"], names) for one in schema["fields"]}
    strategy = names[schema["name"]] = st.fixed_dictionaries(fields)
    return strategy


def _enum(schema, names):
    strategy = names[schema["name"]] = st.sampled_from(schema["symbols"])
    return strategy


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_PRIMITIVES = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=40),
    "string": _TEXT,
}
_COMPLEX = {
    "record": _record,
    "enum": _enum,
    "array": lambda schema, names: st.lists(values_of(schema["items"], names), max_size=4),
    "map": lambda schema, names: st.dictionaries(_TEXT, values_of(schema["values"], names), max_size=4),
}
