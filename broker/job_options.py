"""Which options a request may have, and what is said about the others. Pure.

Every option belongs to an adapter that reads it, or to a namespace with a checker of its own. A request is
not refused for options of another adapter than the one that will run it: it may move along its chain. What no
adapter reads is a mistake, and nobody but the door can tell: each adapter passes over what it does not read.
Adapters of one's own are not known here: names that begin with ``x.`` are theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shotbus.broker.quality import KEYS, OWN
from shotbus.schemas.errors import MAX_PROBLEMS, Problem
from shotbus.schemas.nearest import did_you_mean

_CIRCUITS = ("layout", "method", "optimization_level", "recompile", "seed_transpiler", "shots_per_call")
#: By adapter. ``tests/contract/test_adapters.py`` compares it with what each really reads.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "aer": _CIRCUITS,
    "braket": _CIRCUITS,
    "classical": (),
    "faulty": ("fault", "found"),
    "ibm": _CIRCUITS,
    "noop": (),
    "pennylane": _CIRCUITS,
    "remote": _CIRCUITS,
    "sleep": ("seconds",),
    "vector": _CIRCUITS,
}
#: How the names of options begin that adapters from elsewhere read.
FOREIGN = "x."
KNOWN = frozenset(name for names in READ_BY.values() for name in names)
_GATES = tuple(f"{OWN}{key}" for key in KEYS)
_NAMES = (*sorted(KNOWN), *_GATES)


def unknown_options(names: Iterable[str]) -> list[Problem]:
    """Return a problem (SB-1119) for each name that no adapter reads, with the nearest one that is read.

    No more than can be told are looked at: a record may have a hundred thousand. Those of quality gates are
    :func:`shotbus.broker.quality.check_quality`'s.
    """
    odd = sorted(name for name in names if name not in KNOWN and not name.startswith((OWN, FOREIGN)))
    return [_unknown(name) for name in odd[:MAX_PROBLEMS]]


def _unknown(name: str) -> Problem:
    hint = did_you_mean(name.lower(), _NAMES)
    return Problem("SB-1119", f"$.options.{name}", limit=", ".join(_NAMES), actual=name, hint=hint)
