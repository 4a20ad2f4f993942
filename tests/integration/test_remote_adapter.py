"""The remote adapter against the real server: what each fault comes to, and that nothing is billed twice."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from embedded_kit import eventually
from provider_kit import Provider
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.base import content_address, load
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.reuse import Rule
from shotbus.workers.providers.base import NoAnswerError

TEXT, NAMES = rotations(2)
BARE, BARE_NAMES = rotations(2, measured=False)
SAMPLED = request(TEXT, angles(NAMES, 2), shots=200)
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Provider(tmp_path_factory.mktemp("provider"), "--max-shots", 5_000) as running:
        yield running


@pytest.fixture
def provider(server):
    yield server
    server.clear()
    server.admin("POST", "offline", {"reason": ""})


@pytest.fixture(scope="module")
def kept(server):
    """One adapter for those who need nothing special: its compiled circuits are kept."""
    return server.adapter()


def fresh(raw=SAMPLED):
    return item(raw, number=next(NUMBERS))


def ran(adapter, one, text=TEXT):
    (result,) = adapter.run(batch([one], text))
    return result


def looked_up(adapter, one, text=TEXT):
    (result,) = adapter.look_up(batch([one], text))
    return result


def codes(result):
    return result.error_class, [problem.code for problem in result.problems]


def estimate(terms, **fields):
    observables = pack_observables(PauliSums.from_terms(terms))
    fields = {"shots": 4_000, **fields}
    return request(BARE, angles(BARE_NAMES, 2), mode="estimate", observables=observables, **fields)


# --- what it does ---


def test_a_sample_says_what_it_cost_and_where_it_is_to_be_had(provider, kept):
    one = fresh()
    result = ran(kept, one)
    counts = unpack_result(result.payload)
    assert [sum(counts.row(row).values()) for row in range(2)] == [200, 200]
    assert counts.registers == (("c", 2),)
    assert (result.cost, result.shots) == (pytest.approx(0.01 + 400 * 0.0001), 400)
    assert result.backend_seconds > 0
    told = kept.provenance(batch([one]))
    job = told["provider"]["jobs"][one.job_id]
    assert job["provider_job_id"] == result.provider_job_id
    assert told["circuits"][one.request["circuit_id"]]["two_qubit_gates"] == 1
    for name in ("submission", "answer"):
        assert content_address(provider.fetch(job[name])) == job[f"{name}_sha256"]
    assert content_address(kept.calibration(told["calibration_id"])) == told["calibration_id"]
    json.dumps(told)


def test_estimates_agree_with_exact_values_within_their_errors_and_the_devices(provider, kept):
    raw = estimate([[("ZZ", 1.0), ("XI", 0.5), ("YY", 0.3)], [("II", 2.0)], [("IZ", -1.0)]])
    result = ran(kept, fresh(raw), BARE)
    found = unpack_result(result.payload)
    exact = load("aer").run(batch([item(estimate([[("ZZ", 1.0), ("XI", 0.5), ("YY", 0.3)]], shots=0))], BARE))
    expected = unpack_result(exact[0].payload).evs[:, 0]
    assert result.shots == 3 * 2 * 4_000
    assert np.abs(found.evs[:, 0] - expected).max() < 5 * found.stds[:, 0].max() + 0.1
    assert found.evs[:, 1].tolist() == [2.0, 2.0]


def test_identities_alone_cost_nothing_and_are_not_handed_in(provider, kept):
    before = provider.ledger()
    result = ran(kept, fresh(estimate([[("II", 1.5)]])), BARE)
    assert unpack_result(result.payload).evs.tolist() == [[1.5], [1.5]]
    assert (result.cost, provider.ledger()) == (0.0, before)


def test_a_circuits_own_bits_do_not_disturb_an_estimate(provider, kept):
    text = BARE.replace("qubit[2] q;", "bit[1] own;\nqubit[2] q;") + "own[0] = measure q[0];\nreset q[0];\n"
    packed = pack_observables(PauliSums.from_terms([[("IZ", 1.0)]]))
    raw = request(text, angles(BARE_NAMES, 1), mode="estimate", observables=packed, shots=2_000)
    found = unpack_result(ran(kept, fresh(raw), text).payload)
    assert found.evs[0, 0] > 0.9


def test_shots_in_increments_are_one_job_of_several_runs(provider, kept):
    told = codes(ran(kept, fresh(request(TEXT, angles(NAMES, 1), shots=6_000))))
    assert told == ("CONSTRAINT", ["SB-1110"])
    options = {"shots_per_call": "5000"}
    one = fresh(request(TEXT, angles(NAMES, 1), shots=6_000, options=options))
    assert sum(unpack_result(ran(kept, one).payload).row(0).values()) == 6_000
    assert provider.billings()[one.job_id] == 1


def test_exact_values_are_not_to_be_had(provider, kept):
    assert codes(ran(kept, fresh(estimate([[("ZZ", 1.0)]], shots=0)), BARE)) == ("CONSTRAINT", ["SB-1110"])


def test_names_that_mean_something_elsewhere_are_only_names(provider, kept):
    text = TEXT.replace("t000", "angle_1").replace("t001", "sx_")
    raw = request(text, angles(("angle_1", "sx_", *NAMES[2:]), 1), shots=50)
    assert ran(kept, fresh(raw), text).error_class == ""


def test_one_bad_job_of_a_batch_leaves_its_neighbours_alone(provider, kept):
    items = [fresh(), fresh(request(TEXT, angles(NAMES[:1], 1))), fresh()]
    results = kept.run(batch(items, TEXT))
    assert [result.error_class for result in results] == ["", "INVALID", ""]
    assert [provider.billings()[one.job_id] for one in items] == [1, 0, 1]


def test_a_job_that_is_late_when_its_turn_to_be_handed_in_has_come_is_not(provider, kept):
    items = [fresh(), fresh(), fresh()]
    items[1].deadline_ms, items[2].deadline_ms = 1, 4_000_000_000_000
    results = kept.run(batch(items, TEXT))
    assert [codes(result) for result in results] == [("", []), ("EXPIRED", ["SB-4003"]), ("", [])]
    assert [provider.billings()[one.job_id] for one in items] == [1, 0, 1]


def test_the_same_token_is_the_same_job_and_gives_the_same_answer(provider, kept):
    one = fresh()
    first = ran(kept, one)
    assert ran(provider.adapter(), one).payload == first.payload
    assert provider.billings()[one.job_id] == 1


# --- what goes wrong at the submission ---


@pytest.mark.parametrize(
    ("fault", "told", "billed"),
    [
        ("throttle", ("THROTTLED", ["SB-5009"]), 0),
        ("error", ("UNKNOWN_OUTCOME", ["SB-5007"]), 0),
        ("error_after", ("", []), 1),
        ("lost_answer", ("", []), 1),
        ("garbage", ("", []), 1),
        ("duplicate_id", ("", []), 1),
    ],
)
def test_a_faulty_submission_is_billed_once_or_not_and_its_token_tells(provider, kept, fault, told, billed):
    ran(kept, fresh())
    one = fresh()
    provider.plan(fault, one.token, seconds=7)
    result = ran(kept, one)
    assert codes(result) == told
    assert provider.billings()[one.job_id] == billed
    assert provider.bites()[fault] == 1
    assert result.retry_after_ms == (7_000 if fault == "throttle" else 0)
    assert looked_up(kept, one).found == ("done" if billed else "absent")


def test_a_submission_that_hangs_is_unknown_and_once_it_was_asked_for_it_is_accepted_no_more(provider):
    one, adapter = fresh(), provider.adapter(submit_seconds="0.3")
    provider.plan("hang", one.token, seconds=1.0)
    assert codes(ran(adapter, one)) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert looked_up(adapter, one).found == "absent"
    # Behind the one that hangs: both come to a closed token.
    provider.plan("hang", one.token, seconds=1.5)
    assert codes(ran(provider.adapter(submit_seconds="9"), one)) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert [fault["bites"] for fault in provider.admin("GET", "faults")["faults"]] == [1, 1]
    assert provider.billings()[one.job_id] == 0


def test_a_submission_that_hangs_and_is_accepted_meanwhile_is_found_later(provider):
    one, adapter = fresh(), provider.adapter(submit_seconds="0.3")
    provider.plan("hang", one.token, seconds=0.8)
    assert ran(adapter, one).error_class == "UNKNOWN_OUTCOME"
    result = ran(provider.adapter(), one)
    assert result.error_class == ""
    assert provider.billings()[one.job_id] == 1


def test_a_provider_that_is_not_there_is_down_and_nothing_was_handed_in(provider):
    one = fresh()
    gone = load("remote", provider.options(url="http://127.0.0.1:9"))
    assert codes(ran(gone, one)) == ("BACKEND_DOWN", ["SB-5008"])
    assert looked_up(gone, one).found == "unknown"


def test_a_device_that_is_off_line_is_ill_with_its_reason_and_takes_nothing(provider, kept):
    provider.admin("POST", "offline", {"reason": "maintenance"})
    assert kept.sense().unhealthy == "off line: maintenance"
    assert codes(ran(kept, fresh())) == ("BACKEND_DOWN", ["SB-5008"])


def test_wrong_credentials_and_another_device_make_it_ill_without_showing_a_secret(provider, tmp_path):
    (tmp_path / "wrong").write_text("s3cr3t")
    (tmp_path / "lines").write_text("s3cr3t\nX-Evil: 1")
    wrong = provider.adapter(credentials=f"file:{tmp_path / 'wrong'}").sense().unhealthy
    lines = provider.adapter(credentials=f"file:{tmp_path / 'lines'}").sense().unhealthy
    other = provider.adapter(device="another").sense().unhealthy
    unset = provider.adapter(credentials="env:SHOTBUS_NO_SUCH").sense().unhealthy
    assert wrong == "its provider does not take the credentials"
    assert lines == "the credential is not one line of ASCII"
    assert other == "asked for another, but the provider has fake_qpu"
    assert unset == "no credential: env:SHOTBUS_NO_SUCH"


def test_what_was_compiled_for_an_earlier_calibration_runs_under_the_next_and_is_told(provider, tmp_path):
    def adapter():
        made = provider.adapter()
        made.keep_in(CompileCache(tmp_path / "kept", rule=Rule(3_600.0, 1e6)))
        return made

    def told(adapter):
        one = fresh()
        assert codes(ran(adapter, one)) == ("", [])
        provenance = adapter.provenance(batch([one]))
        (facts,) = provenance["circuits"].values()
        return provenance["calibration_id"], facts

    provider.admin("POST", "recalibrate")
    first = adapter()
    made_for, facts = told(first)
    assert "compiled_for" not in facts
    provider.admin("POST", "recalibrate")
    for one, origin in ((first, "memory"), (adapter(), "disk")):
        now, facts = told(one)
        assert now != made_for
        assert (facts["compiled"], facts["compiled_for"]) == (origin, made_for)
        assert "no error moved by more than" in facts["compiled_because"]


# --- what goes wrong later ---


@pytest.mark.parametrize(
    ("fault", "told", "billed"),
    [
        ("fail", ("TRANSIENT", ["SB-5001"]), 0),
        ("cancel", ("CANCELLED_BY_PROVIDER", ["SB-5012"]), 0),
        ("recalibrate", ("UNSTABLE", ["SB-5010"]), 1),
        ("result_lost", ("UNSTABLE", ["SB-5005"]), 1),
        ("wrong_shots", ("UNSTABLE", ["SB-5005"]), 1),
        ("negative", ("UNSTABLE", ["SB-5005"]), 1),
        ("wide", ("UNSTABLE", ["SB-5005"]), 1),
        ("not_hex", ("UNSTABLE", ["SB-5005"]), 1),
        ("missing", ("UNSTABLE", ["SB-5005"]), 1),
        ("poll_error", ("", []), 1),
        ("slow", ("", []), 1),
    ],
)
def test_a_job_that_goes_wrong_has_a_class_and_the_bill_it_has(provider, kept, fault, told, billed):
    one = fresh()
    provider.plan(fault, one.token, seconds=0.5, times=3)
    result = ran(kept, one)
    assert codes(result) == told
    assert bool(result.payload) == (not told[0])
    assert provider.bites()[fault] >= 1
    assert provider.billings()[one.job_id] == billed
    assert (result.cost > 0) == bool(billed)
    assert result.provider_job_id


@pytest.mark.parametrize("fault", ["fail", "cancel"])
def test_a_job_that_ended_unbilled_can_be_handed_in_again_under_its_token(provider, kept, fault):
    one = fresh()
    provider.plan(fault, one.token)
    assert ran(kept, one).error_class
    assert ran(kept, one).error_class == ""
    assert provider.billings()[one.job_id] == 1


def test_an_answer_that_is_implausible_is_fetched_again_and_never_paid_again(provider, kept):
    one = fresh()
    provider.plan("wrong_shots", one.token, times=2)
    assert ran(kept, one).error_class == ""
    assert provider.bites()["wrong_shots"] == 2
    assert provider.billings()[one.job_id] == 1


def test_what_an_attempt_compiled_is_told_only_if_it_is_what_the_provider_ran(provider, kept):
    one = fresh()
    assert ran(kept, one).error_class == ""
    again = fresh(request(TEXT, angles(NAMES, 2), shots=200, options={"layout": "another"}))
    again.job_id = one.job_id
    assert ran(kept, again).error_class == ""
    assert kept.provenance(batch([again]))["circuits"] == {}
    assert provider.billings()[one.job_id] == 1


def test_whoever_waits_no_longer_frees_its_worker_and_the_job_is_found_running_then_done(provider):
    one, hasty = fresh(), provider.adapter(wait_seconds="0")
    provider.plan("slow", one.token, seconds=1.0)
    result = ran(hasty, one)
    assert codes(result) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert result.provider_job_id
    assert looked_up(hasty, one).found == "running"
    patient = provider.adapter()
    found = eventually(lambda: (told := looked_up(patient, one)).found != "running" and told)
    assert (found.found, found.error_class) == ("done", "")
    assert unpack_result(found.payload).points == 2


def status(provider, one):
    return provider.ask("GET", f"/v1/jobs?token={one.token}")[1].get("job", {}).get("status")


def running(adapter, *items):
    """Run items in a thread; the future of their results."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(adapter.run, batch(items, TEXT))
    pool.shutdown(wait=False)
    return future


def test_a_job_is_cancelled_while_it_waits_and_not_once_it_runs(provider):
    first, second = fresh(), fresh()
    provider.plan("slow", first.token, seconds=1.5)
    # Whoever is told does not sleep its pause out.
    adapter = provider.adapter(poll_seconds="1")
    waiting = running(adapter, first, second)
    eventually(lambda: (status(provider, first), status(provider, second)) == ("running", "queued"))
    adapter.cancel({first.token, second.token})
    eventually(lambda: status(provider, second) == "cancelled", seconds=1)
    late, timely = waiting.result(30)
    assert (late.error_class, late.cost > 0) == ("", True)
    assert codes(timely) == ("REVOKED", ["SB-4002"])
    assert "its provider has cancelled it" in timely.problems[0].detail
    assert (timely.cost, bool(timely.provider_job_id)) == (0.0, True)
    assert [provider.billings()[one.job_id] for one in (first, second)] == [1, 0]


def test_what_nobody_wants_any_more_is_not_handed_in(provider, kept):
    wanted, unwanted = fresh(), fresh()
    kept.cancel({unwanted.token})
    good, bad = kept.run(batch([wanted, unwanted], TEXT))
    kept.cancel(frozenset())
    assert (good.error_class, codes(bad)) == ("", ("REVOKED", ["SB-4002"]))
    assert status(provider, unwanted) is None
    assert ran(kept, unwanted).error_class == ""


def test_a_provider_that_does_not_answer_is_asked_again_and_one_that_never_does_leaves_it_unknown(provider):
    before, one = fresh(), fresh()
    provider.plan("slow", before.token, seconds=2.0)
    hasty, deaf = provider.adapter(wait_seconds="0"), provider.adapter(wait_seconds="0.5")
    hasty.run(batch([before], TEXT))
    asked, answers = [], deaf._service._api.cancel

    def lost(name):
        asked.append(name)
        raise NoAnswerError("lost")

    deaf._service._api.cancel = lost
    waiting = running(deaf, one)
    eventually(lambda: status(provider, one) == "queued")
    deaf.cancel({one.token})
    (unanswered,) = waiting.result(30)
    assert codes(unanswered) == ("UNKNOWN_OUTCOME", ["SB-5007"])
    assert len(asked) > 1
    deaf._service._api.cancel = answers
    told = looked_up(deaf, one)
    assert (told.found, codes(told)) == ("done", ("REVOKED", ["SB-4002"]))
    assert looked_up(hasty, one).found == "absent"
    assert provider.billings()[one.job_id] == 0


def test_the_server_may_be_killed_under_a_job(tmp_path):
    with Provider(tmp_path, "--latency-seconds", 0.5) as provider:
        one, hasty, adapter = fresh(), provider.adapter(wait_seconds="0"), provider.adapter()
        assert ran(hasty, one).error_class == "UNKNOWN_OUTCOME"
        provider.kill()
        assert looked_up(adapter, one).found == "unknown"
        provider.start()
        assert ran(adapter, one).error_class == ""
        assert provider.billings() == {one.job_id: 1}
