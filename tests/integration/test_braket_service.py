"""Devices at AWS, spoken to over HTTP by boto3: what is handed in, found again, believed, and never made twice."""

import itertools
import json

import numpy as np
import pytest
from braket_devices import QPU, SIMULATOR
from braket_kit import SECRET, FakeBraket
from embedded_kit import eventually
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import Bindings, PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.base import BatchItem, content_address, load

HEAD = "OPENQASM 3.0; include 'stdgates.inc'; "
BELL = (
    HEAD
    + "qubit[3] q; bit[4] c; h q[0]; cx q[0], q[2]; c[0] = measure q[0]; c[1] = measure q[0]; c[3] = measure q[2];"
)
TEXT, NAMES = rotations(3)
BARE, BARE_NAMES = rotations(2, measured=False)
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    with FakeBraket(tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture(scope="module")
def qpu(aws):
    return aws.adapter()


def job(raw=None, **more):
    """A job that no other test hands in."""
    return item(raw or request(BELL, shots=200), number=next(NUMBERS), **more)


def run(adapter, one, text=BELL):
    (result,) = adapter.run(batch([one], text))
    return result


def look_up(adapter, one, text=BELL):
    (result,) = adapter.look_up(batch([one], text))
    return result


def answer(result):
    assert result.problems == ()
    return unpack_result(result.payload)


def codes(result):
    return result.error_class, [problem.code for problem in result.problems]


@pytest.mark.parametrize("device", [QPU, SIMULATOR])
def test_a_bell_pair_is_one_program_whose_qubits_go_to_the_bits_that_asked_for_them(aws, device):
    one = job()
    result = run(aws.adapter(device), one)
    counts = answer(result)
    assert counts.outcomes[:, 0].tolist() == [0, 0b1011]
    assert counts.counts.sum() == 200
    assert (result.cost, result.backend_seconds) == (-1.0, 0.012)
    assert aws.created()[one.token] == 1


def test_a_sweep_is_one_task_whose_rows_come_back_in_their_order(aws, qpu):
    one = job(request(TEXT, angles(NAMES, 6), shots=1_000))
    sampled = answer(run(qpu, one, TEXT))
    exact = answer(run(load("vector"), item(request(TEXT, angles(NAMES, 6), shots=400_000)), TEXT))
    for row in range(6):
        shares = [
            {k: v / sum(told.row(row).values()) for k, v in told.row(row).items()}
            for told in (sampled, exact)
        ]
        keys = set().union(*shares)
        # Six standard deviations of a share, and what 400,000 shots may be wrong by.
        assert max(abs(shares[0].get(key, 0) - shares[1].get(key, 0)) for key in keys) < 0.1
    assert aws.created()[one.token] == 1


def test_estimates_in_several_bases_are_one_task_near_the_truth(aws, qpu):
    packed = pack_observables(
        PauliSums.from_terms([[("ZI", 1.0)], [("XX", 0.5), ("ZZ", 0.5)], [("YI", 1.0)]])
    )
    told = {"mode": "estimate", "observables": packed}
    one = job(request(BARE, angles(BARE_NAMES, 3), shots=800, **told))
    sampled = answer(run(qpu, one, BARE))
    exact = answer(run(load("vector"), item(request(BARE, angles(BARE_NAMES, 3), shots=0, **told)), BARE))
    assert np.abs((sampled.evs - exact.evs) / np.maximum(sampled.stds, 0.01)).max() < 6
    assert aws.created()[one.token] == 1


def test_an_angle_that_is_a_formula_is_computed_before_it_is_handed_in(qpu):
    text = HEAD + "input float a; input float b; qubit[1] q; bit[1] c; rx(2 * a + b) q[0]; c = measure q;"
    bound = Bindings(
        ("a", "b"), np.array([[np.pi / 2, 0.0], [np.pi / 4, np.pi / 2], [0.0, 0.0], [1.0, -2.0]])
    )
    counts = answer(run(qpu, job(request(text, bound, shots=50)), text))
    assert counts.outcomes[:, 0].tolist() == [1, 1, 0, 0]
    assert counts.counts.tolist() == [50, 50, 50, 50]


def test_an_angle_without_a_value_fails_its_own_job_and_is_not_handed_in(aws, qpu):
    text = HEAD + "input float a; qubit[1] q; bit[1] c; rx(1 / a) q[0]; c = measure q;"
    bad, good = job(request(text, Bindings(("a",), np.zeros((1, 1))))), job()
    results = qpu.run(batch([bad, good], text, BELL))
    assert [codes(one) for one in results] == [("INVALID", ["SB-1220"]), ("", [])]
    assert aws.created()[bad.token] == 0


def test_rows_of_a_circuit_without_parameters_are_executables_of_their_own(qpu):
    raw = request(BELL, Bindings((), np.zeros((3, 0))), shots=50)
    counts = answer(run(qpu, job(raw)))
    assert np.add.reduceat(counts.counts, counts.indptr[:-1]).tolist() == [50, 50, 50]


def test_shots_that_are_too_many_for_a_run_are_told_how_and_then_go_in_several(qpu):
    refused = run(qpu, job(request(BELL, shots=8_000)))
    assert codes(refused) == ("CONSTRAINT", ["SB-1110"])
    assert "5000" in refused.problems[0].hint
    counts = answer(run(qpu, job(request(BELL, shots=8_000, options={"shots_per_call": "4000"}))))
    assert counts.counts.sum() == 8_000


def test_more_rows_than_a_program_set_has_are_refused_with_how_many_it_would_take(aws, qpu):
    one = job(request(TEXT, angles(NAMES, 13)))
    refused = run(qpu, one, TEXT)
    assert codes(refused) == ("CONSTRAINT", ["SB-1110"])
    assert "at most 12 rows" in refused.problems[0].hint
    assert aws.created()[one.token] == 0


def test_a_device_without_program_sets_takes_one_executable_a_job(aws):
    simulator = aws.adapter(SIMULATOR)
    refused = run(simulator, job(request(TEXT, angles(NAMES, 2))), TEXT)
    assert codes(refused) == ("CONSTRAINT", ["SB-1110"])
    assert "one row a job" in refused.problems[0].hint
    assert answer(run(simulator, job(request(TEXT, angles(NAMES, 1))), TEXT)).counts.sum() == 100


def test_a_job_handed_in_twice_under_one_token_is_one_task(aws, qpu):
    one = job()
    first, again = run(qpu, one), run(aws.adapter(), one)
    assert (first.payload, first.provider_job_id) == (again.payload, again.provider_job_id)
    assert aws.created()[one.token] == 1


@pytest.mark.parametrize("fault", ["lost_answer", "error_after"])
def test_a_task_whose_acceptance_was_not_heard_of_is_found_and_not_made_again(aws, qpu, fault):
    one = job()
    aws.plan(fault, one.token)
    assert answer(run(qpu, one)).counts.sum() == 200
    assert aws.created()[one.token] == 1


def test_an_error_of_the_service_leaves_the_outcome_unknown_until_the_task_is_listed(aws, qpu):
    one = job()
    aws.plan("error_after", one.token)
    aws.plan("unlisted", one.token)
    assert codes(run(qpu, one)) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    found = look_up(qpu, one)
    eventually(lambda: look_up(qpu, one).found == "done")
    assert found.found in ("running", "done")
    assert aws.created()[one.token] == 1


def test_a_token_is_nobodys_only_after_it_was_long_not_listed(aws):
    one = job()
    aws.plan("error", one.token)
    patient = aws.adapter(settle_seconds="3600")
    assert codes(run(patient, one)) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert look_up(patient, one).found == "unknown"
    assert look_up(aws.adapter(), one).found == "absent"
    assert aws.created()[one.token] == 0


def test_a_second_attempt_takes_what_the_first_has_handed_in(aws, qpu):
    first = job()
    run(qpu, first)
    second = BatchItem(first.job_id, 2, 7, request(BELL, shots=300))
    assert run(aws.adapter(), second).provider_job_id == run(qpu, first).provider_job_id
    assert aws.created()[first.token] == 1


def test_a_job_that_waits_is_looked_up_by_another_process_and_its_result_told(aws):
    one = job()
    aws.set(held=True)
    waited = run(aws.adapter(wait_seconds="0"), one)
    aws.set(held=False)
    assert codes(waited) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert "place 3" in waited.problems[0].detail
    other = aws.adapter()
    assert look_up(other, one).found == "running"
    aws.release()
    eventually(lambda: look_up(other, one).found == "done")
    assert answer(look_up(other, one)).counts.sum() == 200
    assert aws.created()[one.token] == 1


def test_a_job_in_the_queue_is_cancelled_and_one_that_has_run_is_not(aws):
    adapter = aws.adapter(wait_seconds="0")
    waiting, ran = job(), job()
    run(aws.adapter(), ran)
    aws.set(held=True)
    run(adapter, waiting)
    aws.set(held=False)
    adapter.cancel({waiting.token, ran.token})
    called_off = look_up(adapter, waiting)
    assert (called_off.found, *codes(called_off)) == ("done", "REVOKED", ["SB-4002"])
    assert answer(look_up(adapter, ran)).counts.sum() == 200


def test_a_job_that_nobody_wants_is_not_handed_in(aws):
    one, adapter = job(), aws.adapter()
    adapter.cancel({one.token})
    assert codes(run(adapter, one)) == ("REVOKED", ["SB-4002"])
    assert aws.created()[one.token] == 0


def test_throttling_is_told_with_the_time_that_the_service_wants(aws, qpu):
    one = job()
    aws.plan("throttle", one.token)
    result = run(qpu, one)
    assert codes(result) == ("THROTTLED", ["SB-5009"])
    assert result.retry_after_ms == 7_000
    assert aws.created()[one.token] == 0


def test_a_program_that_is_refused_is_the_jobs_own_fault(aws, qpu):
    one = job()
    aws.plan("invalid", one.token)
    result = run(qpu, one)
    assert codes(result) == ("INVALID", ["SB-1220"])
    assert "unknown gate" in result.problems[0].detail


def test_a_task_that_failed_says_why_by_its_reason(aws, qpu):
    one = job()
    aws.plan("fail", one.token)
    assert codes(run(qpu, one)) == ("BACKEND_DOWN", ["SB-5008"])


@pytest.mark.parametrize("fault", ["wrong_shots", "garbage"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_result_that_does_not_fit_the_request_is_not_believed(aws, qpu, fault, rows):
    one = job(request(TEXT, angles(NAMES, rows)))
    aws.plan(fault, one.token)
    assert codes(run(qpu, one, TEXT)) == ("UNSTABLE", ["SB-5005"])


def test_an_executable_that_failed_fails_its_job_as_its_category_says(aws, qpu):
    one = job(request(TEXT, angles(NAMES, 3)))
    aws.plan("executable", one.token)
    result = run(qpu, one, TEXT)
    assert codes(result) == ("TRANSIENT", ["SB-5001"])
    assert "no lock" in result.problems[0].detail


def test_a_result_that_is_no_more_is_no_result(aws, qpu):
    one = job()
    aws.plan("result_lost", one.token)
    assert codes(run(qpu, one)) == ("UNSTABLE", ["SB-5005"])


def test_a_device_off_line_is_unhealthy_and_takes_nothing(aws, qpu):
    aws.set(status="OFFLINE")
    try:
        assert "OFFLINE" in qpu.sense().unhealthy
        assert codes(run(qpu, job())) == ("BACKEND_DOWN", ["SB-5008"])
        remembers = aws.adapter(device_seconds="60")
        assert "OFFLINE" in remembers.sense().unhealthy
    finally:
        aws.set(status="ONLINE")
    assert qpu.sense().unhealthy == ""


def test_a_device_that_went_off_line_since_it_was_asked_refuses(aws):
    adapter = aws.adapter(device_seconds="60")
    assert adapter.sense().unhealthy == ""
    aws.set(status="OFFLINE")
    try:
        assert codes(run(adapter, job())) == ("BACKEND_DOWN", ["SB-5008"])
    finally:
        aws.set(status="ONLINE")


def test_credentials_may_be_exchanged_and_wrong_ones_are_told_without_them(aws, tmp_path):
    secret = tmp_path / "credential"
    secret.write_text(json.dumps({**SECRET, "AccessKeyId": "AKIDNOBODY"}))
    adapter = aws.adapter(credentials=f"file:{secret}")
    unhealthy = adapter.sense().unhealthy
    assert "UnrecognizedClientException" in unhealthy
    assert "very/secret" not in unhealthy + str(run(adapter, job()).problems)
    secret.write_text(json.dumps(SECRET))
    assert adapter.sense().unhealthy == ""
    secret.write_text("very/secret")
    assert "very/secret" not in adapter.sense().unhealthy
    assert adapter.sense().unhealthy != ""


def test_an_endpoint_that_nobody_serves_is_a_backend_that_is_down(aws):
    adapter = aws.adapter(endpoint="http://127.0.0.1:1")
    assert "EndpointConnectionError" in adapter.sense().unhealthy
    assert codes(run(adapter, job())) == ("BACKEND_DOWN", ["SB-5008"])


def test_provenance_names_device_calibration_layout_and_where_the_answer_is(qpu):
    known = batch([job()], BELL)
    qpu.run(known)
    told = qpu.provenance(known)
    assert told["backend"] == QPU
    (one,) = told["provider"]["jobs"].values()
    assert one["answer"].startswith("s3://results/shotbus/")
    assert (len(one["submission_sha256"]), len(one["answer_sha256"])) == (64, 64)
    (circuit,) = told["circuits"].values()
    assert len(circuit["layout"]) == 3
    snapshot = qpu.calibration(told["calibration_id"])
    assert content_address(snapshot) == told["calibration_id"] == qpu.sense().calibration_id
    assert json.loads(snapshot)["labels"] == [1, 2, 3, 5, 8]


def test_what_was_measured_of_the_device_is_told(qpu):
    state = qpu.sense()
    assert state.fidelity == pytest.approx(0.98)
    assert (state.t1_us, state.t2_us) == (pytest.approx(30), pytest.approx(20))
    # 2026-01-02T03:04:05 in UTC, though it does not say so.
    assert state.calibrated_ms == 1_767_323_045_000
