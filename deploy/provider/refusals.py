"""How the provider says no: an HTTP status, a stable code, the limit and the actual value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: code -> status. The codes are the provider's interface: see docs/adapters.md.
STATUSES: Mapping[str, int] = {
    "malformed_request": 400,
    "invalid_program": 400,
    "unauthenticated": 401,
    "credits_exhausted": 402,
    "forbidden": 403,
    "job_not_found": 404,
    "calibration_not_found": 404,
    "token_conflict": 409,
    "not_finished": 409,
    "too_late": 409,
    "token_closed": 410,
    "result_lost": 410,
    "too_many_qubits": 422,
    "too_many_operations": 422,
    "too_many_points": 422,
    "too_many_shots": 422,
    "not_native": 422,
    "not_coupled": 422,
    "jobs_in_flight": 429,
    "rate_limited": 429,
    "internal": 500,
    "offline": 503,
}


class RefusalError(Exception):
    """A request is refused; nothing of it was accepted.

    Args:
        code: one of :data:`STATUSES`.
        message: for people.
        limit: what would have been allowed.
        actual: what was asked for.
        retry_after: seconds, 0 says nothing.

    """

    def __init__(
        self, code: str, message: str, *, limit: object = "", actual: object = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.code, self.status = code, STATUSES[code]
        self.retry_after = retry_after
        self._told = {"code": code, "message": message, "limit": str(limit), "actual": str(actual)}

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": self._told}
