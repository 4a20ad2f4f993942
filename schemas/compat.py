"""Whether data written with one schema can be read with another: Avro's resolution rules. Pure.

The rules are those of "Schema Resolution" in the Avro specification; the kinds are Confluent's. A record
keeps its kind over all its versions, see :func:`shotbus.schemas.registry.compatibility`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("BACKWARD_TRANSITIVE", "FULL_TRANSITIVE")

#: What each primitive may be read as, besides itself.
_PROMOTIONS: Mapping[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED = ("record", "enum", "fixed")


def check_versions(kind: str, versions: Sequence[Any]) -> list[str]:
    """Return what breaks the kind over a record's schemas, oldest first; empty when nothing does.

    ``BACKWARD_TRANSITIVE``: every version reads all earlier ones. ``FULL_TRANSITIVE``: earlier versions
    read all later ones as well, as during a rolling upgrade. Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    found = []
    for new in range(1, len(versions)):
        for old in range(new):
            found += _told(new, old, versions)
            if kind == "FULL_TRANSITIVE":
                found += _told(old, new, versions)
    return found


def _told(reader: int, writer: int, versions: Sequence[Any]) -> list[str]:
    problems = why_unreadable(versions[reader], versions[writer])
    return [f"version {reader + 1} cannot read version {writer + 1}: {problem}" for problem in problems]


def why_unreadable(reader: Any, writer: Any) -> list[str]:
    """Return why ``reader`` cannot read what ``writer`` wrote, each with its place; empty when it can."""
    return _Resolver(_names(reader), _names(writer)).compare(reader, writer, "$")


@dataclass(slots=True)
class _Resolver:
    """One comparison; ``readers`` and ``writers`` are the named types of either side."""

    readers: Mapping[str, Any]
    writers: Mapping[str, Any]
    _open: set[tuple[str, str]] = field(default_factory=set)

    def compare(self, reader: Any, writer: Any, path: str) -> list[str]:
        reader, writer = self._resolve(reader, self.readers), self._resolve(writer, self.writers)
        if isinstance(writer, list):
            return [problem for branch in writer for problem in self.compare(reader, branch, path)]
        if isinstance(reader, list):
            return self._one_of(reader, writer, path)
        kind, wrote = _type(reader), _type(writer)
        if kind != wrote:
            promoted = kind in _PROMOTIONS.get(wrote, ())
            return [] if promoted else [f"{path}: {wrote} is not read as {kind}"]
        return self._same_type(kind, reader, writer, path)

    def _resolve(self, schema: Any, names: Mapping[str, Any]) -> Any:
        while isinstance(schema, dict) and isinstance(schema["type"], dict | list):
            schema = schema["type"]
        return names.get(_last(schema), schema) if isinstance(schema, str) else schema

    def _one_of(self, branches: Sequence[Any], writer: Any, path: str) -> list[str]:
        if any(not self.compare(branch, writer, path) for branch in branches):
            return []
        return [f"{path}: {_type(writer)} is in no branch of the union"]

    def _same_type(self, kind: str, reader: Any, writer: Any, path: str) -> list[str]:
        if kind in _NAMED and not _same_name(reader, writer):
            return [f"{path}: {writer['name']} is not read as {reader['name']}"]
        if kind == "array":
            return self.compare(reader["items"], writer["items"], f"{path}[]")
        if kind == "map":
            return self.compare(reader["values"], writer["values"], f"{path}{{}}")
        if kind == "enum":
            return _compare_enums(reader, writer, path)
        if kind == "fixed" and reader["size"] != writer["size"]:
            return [f"{path}: fixed of {writer['size']} bytes is not read as {reader['size']}"]
        return self._records(reader, writer, path) if kind == "record" else []

    def _records(self, reader: Any, writer: Any, path: str) -> list[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._open:  # a recursive type: this pair is being compared further up
            return []
        self._open.add(pair)
        written = {one["name"]: one for one in writer["fields"]}
        problems: list[str] = []
        for one in reader["fields"]:
            source = next((written[name] for name in _field_names(one) if name in written), None)
            if source is not None:
                problems += self.compare(one["type"], source["type"], f"{path}.{one['name']}")
            elif "default" not in one:
                problems.append(f"{path}.{one['name']}: was not written and has no default")
        self._open.discard(pair)
        return problems


def _compare_enums(reader: Any, writer: Any, path: str) -> list[str]:
    unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not unknown or "default" in reader:
        return []
    return [f"{path}: unknown symbols {', '.join(unknown)} and no default"]


def _type(schema: Any) -> str:
    kind: str = schema["type"] if isinstance(schema, dict) else schema
    return kind


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _same_name(reader: Any, writer: Any) -> bool:
    names = {_last(name) for name in (reader["name"], *reader.get("aliases", ()))}
    return _last(writer["name"]) in names


def _field_names(one: Mapping[str, Any]) -> list[str]:
    return [one["name"], *one.get("aliases", ())]


def _names(schema: Any) -> dict[str, Any]:
    """Collect the named types inside a schema, by name without namespace."""
    if isinstance(schema, list):
        return {name: one for branch in schema for name, one in _names(branch).items()}
    if not isinstance(schema, dict):
        return {}
    found = {_last(schema["name"]): schema} if schema.get("type") in _NAMED else {}
    for inner in (schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", ()))):
        found |= _names(inner)
    if isinstance(schema.get("type"), dict | list):
        found |= _names(schema["type"])
    return found
