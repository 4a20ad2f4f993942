"""Skimming a damaged or hostile record ends at once; it never runs backwards or builds a number without end."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.reducers import skim
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import ShotbusError

EVENT = {
    "job_id": "j",
    "state": "QUEUED",
    "sub_status": "",
    "cause": "accept",
    "attempt": 0,
    "pool": "p",
    "tenant": "t",
    "sweep_id": "",
    "traceparent": "",
    "stage": "",
}
BATCH = encode("event_batch", {"shard": 0, "sequence": 1, "at_us": 2, "events": [EVENT] * 2})
FRAME = BATCH[:5]


@pytest.mark.parametrize(
    "data",
    [
        FRAME + b"\xff" * 1_000_000,
        FRAME + b"\x00\x02\x04" + b"\xfe" * 8 + b"\xff\x01",
        FRAME + b"\x00\x02\x04" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\xff\x01" * 50,
        BATCH[:-4],
    ],
    ids=["a number without end", "a count of digits", "2^62 items that run backwards", "cut off"],
)
def test_what_is_hostile_is_refused_at_once(data):
    begin = time.process_time()
    with pytest.raises(ShotbusError, match="SB-1006"):
        skim.items(data, "at_us", "events")
    assert time.process_time() - begin < 1


def test_what_is_sound_is_read():
    head, events, _ = skim.items(BATCH, "at_us", "events")
    assert (len(head), len(events)) == (3, 2)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise):
    try:
        _, events, _ = skim.items(FRAME + noise, "at_us", "events")
    except ShotbusError:
        return
    assert len(events) <= len(noise)
