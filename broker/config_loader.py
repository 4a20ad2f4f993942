"""Loads and checks configuration: file, then environment, over the defaults. Reads one file.

All mistakes of a file are reported at once; an unknown key names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shotbus.broker.config import Config, Secret
from shotbus.broker.config_parse import build
from shotbus.broker.config_rules import check_config
from shotbus.broker.urls import public_url
from shotbus.schemas.errors import Problem, ShotbusError, fail

ENV_PREFIX = "SHOTBUS__"


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
    if chosen:
        _place_templates(document, chosen.parent)
    origins = dict.fromkeys(_leaves(document), str(chosen))
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(ENV_PREFIX):
            keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            _insert(document, keys, value)
            origins[".".join(keys)] = name
    problems: list[Problem] = []
    config: Config = build(Config, document, "$", problems)
    problems += check_config(config)
    if problems:
        raise ShotbusError(problems)
    return Loaded(config, origins)


def _place_templates(document: dict[str, Any], folder: Path) -> None:
    """Read a file's templates as relative to it: processes that get them may run elsewhere."""
    table = document.get("templates")
    if isinstance(table, dict):
        for name, file in table.items():
            if isinstance(file, str) and file:
                table[name] = str((folder / Path(file).expanduser()).absolute())


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ShotbusError (SB-2003) without echoing the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error


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
