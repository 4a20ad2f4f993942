"""W3C trace context (https://www.w3.org/TR/trace-context/): parse, make, continue. Pure.

Randomness is an argument. A job's trace goes from submit to result in the ``traceparent`` header.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")


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


def parse_traceparent(value: str) -> TraceContext | None:
    """Return the context of a header, None when it is malformed (then a new trace begins)."""
    match = _FORM.match(value)
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return TraceContext(match[1], match[2], match[3])


def new_trace(entropy: bytes) -> TraceContext:
    """Begin a trace; ``entropy`` is 24 random bytes."""
    return TraceContext(entropy[:16].hex(), entropy[16:24].hex())
