"""Steps of a decision as lines for people: rules, candidates with their terms, what was decided. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shotbus.cli.common import printable
from shotbus.schemas.errors import Problem


def step_lines(trail: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line a step, whole: its kind, then its terms by name."""
    for step in trail:
        terms = ", ".join(f"{name} {_words(value)}" for name, value in step.items() if name != "step")
        yield printable(f"{step.get('step', 'step')}: {terms}")


def term_lines(terms: Mapping[str, Any], indent: str = "    ") -> Iterator[str]:
    """Yield the terms of an event: a line a term, and of one that consists of steps a line a step."""
    for name, value in terms.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            if all("code" in one for one in value):
                yield from (f"{indent}problem: {printable(str(Problem.from_record(one)))}" for one in value)
                continue
            yield f"{indent}{printable(name)}:"
            yield from (f"{indent}  {line}" for line in step_lines(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{indent}{printable(name)}: {printable(text)}"


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return "; ".join(value) or "nothing"
    return json.dumps(value)
