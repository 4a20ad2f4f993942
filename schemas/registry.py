"""The project's own fixed table of schema ids, and the schemas as files. Reads package data once.

Ids are frozen: a record's next version gets a new id, and old ids stay readable for ever. Without a
Confluent registry these ids are what stands behind the magic byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import fastavro


class SchemaKey(NamedTuple):
    """A record and its version."""

    name: str
    version: int


#: id -> (record, version). Append only; compatibility kinds are in :data:`COMPATIBILITY`.
IDS: Mapping[int, SchemaKey] = {
    1001: SchemaKey("circuit", 1),
    1002: SchemaKey("circuit_request", 1),
    1003: SchemaKey("work_bundle", 1),
    1004: SchemaKey("outcome", 1),
    1005: SchemaKey("circuit_result", 1),
    1006: SchemaKey("refusal", 1),
    1007: SchemaKey("located", 1),
    1008: SchemaKey("job_row", 1),
    1009: SchemaKey("ledger_page", 1),
    1010: SchemaKey("event_batch", 1),
    1011: SchemaKey("control", 1),
    1012: SchemaKey("pool_status", 1),
    1013: SchemaKey("sweep_command", 1),
    1014: SchemaKey("sweep_reduction", 1),
    1015: SchemaKey("fold_row", 1),
    1016: SchemaKey("status_document", 1),
    1017: SchemaKey("located", 2),
    1018: SchemaKey("job_row", 2),
    1019: SchemaKey("circuit_request", 2),
    1020: SchemaKey("control", 2),
    1021: SchemaKey("pool_status", 2),
    1022: SchemaKey("outcome", 2),
    1023: SchemaKey("work_bundle", 2),
    1024: SchemaKey("circuit_result", 2),
    1025: SchemaKey("event_batch", 2),
    1026: SchemaKey("located", 3),
    1027: SchemaKey("job_row", 3),
    1028: SchemaKey("revocation", 1),
    1030: SchemaKey("circuit_facts", 1),
    1031: SchemaKey("treasury_command", 1),
    1032: SchemaKey("grant", 1),
    1033: SchemaKey("treasury_row", 1),
    1034: SchemaKey("audit_entry", 1),
    1036: SchemaKey("recalled", 1),
    1037: SchemaKey("packed_job", 1),
    1038: SchemaKey("revocation", 2),
    1039: SchemaKey("place", 1),
    1040: SchemaKey("pool_status", 3),
    1041: SchemaKey("located", 4),
    1042: SchemaKey("treasury_row", 2),
    1043: SchemaKey("work_bundle", 3),
    1044: SchemaKey("job_row", 4),
    1045: SchemaKey("treasury_row", 3),
    1050: SchemaKey("calibration", 1),
    1055: SchemaKey("template", 1),
    1056: SchemaKey("circuit_request", 3),
}

#: Rows that a newer and an older version of us may both read are FULL; the others BACKWARD (transitive).
COMPATIBILITY: Mapping[str, str] = {
    "job_row": "FULL_TRANSITIVE",
    "packed_job": "FULL_TRANSITIVE",
    "ledger_page": "FULL_TRANSITIVE",
    "fold_row": "FULL_TRANSITIVE",
    "treasury_row": "FULL_TRANSITIVE",
}

_BY_KEY = {key: number for number, key in IDS.items()}


def compatibility(name: str) -> str:
    """Return the compatibility kind that versions of a record must keep."""
    return COMPATIBILITY.get(name, "BACKWARD_TRANSITIVE")


@cache
def latest(name: str) -> SchemaKey:
    """Return the newest version of a record."""
    return max(key for key in IDS.values() if key.name == name)


def schema_id(key: SchemaKey) -> int:
    """Return the fixed id of a record's version."""
    return _BY_KEY[key]


@cache
def raw_schema(key: SchemaKey) -> dict[str, Any]:
    """Return the schema as it stands in its file."""
    path = resources.files("shotbus.schemas") / "avro" / f"{key.name}.v{key.version}.avsc"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


@cache
def parsed_schema(key: SchemaKey) -> Any:
    """Return the schema as fastavro wants it."""
    return _with_bytes(fastavro.parse_schema(raw_schema(key), named_schemas={}))


def _with_bytes(node: Any) -> Any:
    """Make bytes of the defaults of bytes fields, which JSON can only write as text.

    fastavro hands a default out as it stands: a reader of an older record would find text, and a writer
    that leaves the field out would fail on it.
    """
    if isinstance(node, list):
        return [_with_bytes(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _with_bytes(value) for name, value in node.items()}
    if found.get("type") == "bytes" and isinstance(found.get("default"), str):
        found["default"] = found["default"].encode("latin-1")
    return found
