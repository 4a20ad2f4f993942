"""A pool's options for its adapter, read with every mistake at once. Pure.

An adapter's ``create(options)`` reads what it knows by name and calls :meth:`OptionReader.close`; whatever
is left over then is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from shotbus.broker.config import NO_SECRET, REFERENCES, Secret
from shotbus.broker.config_parse import unknown_keys
from shotbus.schemas.errors import Problem, ShotbusError

_VARIABLE = "env:"


class OptionReader:
    """Reads ``[pools.NAME.options]``. A wrong value reads as the default until :meth:`close`."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._known: list[str] = []
        self._problems: list[Problem] = []

    def text(self, name: str, default: str = "") -> str:
        """Return an option as it is written."""
        self._known.append(name)
        return self._given.get(name, default)

    def word(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """Return one of the ``allowed`` words."""
        value = self.text(name, default)
        if value in allowed:
            return value
        self.refuse(name, ", ".join(allowed), value)
        return default

    def secret(self, name: str) -> Secret:
        """Return a reference to a secret; a plain value is refused without being repeated."""
        try:
            return Secret(self.text(name))
        except ValueError:
            self.refuse(name, REFERENCES, "something else")
            return NO_SECRET

    def url(self, name: str, *, needed: bool) -> str:
        """Return a service's address without a slash at its end: no secret goes to another host in clear."""
        url = self.text(name).rstrip("/")
        try:
            parts = urlsplit(url)
            clear = parts.scheme == "http" and _is_here(parts.hostname or "")
            usable = bool(parts.hostname) and (parts.scheme == "https" or clear) and parts.port != 0
        except ValueError:
            usable = False
        # Whatever stands where a user's name may stand is a secret, and is not repeated.
        if url and (not usable or parts.username is not None or parts.query or parts.fragment):
            self.refuse(name, "https://host[:port][/path], or http:// on this host", "something else")
        if needed and not url:
            self.refuse(name, "https://host[:port]", "nothing")
        return url

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``, both included."""
        written = self.text(name, str(default))
        try:
            value = float(written)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        self.refuse(name, f"{low:g} to {high:g}", written)
        return default

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        written = self.text(name, str(default))
        # Not int(): it also takes signs, spaces and underscores, and other alphabets' digits.
        plain = written.isascii() and written.isdigit() and len(written) <= len(str(high))
        if plain and low <= int(written) <= high:
            return int(written)
        self.refuse(name, f"a whole number, {low} to {high}", written)
        return default

    def refuse(self, name: str, limit: str, actual: str, hint: str = "") -> None:
        """Take note of an option that cannot be used."""
        self._problems.append(Problem("SB-2002", f"$.{name}", limit=limit, actual=actual, hint=hint))

    def given(self, name: str) -> bool:
        """Tell whether an option is there."""
        return name in self._given

    def close(self) -> None:
        """Raise ShotbusError (SB-2001, SB-2002) if anything was wrong, or is left over."""
        problems = [*unknown_keys(self._given, self._known, "$"), *self._problems]
        if problems:
            raise ShotbusError(problems)


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def referenced(options: Mapping[str, str]) -> list[str]:
    """Return the environment's variables that options refer to as ``env:NAME``: secrets, by reference."""
    return [value.removeprefix(_VARIABLE) for value in options.values() if value.startswith(_VARIABLE)]


def take_none(options: Mapping[str, str]) -> None:
    """Refuse every option, for an adapter that has none. Raises ShotbusError (SB-2001)."""
    problems = [
        Problem("SB-2001", f"$.{name}", actual=name, hint="this adapter has no options")
        for name in sorted(options)
    ]
    if problems:
        raise ShotbusError(problems)
