"""From a provider's errors to ours: every row, and that nothing outside the tables proves anything."""

import pytest

from shotbus.broker.dispatcher.ladders import LADDERS
from shotbus.deploy.provider.refusals import STATUSES as SERVED
from shotbus.workers.adapters.base import error_class_of
from shotbus.workers.adapters.remote_errors import FAILURES, REFUSALS, STATUSES, ended, refusal

#: What the provider says to a submission -> our code, our class, the place.
TOLD = {
    "malformed_request": ("SB-9001", "INTERNAL", "$"),
    "invalid_program": ("SB-1220", "INVALID", "$.circuit"),
    "unauthenticated": ("SB-5008", "BACKEND_DOWN", "$"),
    "forbidden": ("SB-5008", "BACKEND_DOWN", "$"),
    "credits_exhausted": ("SB-5008", "BACKEND_DOWN", "$"),
    "too_many_qubits": ("SB-1116", "CONSTRAINT", "$.circuit"),
    "too_many_operations": ("SB-1117", "CONSTRAINT", "$.circuit"),
    "too_many_points": ("SB-1110", "CONSTRAINT", "$.points"),
    "too_many_shots": ("SB-1110", "CONSTRAINT", "$.shots"),
    "not_native": ("SB-1110", "CONSTRAINT", "$.circuit"),
    "not_coupled": ("SB-1110", "CONSTRAINT", "$.circuit"),
    "jobs_in_flight": ("SB-5009", "THROTTLED", "$"),
    "rate_limited": ("SB-5009", "THROTTLED", "$"),
    "offline": ("SB-5008", "BACKEND_DOWN", "$"),
    "token_closed": ("SB-5007", "UNKNOWN_OUTCOME", "$"),
}
BY_STATUS = {
    400: "INTERNAL",
    401: "BACKEND_DOWN",
    402: "BACKEND_DOWN",
    403: "BACKEND_DOWN",
    413: "CONSTRAINT",
    422: "CONSTRAINT",
    429: "THROTTLED",
}
#: What the server also says, but never to a submission, or in a way that proves nothing.
NOT_REFUSALS = {"job_not_found", "calibration_not_found", "token_conflict", "not_finished", "too_late"}
NOT_REFUSALS |= {"result_lost", "internal"}


def error(code, **more):
    return {"error": {"code": code, "message": "no", "limit": "", "actual": "", **more}}


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_has_our_code_class_and_place_whatever_its_status(code):
    for status in (SERVED[code], 418):
        problem = refusal(status, error(code, limit="5", actual="9"))
        assert (problem.code, error_class_of([problem]), problem.path) == TOLD[code]
        assert problem.limit.endswith("5")
        assert problem.actual == "9"


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_status_without_a_known_code_has_a_class(status):
    for document in (None, {}, {"error": "text"}, {"error": {"code": 7}}, error("news")):
        assert error_class_of([refusal(status, document)]) == BY_STATUS[status]


@pytest.mark.parametrize("status", sorted(set(range(300, 600)) - set(STATUSES)))
def test_whatever_is_not_in_the_tables_leaves_the_outcome_unknown(status):
    assert error_class_of([refusal(status, None)]) == "UNKNOWN_OUTCOME"


def test_every_refusal_of_the_server_is_in_the_table_and_the_tables_are_tried_whole():
    assert set(SERVED) - NOT_REFUSALS == set(REFUSALS) == set(TOLD)
    assert set(BY_STATUS) == set(STATUSES)
    assert {kind for _, kind, _ in TOLD.values()} <= set(LADDERS) | {"INVALID"}


def test_a_limit_on_shots_reaches_the_remedy_that_takes_them_in_increments():
    from shotbus.broker.dispatcher.remedies import remedies

    problem = refusal(422, error("too_many_shots", limit="1000", actual="4000"))
    first = next(remedies([problem.as_record()], shots=4_000, tried=()))
    assert first.overrides == (("shots_per_call", "1000"),)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("failed", "provider", {"code": "device_error"}), "TRANSIENT"),
        (("failed", "provider", {"code": "invalid_program"}), "INVALID"),
        (("failed", "provider", {"code": "news"}), "TRANSIENT"),
        (("failed", "provider", None), "TRANSIENT"),
        (("cancelled", "provider", {"code": "cancelled_by_provider"}), "CANCELLED_BY_PROVIDER"),
        (("cancelled", "provider", 7), "CANCELLED_BY_PROVIDER"),
        (("cancelled", "account", None), "REVOKED"),
        (("failed", "provider", {"code": "cancelled_by_provider"}), "CANCELLED_BY_PROVIDER"),
    ],
)
def test_a_job_that_ended_without_a_result_has_a_class(told, expected):
    assert error_class_of([ended(*told)]) == expected


def test_every_failure_of_a_job_is_tried():
    assert set(FAILURES) == {"device_error", "invalid_program", "cancelled_by_provider"}


def test_a_providers_text_is_cut_and_made_printable():
    problem = refusal(422, error("too_many_shots", message="x\x1b[31m" * 1_000))
    assert len(problem.detail) <= 201
    assert "\x1b" not in problem.detail
