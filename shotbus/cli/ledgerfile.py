"""A provider's books from a file, for ``verify --ledger``. Reads the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shotbus.broker.invariants.witnesses import ProviderLedger, Submission
from shotbus.schemas.errors import Problem, ShotbusError, fail

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
}
_FIELDS = {one.name: _KINDS[str(one.type)] for one in dataclasses.fields(Submission)}
_NEEDED = frozenset(one.name for one in dataclasses.fields(Submission) if one.default is dataclasses.MISSING)
_FORM = '{"pools": [NAME, …], "submissions": [{"token": …, "job_id": …, "attempt": …, "at": …}, …]}'


def read_ledger(path: Path) -> ProviderLedger:
    """Return what a JSON file says that a provider has accepted.

    ``pools`` are those whose every run passes through it, ``submissions`` have the fields of
    :class:`~shotbus.broker.invariants.witnesses.Submission`, ``at`` in wall seconds.

    Raises ShotbusError: SB-2003 for a file that is not there or no JSON, SB-2002 for each wrong entry.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error
    pools = document.get("pools") if isinstance(document, dict) else None
    entries = document.get("submissions") if isinstance(document, dict) else None
    if not isinstance(pools, list) or not isinstance(entries, list):
        raise fail("SB-2002", "--ledger", limit=_FORM, actual=type(document).__name__)
    if problems := [one for number, entry in enumerate(entries) for one in _problems(number, entry)]:
        raise ShotbusError(problems)
    return ProviderLedger(tuple(map(str, pools)), [Submission(**entry) for entry in entries])


def _problems(number: int, entry: Any) -> list[Problem]:
    place = f"--ledger: $.submissions[{number}]"
    if not isinstance(entry, dict):
        return [Problem("SB-2002", place, limit="an object", actual=type(entry).__name__)]
    found = [
        Problem("SB-2002", f"{place}.{name}", limit="this field", actual="none")
        for name in sorted(_NEEDED - entry.keys())
    ]
    for name, value in entry.items():
        kinds = _FIELDS.get(name)
        if kinds is None:
            found.append(Problem("SB-2001", f"{place}.{name}", limit=", ".join(_FIELDS)))
        elif not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            limit = kinds[0].__name__
            found.append(Problem("SB-2002", f"{place}.{name}", limit=limit, actual=str(value)))
    return found
