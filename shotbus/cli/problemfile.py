"""The problem that a request file states, for a solver to answer: a table of it. Pure.

[problem]
kind = "hamiltonian"              # its lowest eigenvalue is asked for
terms = { ZZ = 1.0, XI = 0.5 }

[problem]
kind = "ising"                    # the lowest energy of sum h_i s_i + sum J_ij s_i s_j
h = [0.5, -0.5]
edges = [[0, 1]]
couplings = [1.0]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shotbus.broker.config_parse import build
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.pub import PauliSums, ProblemStatement


@dataclass(frozen=True, slots=True)
class _Table:
    """What may stand in the table; which of it counts follows from ``kind``."""

    kind: str = ""
    terms: dict[str, float] = field(default_factory=dict)
    h: tuple[float, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    couplings: tuple[float, ...] = ()


_NAMES = {"hamiltonian": {"kind", "terms"}, "ising": {"kind", "h", "edges", "couplings"}}


def statement_of(given: Mapping[str, Any], problems: list[Problem]) -> ProblemStatement | None:
    """Return the problem that a table states; None when it is wrong, with why added to ``problems``."""
    wrong: list[Problem] = []
    table: _Table = build(_Table, given, "$.problem", wrong)
    if not wrong:
        wrong += _wrong(table, given)
    problems += wrong
    if wrong:
        return None
    if table.kind == "ising":
        edges = np.array(table.edges, dtype="<i4").reshape(-1, 2)
        return ProblemStatement.ising(np.array(table.h), edges, np.array(table.couplings))
    try:
        return ProblemStatement.hamiltonian(PauliSums.from_terms([list(table.terms.items())]))
    except ShotbusError as error:
        problems += [Problem(one.code, "$.problem.terms", one.limit, one.actual) for one in error.problems]
        return None


def _wrong(table: _Table, given: Mapping[str, Any]) -> Iterator[Problem]:
    known = _NAMES.get(table.kind)
    if known is None:
        yield Problem("SB-2002", "$.problem.kind", limit=" or ".join(_NAMES), actual=table.kind)
        return
    for name in sorted(given.keys() - known):
        yield Problem("SB-2002", f"$.problem.{name}", hint=f"a problem of kind {table.kind} has none")
    numbers = (*table.terms.values(), *table.h, *table.couplings)
    if not all(map(math.isfinite, numbers)):
        yield Problem("SB-2002", "$.problem", limit="finite numbers")
    if table.kind == "ising":
        yield from _wrong_graph(table)


def _wrong_graph(table: _Table) -> Iterator[Problem]:
    spins = len(table.h)
    if not spins:
        yield Problem("SB-2002", "$.problem.h", limit="a number for each spin", actual="none")
    if len(table.couplings) != len(table.edges):
        limit = f"{len(table.edges)} numbers, one for each edge"
        yield Problem("SB-2002", "$.problem.couplings", limit=limit, actual=str(len(table.couplings)))
    for number, edge in enumerate(table.edges):
        if len(edge) != 2 or not all(0 <= spin < spins for spin in edge):
            limit, path = f"two spins of 0 to {spins - 1}", f"$.problem.edges[{number}]"
            yield Problem("SB-2002", path, limit=limit, actual=str(list(edge)))
