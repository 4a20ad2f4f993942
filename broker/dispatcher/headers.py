"""What a request's headers must be: few, small, ASCII, each once, and never against the record. Pure.

Headers are what other tools filter and route by without decoding. Who filters by one that says something
else than the record would see another job than the dispatcher does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shotbus.broker.bus.base import Headers
from shotbus.schemas.errors import MAX_PROBLEMS, Problem

MAX_BYTES = 16_384
MAX_COUNT = 64
#: Header -> the field of the request that it repeats.
_REPEATED = {"job-id": "job_id", "tenant": "tenant", "priority": "priority"}
#: Lists by their standards (W3C Trace Context, Baggage): several stand for one with commas.
_LISTS = frozenset({"tracestate", "baggage"})
_NONE: tuple[Problem, ...] = ()


def check_headers(headers: Headers, request: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return everything that is wrong with the headers of a request's record.

    SB-1007 too large, SB-1008 twice, SB-1009 not ASCII, SB-1010 another value than the record's.
    """
    size, plain = 0, len(headers) <= MAX_COUNT
    seen = set()
    for name, value in headers:
        size += len(name) + len(value)
        seen.add(name)
        field = _REPEATED.get(name)
        if field is None:
            plain &= name.isascii() and (name != "traceparent" or value.isascii())
        else:
            plain &= value == request[field].encode()
    # Nearly all are as they should be: what is wrong with the others is looked for only then.
    if plain and size <= MAX_BYTES and len(seen) == len(headers):
        return _NONE
    return tuple(_all_problems(headers, request, size)[:MAX_PROBLEMS])


def _all_problems(headers: Headers, request: Mapping[str, Any], size: int) -> list[Problem]:
    problems = []
    if size > MAX_BYTES or len(headers) > MAX_COUNT:
        limit, actual = f"{MAX_BYTES} bytes, {MAX_COUNT} headers", f"{size} bytes, {len(headers)} headers"
        problems.append(Problem("SB-1007", "$.headers", limit=limit, actual=actual))
    often = Counter(name for name, _ in headers if name not in _LISTS).most_common(MAX_PROBLEMS)
    problems += [Problem("SB-1008", f"$.headers.{name}") for name, count in often if count > 1]
    for name, value in headers:
        problems += _problems_of(name, value, request)
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _problems_of(name: str, value: bytes, request: Mapping[str, Any]) -> list[Problem]:
    field = _REPEATED.get(name)
    if field and value == request[field].encode():
        return []
    if not name.isascii() or ((field or name == "traceparent") and not value.isascii()):
        return [Problem("SB-1009", f"$.headers.{name}")]
    if field:
        return [Problem("SB-1010", f"$.headers.{name}", limit=request[field], actual=value.decode())]
    return []
