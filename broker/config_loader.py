"""Loads and checks configuration: file, then environment, over the defaults. Reads one file.

All mistakes of a file are reported at once; an unknown key names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shotbus.broker.config import REFERENCES, Config, Secret
from shotbus.broker.config_rules import check_config
from shotbus.broker.urls import public_url
from shotbus.schemas.errors import Problem, ShotbusError, fail

ENV_PREFIX = "SHOTBUS__"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and the origin (``default``, a file, an environment variable) of each key."""

    config: Config
    origins: Mapping[str, str]


def load_config(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Return the effective configuration.

    Args:
        path: the file; None takes ``shotbus.toml`` of the working directory where it exists.
        environ: None takes the process's environment.

    Raises:
        ShotbusError: SB-2001, SB-2002, SB-2003, every one of the file and the environment.

    """
    chosen = path or (Path("shotbus.toml") if Path("shotbus.toml").exists() else None)
    document = read_toml(chosen) if chosen else {}
    origins = dict.fromkeys(_leaves(document), str(chosen))
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(ENV_PREFIX):
            keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            _insert(document, keys, value)
            origins[".".join(keys)] = name
    problems: list[Problem] = []
    config: Config = _build(Config, document, "$", problems)
    problems += check_config(config)
    if problems:
        raise ShotbusError(problems)
    return Loaded(config, origins)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ShotbusError (SB-2003) without echoing the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error


def parse(shape: type[T], document: Mapping[str, Any], path: str = "$") -> T:
    """Build a frozen dataclass from a document. Raises ShotbusError with every mistake at once."""
    problems: list[Problem] = []
    value = _build(shape, document, path, problems)
    if problems:
        raise ShotbusError(problems)
    return value  # type: ignore[no-any-return]  # _build made an instance of ``shape``


def unknown_keys(given: Iterable[str], known: Iterable[str], path: str) -> list[Problem]:
    """Return a problem for each unknown key, naming the nearest known one."""
    names = sorted(known)
    found = []
    for key in sorted(set(given) - set(names)):
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        found.append(Problem("SB-2001", f"{path}.{key}", actual=key, hint=hint))
    return found


def reveal(secret: Secret, path: str) -> str:
    """Fetch a secret from where the reference points; ``path`` is that of its key, for errors.

    Raises ShotbusError: SB-2002 for a variable that is not set, SB-2003 for a file that cannot be read.
    """
    kind, _, name = secret.partition(":")
    if kind == "env":
        if name not in os.environ:
            raise fail("SB-2002", path, limit="a variable that is set", actual=secret)
        return os.environ[name]
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise fail("SB-2003", path, actual=secret, detail=type(error).__name__) from None
    return ""


def effective(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) rows for ``shotbus doctor``."""
    flat = [(".".join(keys), value) for keys, value in _paths(loaded.config)]
    return [(key, _shown(key, value), loaded.origins.get(key, "default")) for key, value in flat]


def _shown(key: str, value: Any) -> str:
    return repr(public_url(value) if key == "broker.url" else value)


def as_toml(config: Config) -> str:
    """Return a file that :func:`load_config` reads as this configuration; secrets stay references."""
    return "".join(
        ".".join(json.dumps(key) for key in keys) + f" = {_as_toml(value)}\n"
        for keys, value in _paths(config)
    )


def _as_toml(value: Any) -> str:
    """Return a value on one line; of a table in a list only what differs from its defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        defaults = type(value)()
        told = [(name, inner) for name, inner in _children(value) if inner != getattr(defaults, name)]
        return "{" + ", ".join(f"{json.dumps(name)} = {_as_toml(inner)}" for name, inner in told) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return json.dumps(value)


def _paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not dataclasses.is_dataclass(value) and not isinstance(value, dict):
        return [(path, value)]
    return [leaf for name, inner in _children(value) for leaf in _paths(inner, (*path, name))]


def _children(value: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return list(value.items())


def _leaves(document: Mapping[str, Any], path: str = "") -> list[str]:
    found: list[str] = []
    for key, value in document.items():
        place = f"{path}.{key}".lstrip(".")
        found += _leaves(value, place) if isinstance(value, dict) else [place]
    return found


def _insert(document: dict[str, Any], keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        inner = document.setdefault(key, {})
        document = inner if isinstance(inner, dict) else {}
    document[keys[-1]] = value


def _build(shape: Any, value: Any, path: str, problems: list[Problem]) -> Any:
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
            changes[name] = _build(hints[name], value[name], f"{path}.{name}", problems)
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
        else _build(inner, entry, f"{path}.{name}", problems)
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
