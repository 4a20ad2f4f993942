"""Results as they stand on the bus, for the suites about earlier ones: counts, estimates, records."""

import numpy as np

from shotbus.schemas.codec import encode
from shotbus.schemas.pub import Counts, Estimates, pack_counts, pack_estimates

AT_US = 1_700_000_000_000_000
REGISTERS = (("c", 2),)


def counts(*rows, registers=REGISTERS):
    """Counts of two bits: a mapping from outcome number to count for each point."""
    entries = [(outcome, n) for row in rows for outcome, n in sorted(row.items())]
    indptr = np.cumsum([0, *map(len, rows)]).astype("<i4")
    outcomes = np.array([[outcome] for outcome, _ in entries], dtype=np.uint8).reshape(-1, 1)
    return Counts(registers, indptr, outcomes, np.array([n for _, n in entries], dtype="<i4"))


def sampled(*rows):
    """A packed payload of counts."""
    return pack_counts(counts(*rows))


def estimated(evs, stds):
    """A packed payload of estimates, one point."""
    return pack_estimates(Estimates(np.array([evs], dtype="<f8"), np.array([stds], dtype="<f8")))


def result(job="j", **changes):
    """The fields of a result, of now and of one point."""
    numbers = ("attempt", "points", "shots", "seed", "bytes_in", "request_partition", "request_offset")
    texts = ("sweep_id", "executed_on", "pool", "circuit_id", "experiment", "intent", "request_topic")
    fields = dict.fromkeys(numbers, 1) | dict.fromkeys(texts, "text") | {"tenant": "ada"}
    fields |= dict.fromkeys(("submitted_us", "accepted_us", "finished_us"), AT_US)
    fields |= {"job_id": job, "shard_index": -1, "outcome": "succeeded", "payload": b"", "provenance": b"{}"}
    fields |= {"problems": [], "timings": b"", "cache_key": "", "history_key": "", "late": False}
    fields |= {"answered_by": "run", "deviation": -1.0, "age_ms": 0, "fallback_from": ""}
    fields |= {"cost": 0.0, "backend_seconds": 0.0}
    assert not changes.keys() - fields.keys()
    return fields | changes


def record(job="j", **changes):
    """A result, framed."""
    return encode("circuit_result", result(job, **changes))
