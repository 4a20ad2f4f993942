"""W3C trace context (https://www.w3.org/TR/trace-context/): parse, make, continue. Pure.

Randomness is an argument. A job's trace goes from submit to result in the ``traceparent`` header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from shotbus.schemas.ids import digest

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class TraceContext(NamedTuple):
    """A position in a trace."""

    trace_id: str
    span_id: str
    flags: str = "01"

    def header(self) -> str:
        """Return the ``traceparent`` value."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self, entropy: bytes) -> TraceContext:
        """Return a new span of the same trace; ``entropy`` is 8 random bytes."""
        return TraceContext(self.trace_id, entropy.hex(), self.flags)


class Span(NamedTuple):
    """A stage of a job as a span: wall time of its start and its length, microseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_us: int
    duration_us: int


def spans_of(traceparent: str, seconds: Mapping[str, float], start_us: int) -> list[Span]:
    """Return a job's stages as spans of its trace, laid end to end from ``start_us``.

    Args:
        traceparent: the job's; a malformed one yields no spans.
        seconds: by stage, in the order of the table of stages.
        start_us: wall time at which the first stage began.

    """
    context = parse_traceparent(traceparent)
    if context is None:
        return []
    spans, at = [], float(start_us)
    for name, length in seconds.items():
        own = digest("span", traceparent, name, size=8).hex()
        spans.append(Span(context.trace_id, own, context.span_id, name, int(at), int(length * 1e6)))
        at += length * 1e6
    return spans


def parse_traceparent(value: str) -> TraceContext | None:
    """Return the context of a header, None when it is malformed (then a new trace begins)."""
    match = _FORM.fullmatch(value)
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return TraceContext(match[1], match[2], match[3])


def new_trace(entropy: bytes) -> TraceContext:
    """Begin a trace; ``entropy`` is 24 random bytes."""
    return TraceContext(entropy[:16].hex(), entropy[16:24].hex())
