"""What a sweep's reductions are called, what they take and what they are made of. Pure data and its check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shotbus.schemas.errors import Problem
from shotbus.schemas.nearest import did_you_mean

REDUCTIONS: tuple[str, ...] = ("collect", "expectation", "minimum", "histogram")
MODELS: tuple[str, ...] = ("grid", "sinusoid")
#: The kind of answer a reduction is made of; the others take any.
_MODES: Mapping[str, str] = {"expectation": "estimate", "minimum": "estimate", "histogram": "sample"}
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "collect": ("min_success",),
    "expectation": ("min_success",),
    "minimum": ("min_success", "model"),
    "histogram": ("min_success",),
}


def check_reduction(reduce: str, options: Mapping[str, str], shards: int) -> list[Problem]:
    """Return everything that is wrong with a reduction's name and its options for so many shards."""
    if not isinstance(reduce, str) or reduce not in REDUCTIONS:
        hint = did_you_mean(str(reduce), REDUCTIONS)
        return [Problem("SB-1108", "$.reduce", limit=", ".join(REDUCTIONS), actual=str(reduce), hint=hint)]
    known = _OPTIONS[reduce]
    problems = [
        Problem("SB-2001", f"$.options.{name}", limit=", ".join(known), actual=str(name))
        for name in sorted(options, key=str)
        if name not in known
    ]
    wrong = [name for name, value in options.items() if not isinstance(value, str)]
    problems += [
        Problem("SB-1108", f"$.options.{name}", limit="text", actual=repr(options[name])) for name in wrong
    ]
    options = {name: value for name, value in options.items() if name not in wrong}
    if options.get("model", "grid") not in MODELS:
        problems.append(
            Problem("SB-1108", "$.options.model", limit=", ".join(MODELS), actual=options["model"])
        )
    wanted = options.get("min_success", "1")
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and 1 <= int(wanted) <= shards):
        problems.append(Problem("SB-1108", "$.options.min_success", limit=f"1 to {shards}", actual=wanted))
    return problems


def check_modes(reduce: str, modes: Sequence[str]) -> list[Problem]:
    """Return a problem when a reduction cannot be made of what the jobs answer with, by number of the job."""
    wanted = _MODES.get(reduce)
    wrong = [number for number, mode in enumerate(modes) if wanted and mode != wanted]
    if not wrong:
        return []
    possible = [name for name in REDUCTIONS if _MODES.get(name) in (None, modes[wrong[0]])]
    hint = "give observables" if wanted == "estimate" else "leave the observables out"
    detail = f"{len(wrong)} of {len(modes)} jobs ask for {modes[wrong[0]]}s, the first is job {wrong[0]}"
    return [
        Problem("SB-1108", "$.reduce", limit=", ".join(possible), actual=reduce, hint=hint, detail=detail)
    ]
