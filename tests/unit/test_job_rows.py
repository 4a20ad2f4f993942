"""A job's ledger row: packed where it fits, whole where it does not, and read by older and newer processes."""

import pytest
from dispatcher_kit import Driver, job_id, payload, request, submitted

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.job import Seat
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.rows import NUMBERS, TEXTS, decode_row, encode_row, row_fields
from shotbus.schemas.codec import decode, encode, identify

SEAT = Seat("w1", "lease", 3, 1_700_000_000_123)


def job_with(**values):
    driver = Driver(lambda: Dispatcher(0, 2, Config()))
    driver.run(submitted(request(1, payload_hash=payload(1)), offset=7))
    job = driver.machine.live[job_id(1)]
    for name, value in values.items():
        setattr(job, name, value)
    return job


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"chain": ("free", "cache:60"), "extras": {"unique": "x\x1fy"}, "attempt": 3},
        {"deadline_ms": 2**62, "cost": 1e-9, "shard_index": -1, "tenant": "Zoë ☃"},
    ],
)
def test_a_row_is_packed_and_holds_everything(values):
    job = job_with(**values)
    row = encode_row(job, SEAT)
    assert identify(row).name == "packed_job"
    again, seat = decode_row(row)
    assert seat == SEAT
    assert encode_row(again, seat) == row
    assert all(getattr(again, name) == getattr(job, name) for name in values)


@pytest.mark.parametrize(
    "values", [{"shots": 2**40}, {"attempt": 70_000}, {"experiment": "a\x1fb"}, {"points": -1}]
)
def test_what_does_not_fit_is_written_whole(values):
    job = job_with(chain=("free",), **values)
    row = encode_row(job, SEAT)
    assert identify(row).name == "job_row"
    again, seat = decode_row(row)
    assert seat == SEAT
    assert again.chain == ("free",)
    assert all(getattr(again, name) == value for name, value in values.items())


def test_both_forms_say_the_same():
    job = job_with()
    packed, job.experiment = row_fields(encode_row(job, SEAT)), "\x1f"
    whole = row_fields(encode_row(job, SEAT)) | {"experiment": packed["experiment"]}
    assert {name: whole[name] for name in packed} == packed
    assert set(packed) == {*NUMBERS, *TEXTS, "payload_hash"}


def test_a_row_of_an_older_version_has_blanks_and_one_of_a_newer_version_is_read_as_far_as_known():
    job = job_with(extras={"a": 1}, work=2)
    fields = decode(encode_row(job, SEAT))[1]
    older = fields | {"numbers": fields["numbers"][:-2], "texts": fields["texts"].rpartition("\x1f")[0]}
    newer = fields | {"numbers": fields["numbers"] + b"\x07" * 8, "texts": fields["texts"] + "\x1fcolour"}
    found = row_fields(encode("packed_job", older))
    assert (found["work"], found["extras"], found["tenant"]) == (0, "", job.tenant)
    assert row_fields(encode("packed_job", newer)) == row_fields(encode("packed_job", fields))


def test_the_columns_stay_where_they_are():
    # Append only: a process of another version reads these by their places.
    assert "".join(NUMBERS.values()) == "IqIqqqqqqqqqdIIIIIIIiHHHH"
    assert list(NUMBERS)[:5] == [
        "target_partition",
        "start_by_ms",
        "request_partition",
        "request_offset",
        "submitted_us",
    ]
    assert TEXTS[:4] == ("state", "worker", "lease_id", "job_id")
    assert TEXTS[-3:] == ("bundle_id", "chain", "extras")
