"""Documents to frozen data: every mistake at once, an unknown key with the nearest known one. Pure."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shotbus.broker.config import REFERENCES, Secret
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.nearest import did_you_mean

T = TypeVar("T")


def parse(shape: type[T], document: Mapping[str, Any], path: str = "$") -> T:
    """Build a frozen dataclass from a document. Raises ShotbusError with every mistake at once."""
    problems: list[Problem] = []
    value = build(shape, document, path, problems)
    if problems:
        raise ShotbusError(problems)
    return value  # type: ignore[no-any-return]  # build made an instance of ``shape``


def unknown_keys(given: Iterable[str], known: Iterable[str], path: str) -> list[Problem]:
    """Return a problem for each unknown key, naming the nearest known one."""
    names = sorted(known)
    found = []
    for key in sorted(set(given) - set(names)):
        hint = did_you_mean(key, names) or f"known keys: {', '.join(names)}"
        found.append(Problem("SB-2001", f"{path}.{key}", actual=key, hint=hint))
    return found


def build(shape: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    """Build a value of a shape; what is wrong with it is added to ``problems``, and nothing came of it."""
    if dataclasses.is_dataclass(shape) and isinstance(shape, type):
        return _build_record(shape, value, path, problems)
    if get_origin(shape) is dict:
        return _build_table(get_args(shape)[1], value, path, problems)
    if get_origin(shape) is tuple and dataclasses.is_dataclass(get_args(shape)[0]):
        return _build_list(get_args(shape)[0], value, path, problems)
    return _build_scalar(shape, value, path, problems)


def _build_record(shape: Any, value: Any, path: str, problems: list[Problem], base: Any = None) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem("SB-2002", path, limit="a table", actual=type(value).__name__))
        return base
    hints = get_type_hints(shape)
    problems += unknown_keys(value, hints, path)
    start = base if base is not None else shape()
    changes = {}
    for name in sorted(set(value) & set(hints)):
        default = getattr(start, name)
        if dataclasses.is_dataclass(default):
            changes[name] = _build_record(hints[name], value[name], f"{path}.{name}", problems, default)
        elif isinstance(default, dict) and get_origin(hints[name]) is dict:
            inner = get_args(hints[name])[1]
            table = _build_table(inner, value[name], f"{path}.{name}", problems, default)
            changes[name] = default | table
        else:
            changes[name] = build(hints[name], value[name], f"{path}.{name}", problems)
    return dataclasses.replace(start, **{name: new for name, new in changes.items() if new is not None})


def _build_table(
    inner: Any, value: Any, path: str, problems: list[Problem], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(Problem("SB-2002", path, limit="a table", actual=type(value).__name__))
        return {}
    known = base or {}
    return {
        str(name): _build_record(inner, entry, f"{path}.{name}", problems, known.get(name))
        if dataclasses.is_dataclass(inner)
        else build(inner, entry, f"{path}.{name}", problems)
        for name, entry in value.items()
    }


def _build_list(inner: Any, value: Any, path: str, problems: list[Problem]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        problems.append(Problem("SB-2002", path, limit="a list of tables", actual=type(value).__name__))
        return ()
    built = [_build_record(inner, entry, f"{path}[{n}]", problems) for n, entry in enumerate(value)]
    return tuple(entry for entry in built if entry is not None)


_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}


def _build_scalar(shape: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    try:
        return _convert(shape, value)
    except (TypeError, ValueError):
        problems.append(_wrong_scalar(shape, value, path))
        return None


def _wrong_scalar(shape: Any, value: Any, path: str) -> Problem:
    """Say what was wanted; what stands where a secret belongs is not repeated, whatever its type."""
    if shape is Secret:
        hint = "put it into a variable or a file and name that here"
        return Problem("SB-2002", path, limit=REFERENCES, actual="a plain value", hint=hint)
    wanted: str = getattr(shape, "wanted", "") or getattr(shape, "__name__", str(shape))
    return Problem("SB-2002", path, limit=wanted, actual=repr(value))


def _convert(shape: Any, value: Any) -> Any:
    """Convert a TOML value, or the text of an environment variable, to a scalar type."""
    if isinstance(shape, types.UnionType):
        return None if value is None else _convert(get_args(shape)[0], value)
    if get_origin(shape) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_convert(get_args(shape)[0], part) for part in parts)
    if shape is bool:
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise ValueError(text)
        return text in _TRUE
    wrong_bool = isinstance(value, bool) and not getattr(shape, "takes_bool", False)
    if wrong_bool or (shape in (str, Secret) and not isinstance(value, str)):
        raise TypeError(shape)
    if shape is int and isinstance(value, float):
        raise TypeError(shape)
    return shape(value)
