"""W3C trace context: what is valid goes on, what is not begins anew."""

import pytest

from shotbus.broker.tracing import TraceContext, new_trace, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_header_survives_parsing_and_writing():
    header = f"00-{TRACE}-{SPAN}-01"
    assert parse_traceparent(header) == TraceContext(TRACE, SPAN, "01")
    assert parse_traceparent(header).header() == header


def test_a_new_trace_is_valid_and_follows_from_its_randomness():
    assert parse_traceparent(new_trace(bytes(range(24))).header()) == new_trace(bytes(range(24)))


def test_a_child_keeps_trace_and_flags_and_has_its_own_span():
    child = TraceContext(TRACE, SPAN, "00").child(b"\x01" * 8)
    assert child == TraceContext(TRACE, "01" * 8, "00")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-٠١",
    ],
)
def test_a_malformed_header_is_no_context(header):
    assert parse_traceparent(header) is None
