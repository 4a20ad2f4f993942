"""The path to real backends of IBM's: the SDK's own client over HTTP, against a service that goes wrong."""

import time

import pytest
from ibm_kit import FakeIbm, adapter
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_result

TEXT, NAMES = rotations(2)
BARE, BARE_NAMES = rotations(2, measured=False)
NUMBERS = iter(range(1, 1_000))


@pytest.fixture(scope="module")
def server():
    with FakeIbm() as running:
        yield running


@pytest.fixture
def ibm(server, monkeypatch, tmp_path):
    yield adapter(server, monkeypatch, tmp_path)
    server.clear()


def work(rows=2, shots=50):
    """One job that nobody else has, and its token."""
    one = item(request(TEXT, angles(NAMES, rows), shots=shots), number=next(NUMBERS))
    return batch([one], TEXT), one.token


def test_what_it_says_of_its_backend_is_the_services_word(ibm, server):
    state = ibm.sense()
    assert state.unhealthy == ""
    assert 0.9 < state.fidelity < 1
    assert state.t1_us > 1
    assert state.calibrated_ms > 0
    server.online = False
    assert "maintenance" in ibm.sense().unhealthy
    assert (ibm.capabilities.kind, ibm.capabilities.paid) == ("hardware", True)


def test_a_sweep_is_one_job_and_comes_back_row_by_row(ibm, server):
    known, token = work(rows=3)
    (result,) = ibm.run(known)
    assert result.problems == ()
    assert unpack_result(result.payload).counts.sum() == 150
    assert (result.backend_seconds, len(server.taken(token))) == (2.5, 1)
    (job,) = ibm.provenance(known)["provider"]["jobs"].values()
    assert job["provider_job_id"] == server.taken(token)[0]["id"]
    assert len(job["submission_sha256"]) == 64


def test_an_estimate_is_one_job_of_a_pub_for_each_basis(ibm, server):
    terms = pack_observables(PauliSums.from_terms([[("ZI", 1.0)], [("XX", 1.0)]]))
    raw = request(BARE, angles(BARE_NAMES, 2), mode="estimate", observables=terms, shots=400)
    one = item(raw, number=next(NUMBERS))
    (result,) = ibm.run(batch([one], BARE))
    assert unpack_result(result.payload).evs.shape == (2, 2)
    assert (result.shots, len(server.taken(one.token))) == (400 * 2 * 2, 1)


def test_an_answer_that_is_lost_is_looked_for_by_its_tag_and_nothing_is_handed_in_again(ibm, server):
    server.faults = ["lost"]
    known, token = work()
    (result,) = ibm.run(known)
    assert result.problems == ()
    assert len(server.taken(token)) == 1


def test_what_the_client_repeats_by_itself_is_cancelled_but_for_the_first_and_counted(ibm, server):
    server.hold, server.faults = True, ["500", "500"]
    known, token = work()
    ibm.cancel({"somebody else's"})
    result = run_held(ibm, server, known)
    assert result.problems == ()
    states = [job["status"] for job in server.taken(token)]
    assert states == ["Completed", "Cancelled", "Cancelled"]
    assert ibm.provenance(known)["provider"]["surplus_cancelled"] == 2


def run_held(ibm, server, known):
    """Let jobs wait until all of them are there, then run."""
    from threading import Thread

    results = []
    thread = Thread(target=lambda: results.extend(ibm.run(known)))
    thread.start()
    token = known.items[0].token
    end = time.monotonic() + 60
    while [job["status"] for job in server.taken(token)].count("Cancelled") < 2 and time.monotonic() < end:
        time.sleep(0.02)
    server.hold = False
    thread.join()
    return results[0]


def test_a_second_attempt_finds_the_first_ones_job(ibm, server):
    known, token = work()
    ibm.run(known)
    known.items[0].attempt = 2
    (again,) = ibm.run(known)
    assert again.problems == ()
    assert len(server.taken(token)) == 1


@pytest.mark.parametrize(
    ("fault", "expected"), [("400", "INVALID"), ("403", "BACKEND_DOWN"), ("429", "THROTTLED")]
)
def test_a_refusal_is_ours_by_the_table_and_nothing_was_taken(ibm, server, fault, expected):
    server.faults = [fault] * 8
    known, token = work()
    (result,) = ibm.run(known)
    assert (result.error_class, server.taken(token)) == (expected, [])


@pytest.mark.parametrize(
    ("code", "expected"), [("1305", "TIMEOUT"), ("1002", "INVALID"), ("9999", "TRANSIENT")]
)
def test_a_job_that_failed_says_why(ibm, server, code, expected):
    server.fail = code
    (result,) = ibm.run(work()[0])
    assert result.error_class == expected


def test_a_result_of_too_few_shots_is_not_believed(ibm, server):
    server.wrong_shots = True
    (result,) = ibm.run(work()[0])
    assert (result.error_class, result.problems[0].code) == ("UNSTABLE", "SB-5005")


def test_a_job_that_waits_is_cancelled_there(ibm, server):
    server.hold = True
    known, token = work()
    ibm._patience = type(ibm._patience)(0.01, 0.2)
    (waits,) = ibm.run(known)
    assert waits.error_class == "UNKNOWN_OUTCOME"
    ibm.cancel({token})
    (found,) = ibm.look_up(known)
    assert (found.found, found.error_class) == ("done", "REVOKED")


def test_another_process_finds_a_job_by_its_tag_and_a_tag_of_nobody_is_absent_only_after_a_while(
    ibm, server, monkeypatch, tmp_path
):
    known, _ = work()
    (ran,) = ibm.run(known)
    other = adapter(server, monkeypatch, tmp_path, settle_seconds=0.2)
    (found,) = other.look_up(known)
    assert (found.found, found.payload) == ("done", ran.payload)
    nobody, _ = work()
    assert [one.found for one in other.look_up(nobody)] == ["unknown"]
    end = time.monotonic() + 30
    while (said := other.look_up(nobody)[0].found) == "unknown" and time.monotonic() < end:
        time.sleep(0.05)
    assert said == "absent"


def test_the_jobs_of_a_bundle_share_a_batch_which_is_closed_behind_them(server, monkeypatch, tmp_path):
    together = adapter(server, monkeypatch, tmp_path, mode="batch")
    one, other = work()[0].items[0], work()[0].items[0]
    server.sessions.clear()
    results = together.run(batch([one, other], TEXT))
    assert [result.problems for result in results] == [(), ()]
    assert {job["session_id"] for each in (one, other) for job in server.taken(each.token)} == {"session-1"}
    assert [verb for verb, _ in server.sessions] == ["POST", "PATCH"]


def test_a_job_that_is_listed_is_never_called_absent_though_nothing_more_is_told_of_it(
    ibm, server, monkeypatch, tmp_path
):
    known, _ = work()
    ibm.run(known)
    other = adapter(server, monkeypatch, tmp_path, settle_seconds=0.0)
    server.mute = True
    assert [one.found for one in other.look_up(known)] == ["unknown"]
    server.mute = False
    assert [one.found for one in other.look_up(known)] == ["done"]
