"""Quality gates: what an answer must be to count, as options of a request or a rule's demand. Pure.

``quality.max_stderr`` "0.01": no standard error above it. ``quality.range`` "-1.2..2": every expectation
value inside, ends included. ``quality.outcomes`` "00,11" with ``quality.share`` "0.8": at least that share of
the shots of every point in these outcomes, as Qiskit writes them. ``quality.parity`` "even:0.9": at least so
many of every point's shots with an even number of ones. What a rule demands travels as ``quality.rule.…``
beside the job's own: both hold, so neither can loosen the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.broker.policy.config import Span
from shotbus.schemas.errors import MAX_PROBLEMS, Problem
from shotbus.schemas.nearest import did_you_mean

OWN, RULE = "quality.", "quality.rule."
KEYS = ("max_stderr", "range", "outcomes", "share", "parity")
MAX_OUTCOMES = 256
_SAMPLED = frozenset({"outcomes", "share", "parity"})
ANY = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that was understood; ``place`` is where its keys stand, a JSON path with a dot behind it."""

    place: str
    max_stderr: float = math.inf
    span: tuple[float, float] = ANY
    outcomes: tuple[str, ...] = ()
    share: float = 0.0
    parity: str = ""
    parity_share: float = 0.0


def quality_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return those of a request's options that are about its gate, a rule's included; mostly none."""
    return {name: text for name, text in options.items() if name.startswith(OWN)} if options else {}


def demanded(options: Mapping[str, str]) -> dict[str, str]:
    """Return those of :func:`quality_of` that a rule has added: they are not in the job's request."""
    return {name: text for name, text in options.items() if name.startswith(RULE)}


def gates_of(options: Mapping[str, str]) -> tuple[list[Gate], list[Problem]]:
    """Return the gates among an attempt's options, and what is wrong with them."""
    own, rule = dict[str, str](), dict[str, str]()
    for name, text in quality_of(options).items():
        part, prefix = (rule, RULE) if name.startswith(RULE) else (own, OWN)
        part[name.removeprefix(prefix)] = text
    gates, problems = list[Gate](), list[Problem]()
    for prefix, part in ((OWN, own), (RULE, rule)):
        if part:
            gate, found = parse_gate(part, f"$.options.{prefix}")
            gates += [gate] if not found else []
            problems += found
    return gates, problems


def check_quality(request: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of the gate that a request asks for (SB-1107, SB-1108); mostly it has none.

    Of a request without ``expected`` it is not known yet what it asks for: then only what is said is checked.
    """
    options = request["options"]
    if not options or not (given := quality_of(options)):
        return []
    gate, problems = parse_gate({name.removeprefix(OWN): text for name, text in given.items()}, _PLACE)
    if "expected" not in request:
        return problems
    told = [name for name in KEYS if f"{OWN}{name}" in given]
    return problems + list(_senseless(told, request)) + list(misfits(gate, _width(request)))


def applicable(demand: Mapping[str, str], request: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a rule's gate concerns a request, as its options: a rule may take jobs of many kinds."""
    pointless = {problem.path.removeprefix(_PLACE) for problem in _senseless(list(demand), request)}
    return {f"{RULE}{name}": text for name, text in demand.items() if name not in pointless}


def never_met(options: Mapping[str, str], request: Mapping[str, Any]) -> list[Problem]:
    """Return why no answer to a request could ever hold a rule's outcomes (SB-1155)."""
    if not options:
        return []
    gates, _ = gates_of(options)
    problems = [problem for gate in gates for problem in misfits(gate, _width(request))]
    return [Problem("SB-1155", one.path, limit=one.limit, actual=one.actual) for one in problems]


# --- reading ---

_PLACE = f"$.options.{OWN}"


def parse_gate(given: Mapping[str, str], place: str) -> tuple[Gate, list[Problem]]:
    """Read a gate from its keys without their prefix; ``place`` goes before them in the problems' paths."""
    problems = [_unknown(name, place) for name in given if name not in KEYS][:MAX_PROBLEMS]
    fields: dict[str, Any] = {}
    for name, (read, limit) in _READERS.items():
        if name not in given:
            continue
        try:
            fields |= read(given[name])
        except ValueError:
            problems.append(Problem("SB-1108", place + name, limit=limit, actual=given[name]))
    for name, other in (("outcomes", "share"), ("share", "outcomes")):
        if name in given and other not in given:
            problems.append(Problem("SB-1107", place + other, hint=f"{name} goes with it"))
    return Gate(place, **fields), problems


def _unknown(name: str, place: str) -> Problem:
    hint = did_you_mean(name, KEYS) or "there is no such gate"
    return Problem("SB-1108", place + name, limit=", ".join(KEYS), actual=name, hint=hint)


def _positive(text: str) -> dict[str, Any]:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return {"max_stderr": value}


def _range(text: str) -> dict[str, Any]:
    span = Span(text).ends
    if span == ANY:
        raise ValueError(text)
    return {"span": span}


def _outcomes(text: str) -> dict[str, Any]:
    words = tuple(word.replace(" ", "") for word in text.split(","))
    sound = all(word and not set(word) - {"0", "1"} and len(word) == len(words[0]) for word in words)
    if not sound or len(set(words)) != len(words) or len(words) > MAX_OUTCOMES:
        raise ValueError(text)
    return {"outcomes": words}


def _part(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


def _parity(text: str) -> dict[str, Any]:
    word, _, share = text.partition(":")
    if word not in ("even", "odd"):
        raise ValueError(text)
    return {"parity": word, "parity_share": _part(share)}


_READERS: Mapping[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "max_stderr": (_positive, "a number above 0"),
    "range": (_range, 'a range such as "-1.2..2", "..0" or "0.."'),
    "outcomes": (_outcomes, f"up to {MAX_OUTCOMES} different bit strings of one width: 00,11"),
    "share": (lambda text: {"share": _part(text)}, "above 0, at most 1"),
    "parity": (_parity, "even:SHARE or odd:SHARE, the share above 0, at most 1"),
}


def _senseless(names: Sequence[str], request: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each key that could never say anything about an answer to the request."""
    mode, shots = request["mode"], request["shots"]
    for name in KEYS:
        if name not in names:
            continue
        wanted = "sample" if name in _SAMPLED else "estimate"
        if mode != wanted:
            hint = "counts have no expectation values" if mode == "sample" else "values are no counts"
            limit = "a sampling job" if wanted == "sample" else "an estimation job"
            yield Problem("SB-1108", _PLACE + name, limit=limit, actual=mode, hint=hint)
        elif name == "max_stderr" and not shots:
            hint = "exact values have no standard error: give shots"
            yield Problem(
                "SB-1108", _PLACE + name, limit="an estimation job with shots", actual="0", hint=hint
            )


def _width(request: Mapping[str, Any]) -> int:
    """Return the classical bits of an answer as its request declares them; 0 is not said."""
    return sum(register["width"] for register in request["expected"]["registers"])


def misfits(gate: Gate, width: int) -> Iterator[Problem]:
    """Yield what keeps a gate's outcomes from being those of ``width`` bits; 0 is not known."""
    if gate.outcomes and width and len(gate.outcomes[0]) != width:
        actual = f"{len(gate.outcomes[0])} bits"
        yield Problem("SB-1108", f"{gate.place}outcomes", limit=f"{width} bits", actual=actual)


# --- judging ---
