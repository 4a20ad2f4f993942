"""From a provider's errors to ours, as tables. Pure.

A row says what a submission's refusal means. What is not in the tables proves nothing: whether the job was
accepted is then unknown (SB-5007), and it is asked for by its token before anything else happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from shotbus.schemas.errors import Problem


class Row(NamedTuple):
    """Our code, and the place it is about. ``limit`` stands for what the provider does not say."""

    code: str
    path: str = "$"
    limit: str = ""


UNKNOWN = Row("SB-5007")

#: The provider's codes that say: not accepted. They decide before the status does.
REFUSALS: Mapping[str, Row] = {
    "malformed_request": Row("SB-9001"),
    "invalid_program": Row("SB-1220", "$.circuit"),
    "unauthenticated": Row("SB-5008", "$", "valid credentials"),
    "forbidden": Row("SB-5008", "$", "credentials with access to the device"),
    "credits_exhausted": Row("SB-5008", "$", "credits at the provider"),
    "too_many_qubits": Row("SB-1116", "$.circuit"),
    "too_many_operations": Row("SB-1117", "$.circuit"),
    "too_many_points": Row("SB-1110", "$.points"),
    "too_many_shots": Row("SB-1110", "$.shots"),
    "not_native": Row("SB-1110", "$.circuit", "the device's gate set"),
    "not_coupled": Row("SB-1110", "$.circuit", "the device's coupling"),
    "jobs_in_flight": Row("SB-5009"),
    "rate_limited": Row("SB-5009"),
    "offline": Row("SB-5008"),
    # Somebody has asked for this token since: this submission came too late to be the one.
    "token_closed": UNKNOWN,
}

#: Statuses that say the same without a code that is known. A 5xx may come from a gateway in between, which
#: knows nothing of what is behind it; 408, 409 and 425 are about another try of the same request.
STATUSES: Mapping[int, Row] = {
    400: Row("SB-9001"),
    401: Row("SB-5008", "$", "valid credentials"),
    402: Row("SB-5008", "$", "credits at the provider"),
    403: Row("SB-5008", "$", "credentials with access to the device"),
    413: Row("SB-1110", "$.points"),
    422: Row("SB-1110"),
    429: Row("SB-5009"),
}

#: How a job that was accepted can fail; none of these is billed.
FAILURES: Mapping[str, Row] = {
    "device_error": Row("SB-5001"),
    "invalid_program": Row("SB-1220", "$.circuit"),
    "cancelled_by_provider": Row("SB-5012"),
}
_FAILED, _CANCELLED, _REVOKED = Row("SB-5001"), Row("SB-5012"), Row("SB-4002")


def refusal(status: int, document: Mapping[str, Any] | None) -> Problem:
    """Return what an answer to a submission means that is no acceptance."""
    told = _told(document)
    row = REFUSALS.get(told["code"]) or STATUSES.get(status, UNKNOWN)
    return _problem(row, told, detail=f"HTTP {status} {told['code']} {told['message']}")


def ended(status: str, by: str, error: Any) -> Problem:
    """Return why a job that was accepted has no result.

    Args:
        status: ``failed`` or ``cancelled``.
        by: who cancelled it, ``account`` or ``provider``.
        error: the provider's error object, or nothing.

    """
    told = _told({"error": error})
    if status == "cancelled" and by == "account":
        return _problem(_REVOKED, told, detail="its provider has cancelled it as it was asked to")
    row = _CANCELLED if status == "cancelled" else FAILURES.get(told["code"], _FAILED)
    return _problem(row, told, detail=f"{status} {told['code']} {told['message']}")


def _problem(row: Row, told: Mapping[str, str], detail: str) -> Problem:
    limit = " ".join(word for word in (row.limit, told["limit"]) if word)
    return Problem(row.code, row.path, limit=limit, actual=told["actual"], detail=detail.strip())


def _told(document: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the texts of an error object; whatever else stands there is nothing."""
    error = document.get("error") if document else None
    known = error if isinstance(error, dict) else {}
    names = ("code", "message", "limit", "actual")
    return {name: value if isinstance(value := known.get(name), str) else "" for name in names}
