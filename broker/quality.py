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

import numpy as np

from shotbus.broker.policy.config import Span
from shotbus.schemas.errors import Problem
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts, Estimates, unpack_result

OWN, RULE = "quality.", "quality.rule."
KEYS = ("max_stderr", "range", "outcomes", "share", "parity")
MAX_OUTCOMES = 256
_SAMPLED = frozenset({"outcomes", "share", "parity"})
_ANY = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that was understood; ``place`` is where its keys stand, a JSON path with a dot behind it."""

    place: str
    max_stderr: float = math.inf
    span: tuple[float, float] = _ANY
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
    return problems + list(_senseless(told, request)) + list(_misfit(gate, _width(request)))


def applicable(demand: Mapping[str, str], request: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a rule's gate concerns a request, as its options: a rule may take jobs of many kinds."""
    pointless = {problem.path.removeprefix(_PLACE) for problem in _senseless(list(demand), request)}
    return {f"{RULE}{name}": text for name, text in demand.items() if name not in pointless}


def never_met(options: Mapping[str, str], request: Mapping[str, Any]) -> list[Problem]:
    """Return why no answer to a request could ever hold a rule's outcomes (SB-1155)."""
    if not options:
        return []
    gates, _ = gates_of(options)
    problems = [problem for gate in gates for problem in _misfit(gate, _width(request))]
    return [Problem("SB-1155", one.path, limit=one.limit, actual=one.actual) for one in problems]


# --- reading ---

_PLACE = f"$.options.{OWN}"


def parse_gate(given: Mapping[str, str], place: str) -> tuple[Gate, list[Problem]]:
    """Read a gate from its keys without their prefix; ``place`` goes before them in the problems' paths."""
    problems = [
        Problem("SB-1108", place + name, limit=", ".join(KEYS), actual=name, hint="there is no such gate")
        for name in given
        if name not in KEYS
    ]
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


def _positive(text: str) -> dict[str, Any]:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return {"max_stderr": value}


def _range(text: str) -> dict[str, Any]:
    span = Span(text).ends
    if span == _ANY:
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


def _misfit(gate: Gate, width: int) -> Iterator[Problem]:
    if gate.outcomes and width and len(gate.outcomes[0]) != width:
        actual = f"{len(gate.outcomes[0])} bits"
        yield Problem("SB-1108", f"{gate.place}outcomes", limit=f"{width} bits", actual=actual)


# --- judging ---


def failures(gates: Sequence[Gate], payload: bytes) -> list[Problem]:
    """Return what an answer fails (SB-5011, SB-1108 for outcomes of another width); empty when it counts.

    ``payload`` is packed (:mod:`shotbus.schemas.pub`); the empty one of pools that compute nothing holds
    nothing to look at. Raises ShotbusError (SB-1004) for one that cannot be read.
    """
    answer = unpack_result(payload)
    if answer is None:
        return []
    judged = _of_counts if isinstance(answer, Counts) else _of_estimates
    return [problem for gate in gates for problem in judged(gate, answer)]


def _of_estimates(gate: Gate, answer: Any) -> Iterator[Problem]:
    if gate.outcomes or gate.parity:
        yield Problem("SB-5011", f"{gate.place}outcomes", limit="counts", actual="expectation values")
    estimates: Estimates = answer
    if gate.max_stderr < math.inf:
        # What is not known is not small.
        over = np.nan_to_num(estimates.stds - gate.max_stderr, nan=math.inf)
        yield from _worst(f"{gate.place}max_stderr", f"{gate.max_stderr:g}", estimates.stds, over)
    if gate.span != _ANY:
        low, high = gate.span
        with np.errstate(invalid="ignore"):
            # Neither is an infinite value inside an open range: its distance is not a number.
            apart = np.abs(estimates.evs - np.clip(estimates.evs, low, high))
        over = np.nan_to_num(apart, nan=math.inf)
        yield from _worst(f"{gate.place}range", f"{low:g}..{high:g}", estimates.evs, over)


def _worst(path: str, limit: str, values: Array, over: Array) -> Iterator[Problem]:
    """Yield the problem of the value that is farthest over its limit, if any is."""
    if over.size and over.max() > 0:
        place = np.unravel_index(int(over.argmax()), over.shape)
        where = " of observable ".join(str(number) for number in place)
        yield Problem("SB-5011", path, limit=limit, actual=f"{values[place]:.6g} at point {where}")


def _of_counts(gate: Gate, answer: Any) -> Iterator[Problem]:
    counts: Counts = answer
    if gate.max_stderr < math.inf or gate.span != _ANY:
        yield Problem("SB-5011", f"{gate.place}range", limit="expectation values", actual="counts")
    if gate.outcomes:
        misfits = list(_misfit(gate, sum(width for _, width in counts.registers)))
        yield from misfits or _short(gate, "outcomes", gate.share, counts, _among(counts, gate.outcomes))
    if gate.parity:
        ones = np.bitwise_count(counts.outcomes).sum(axis=1)
        yield from _short(gate, "parity", gate.parity_share, counts, ones % 2 == (gate.parity == "odd"))


def _among(counts: Counts, outcomes: Sequence[str]) -> Array:
    """Return which entries are one of the outcomes."""
    found = np.zeros(counts.counts.size, dtype=bool)
    for word in outcomes:
        raw = int(word, 2).to_bytes(counts.outcomes.shape[1], "little")
        found |= (counts.outcomes == np.frombuffer(raw, dtype=np.uint8)).all(axis=1)
    return found


def _short(gate: Gate, name: str, share: float, counts: Counts, good: Array) -> Iterator[Problem]:
    """Yield the problem of the point with the smallest share of good shots, if that is too small."""
    shots, kept = _by_point(counts, counts.counts), _by_point(counts, np.where(good, counts.counts, 0))
    shares = kept / np.maximum(shots, 1)
    if shares.size and shares.min() < share:
        point = int(shares.argmin())
        wanted = ",".join(gate.outcomes) if name == "outcomes" else gate.parity
        actual = f"{shares[point]:.6g} at point {point}"
        yield Problem("SB-5011", gate.place + name, limit=f"a share of {share:g} in {wanted}", actual=actual)


def _by_point(counts: Counts, entries: Array) -> Array:
    """Add up entries point by point; a point may have none."""
    ends = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])[counts.indptr]
    return np.diff(ends)
