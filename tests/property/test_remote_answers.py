"""Whatever a provider answers: nothing is raised but that it is implausible, and no false success passes."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.workers.adapters.remote_answers import STATUSES, read_job, read_result
from shotbus.workers.adapters.remote_device import RemoteCalibration
from shotbus.workers.adapters.remote_errors import ended, refusal
from shotbus.workers.providers.base import Expected, ImplausibleError

EXPECTED = Expected(bits=(3, 2), rows=2, shots=(5, 4))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
JOB = {
    "id": "qpu-1",
    "token": "t",
    "digest": "0" * 64,
    "status": "done",
    "by": "",
    "error": None,
    "created_ms": 1,
    "started_ms": 2,
    "finished_ms": 3,
    "calibration": {"begin": "a" * 64, "end": "a" * 64},
    "bill": {"cost": 0.5, "shots": 9, "backend_seconds": 1.5},
}


def good():
    """An answer as it should be."""
    rows = [[{"0x0": 5}, {"0x1": 3, "0x3": 1}], [{"0x2": 5}, {"0x2": 4}]]
    return {"id": "qpu-1", "token": "t", "results": [copy.deepcopy(rows), copy.deepcopy(rows)]}


def places(value, path=()):
    """Every place of a document."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(document, path, value):
    """The document with another value at a place."""
    if not path:
        return value
    copied = copy.deepcopy(document)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied


def accepted(document):
    try:
        return read_result(document, "t", "qpu-1", EXPECTED)
    except ImplausibleError:
        return None


def test_a_good_answer_is_taken_and_runs_are_added_up():
    first, _ = accepted(good())
    assert first.counts.sum() == 18
    assert first.indptr.tolist() == [0, 3, 4]
    assert first.outcomes[:, 0].tolist() == [0, 1, 3, 2]
    assert first.counts.tolist() == [5, 3, 1, 9]


@given(document=JSON)
def test_arbitrary_json_is_refused_and_nothing_else(document):
    assert accepted(document) is None
    with pytest.raises(ImplausibleError):
        read_job({"job": document}, "t")
    with pytest.raises(ImplausibleError):
        read_job(document, "t")


@given(path=st.sampled_from(sorted(places(good()), key=str)), value=JSON)
def test_an_answer_with_one_other_value_is_refused_or_accounts_for_every_shot(path, value):
    outcomes = accepted(put(good(), path, value))
    for entries, bits in zip(outcomes or (), EXPECTED.bits, strict=False):
        sums = np.add.reduceat(entries.counts, entries.indptr[:-1])
        assert sums.tolist() == [9, 9]
        assert (entries.counts > 0).all()
        assert (entries.outcomes[:, 0] >> bits == 0).all()


@given(
    table=st.dictionaries(
        st.sampled_from(["0x0", "0x1", "0x01", "0x7", "0x8", "0X1", "1", "-0x1", "0x", "", "0b1", "0x1 "]),
        st.integers(-2, 6) | st.booleans() | st.floats(allow_nan=False),
    )
)
def test_counts_pass_only_when_they_are_those_of_the_shots_and_the_bits(table):
    document = put(good(), ("results", 0, 0, 0), table)
    fits = all(key in ("0x0", "0x1", "0x7", "0x01") and type(n) is int and n > 0 for key, n in table.items())
    fits = fits and not {"0x1", "0x01"} <= set(table) and sum(table.values()) == 5
    assert (accepted(document) is not None) == fits


@given(path=st.sampled_from(sorted(places(JOB), key=str)), value=JSON)
def test_a_job_with_one_other_value_is_refused_or_still_the_one_that_was_asked_about(path, value):
    try:
        view = read_job({"job": put(JOB, path, value)}, "t")
    except ImplausibleError:
        return
    assert view.status in STATUSES
    assert 0 <= view.cost < float("inf")
    assert 0 <= view.backend_seconds < float("inf")
    assert view.queue_seconds >= 0
    assert "/" not in view.id
    assert view.id not in ("", ".", "..")


@given(status=st.integers(100, 599), document=JSON)
def test_any_refusal_and_any_failure_is_a_problem(status, document):
    refusal(status, document if isinstance(document, dict) else None)
    ended("failed", "provider", document)


@given(document=JSON)
def test_an_arbitrary_snapshot_is_refused_and_nothing_else(document):
    with pytest.raises(ImplausibleError):
        RemoteCalibration("d", json.dumps(document).encode())
