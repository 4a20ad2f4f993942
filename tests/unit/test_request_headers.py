"""Headers of a request: what is wrong with them is found at once, and what is usual costs nothing."""

import pytest
from avro_values import request_fields

from shotbus.broker.dispatcher.headers import check_headers

FIELDS = request_fields(tenant="Größe")
USUAL = (
    ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"),
    ("job-id", FIELDS["job_id"].encode()),
    ("tenant", "Größe".encode()),
    ("priority", b"experiment"),
)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        USUAL,
        (*USUAL, ("ce_type", b"x"), ("relayed", b"1"), ("binary", bytes(range(256)))),
        (("tracestate", b"a=1"), ("tracestate", b"b=2"), ("baggage", b"c=3"), ("baggage", b"d=4")),
        (("x", bytes(16_383)),),
    ],
    ids=["none", "usual", "others", "lists", "just small enough"],
)
def test_what_is_right_is_taken(headers):
    assert check_headers(headers, FIELDS) == ()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((("x", bytes(16_384)),), [("SB-1007", "$.headers")]),
        (tuple((f"h{n}", b"") for n in range(65)), [("SB-1007", "$.headers")]),
        ((("a", b"1"), ("a", b"1")), [("SB-1008", "$.headers.a")]),
        ((*USUAL, ("priority", b"experiment")), [("SB-1008", "$.headers.priority")]),
        ((("ключ", b"1"),), [("SB-1009", "$.headers.ключ")]),
        ((("p\N{CYRILLIC SMALL LETTER ER}iority", b"bulk"),), [("SB-1009", "$.headers.pрiority")]),
        ((("traceparent", b"\xff\xfe"),), [("SB-1009", "$.headers.traceparent")]),
        ((("tenant", b"\xff"),), [("SB-1009", "$.headers.tenant")]),
        ((("priority", b"interactive"),), [("SB-1010", "$.headers.priority")]),
        (
            (("priority", b"bulk"), ("priority", b"bulk"), ("job-id", b""), ("ü", bytes(20_000))),
            [
                ("SB-1007", "$.headers"),
                ("SB-1008", "$.headers.priority"),
                ("SB-1010", "$.headers.priority"),
                ("SB-1010", "$.headers.priority"),
                ("SB-1010", "$.headers.job-id"),
                ("SB-1009", "$.headers.ü"),
            ],
        ),
    ],
)
def test_everything_that_is_wrong_is_told_with_its_place(headers, expected):
    assert [(one.code, one.path) for one in check_headers(headers, FIELDS)] == expected


def test_a_hundred_thousand_headers_are_refused_with_few_words():
    headers = tuple((f"h{number % 50_000}", b"") for number in range(100_000))
    found = check_headers(headers, FIELDS)
    assert len(found) == 20
    assert found[0].code == "SB-1007"
