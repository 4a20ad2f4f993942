"""IBM's service in words of ours: options, errors by table, samples as packed arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import error_class_of
from shotbus.workers.adapters.entries import read_entries
from shotbus.workers.adapters.ibm_answers import counted, read_samples, times_of
from shotbus.workers.adapters.ibm_errors import BEFORE, FAILURES, STATUSES, cancelled, failure, refusal
from shotbus.workers.adapters.ibm_settings import read_settings
from shotbus.workers.providers.base import Expected, ImplausibleError

#: What the table says -> the class that the dispatcher acts by.
CLASSES = {
    "SB-1110": "CONSTRAINT",
    "SB-1116": "CONSTRAINT",
    "SB-1117": "CONSTRAINT",
    "SB-1220": "INVALID",
    "SB-5004": "TIMEOUT",
    "SB-5008": "BACKEND_DOWN",
    "SB-5009": "THROTTLED",
}


class ServerError(Exception):
    def __init__(self, status):
        super().__init__("secret text")
        self.status_code = status


def wrapped(status):
    """As the SDK raises it: its own error, with the request's behind it."""
    try:
        try:
            raise ServerError(status)
        except ServerError:
            raise RuntimeError("Failed to run program") from None
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_status_that_says_not_accepted_decides_though_the_sdk_hides_it(status):
    problem = refusal(wrapped(status))
    assert problem.code == STATUSES[status]
    assert error_class_of([problem]) == CLASSES[problem.code]
    assert "secret" not in str(problem)


@pytest.mark.parametrize("status", [-1, 0, 408, 409, 500, 502, 503, 504])
def test_whatever_else_the_service_answers_proves_nothing(status):
    assert error_class_of([refusal(wrapped(status))]) == "UNKNOWN_OUTCOME"


def test_what_the_sdk_raises_before_it_sends_anything_is_a_refusal_by_its_name():
    assert refusal(ValueError("no such register")).code == "SB-1220"
    assert refusal(type("IBMAccountError", (Exception,), {})()).code == "SB-5008"
    assert refusal(OSError("broken pipe")).code == "SB-5007"
    assert {error_class_of([refusal(type(name, (Exception,), {})())]) for name in BEFORE} == {
        "BACKEND_DOWN",
        "INVALID",
    }


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_a_failed_job_says_why_by_its_code(code):
    problem = failure(f"Error code {code}; something")
    assert problem.code == FAILURES[code]
    assert error_class_of([problem]) == CLASSES[problem.code]


@pytest.mark.parametrize("message", ["", "Internal error", "Error code 9999; what", "job 1305 failed"])
def test_a_failure_of_another_kind_is_tried_again(message):
    assert error_class_of([failure(message)]) == "TRANSIENT"


def test_an_end_before_its_time_is_ours_or_the_providers():
    assert error_class_of([cancelled(by_us=True)]) == "REVOKED"
    assert error_class_of([cancelled(by_us=False)]) == "CANCELLED_BY_PROVIDER"


def test_a_real_backend_needs_credentials_by_reference_and_a_fake_one_none():
    assert read_settings({"backend": "fake_torino"}).local
    with pytest.raises(ShotbusError) as refused:
        read_settings({"backend": "ibm_torino", "mode": "loop"})
    assert {problem.path for problem in refused.value.problems} == {"$.credentials", "$.mode"}
    with pytest.raises(ShotbusError) as refused:
        read_settings({"backend": "ibm_torino", "credentials": "s3cr3t"})
    assert "s3cr3t" not in str(refused.value)
    assert not read_settings({"backend": "ibm_torino", "credentials": "env:IBM_KEY"}).local


@given(
    st.integers(1, 70).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            st.lists(
                st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=20).map(tuple),
                min_size=1,
                max_size=4,
            ),
        )
    )
)
def test_samples_are_counted_as_tables_of_them_would_be_read(drawn):
    bits, rows = drawn
    shots = min(map(len, rows))
    width = -(-bits // 8)
    raw = [[outcome.to_bytes(width, "little") for outcome in row[:shots]] for row in rows]
    samples = np.array([[list(one) for one in row] for row in raw], dtype=np.uint8)
    tables = [{hex(one): row[:shots].count(one) for one in row[:shots]} for row in rows]
    ours, known = counted(samples), read_entries(tables, bits)
    assert ours.indptr.tolist() == known.indptr.tolist()
    assert ours.outcomes.tolist() == known.outcomes.tolist()
    assert ours.counts.tolist() == known.counts.tolist()


class Pub:
    """A result as the SDK has it."""

    def __init__(self, samples):
        self.data = type("Data", (), {"c": samples})()


def result(bits, rows, shots, fill=0):
    from qiskit.primitives import BitArray

    width = -(-bits // 8)
    return Pub(BitArray(np.full((rows, shots, width), fill, dtype=np.uint8), bits))


@pytest.mark.parametrize(
    "told",
    [
        [],
        [result(3, 2, 10), result(3, 2, 10)],
        [result(4, 2, 10)],
        [result(3, 2, 9)],
        [result(3, 1, 10)],
        [Pub(None)],
        [result(3, 2, 10, fill=8)],
    ],
    ids=["none", "too many", "wide", "few shots", "few rows", "no register", "a bit too high"],
)
def test_samples_that_do_not_fit_the_request_are_not_believed(told):
    with pytest.raises(ImplausibleError):
        read_samples(told, Expected((3,), 2, (10,)))


def test_samples_that_fit_are_counted_with_all_runs_of_a_row_added_up():
    (read,) = read_samples([result(3, 2, 10), result(3, 2, 4)], Expected((3,), 2, (10, 4)))
    assert read.counts.tolist() == [14, 14]


def test_times_are_read_where_they_are_told():
    told = {"timestamps": {"running": "1970-01-01T00:00:01Z", "finished": None}}
    assert times_of(told) == (1_000, 0)
    assert times_of({}) == (0, 0)
