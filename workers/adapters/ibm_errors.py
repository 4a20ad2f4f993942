"""From what Qiskit Runtime raises and says to our errors, as tables. Pure.

The SDK wraps the service's answers: the HTTP status is in the exception that was on its way when it raised
its own. What is not in the tables proves nothing: whether the job was accepted is then unknown (SB-5007).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shotbus.schemas.errors import Problem

#: HTTP statuses that say: not accepted.
STATUSES: Mapping[int, str] = {
    400: "SB-1220",
    401: "SB-5008",
    402: "SB-5008",
    403: "SB-5008",
    404: "SB-5008",
    413: "SB-1110",
    422: "SB-1220",
    429: "SB-5009",
}
#: Exceptions of the SDK before it sends anything, by the names of their classes.
BEFORE: Mapping[str, str] = {
    "IBMNotAuthorizedError": "SB-5008",
    "IBMAccountError": "SB-5008",
    "InvalidAccountError": "SB-5008",
    "AccountNotFoundError": "SB-5008",
    "QiskitBackendNotFoundError": "SB-5008",
    "IBMBackendError": "SB-5008",
    "IBMInputValueError": "SB-1220",
    "CircuitError": "SB-1220",
    "ValueError": "SB-1220",
    "TypeError": "SB-1220",
}
#: Codes of the service's registry of errors in a failed job's message; all others are TRANSIENT.
FAILURES: Mapping[str, str] = {
    **dict.fromkeys(("1002", "1003", "1105", "1106", "1107", "3211", "3226", "3237"), "SB-1220"),
    **dict.fromkeys(("1004", "1007", "1200", "1201", "1999", "2000", "2615", "3245", "3246"), "SB-5008"),
    **dict.fromkeys(("1012", "1202", "2402"), "SB-5009"),
    **dict.fromkeys(("1102", "1103", "3218", "3242"), "SB-1110"),
    "1109": "SB-1116",
    "1305": "SB-5004",
    **dict.fromkeys(("3243", "3248"), "SB-1117"),
}
_PLACES: Mapping[str, str] = dict.fromkeys(("SB-1220", "SB-1116", "SB-1117"), "$.circuit")
_CODE = re.compile(r"\b[Ee]rror [Cc]ode:?\s*(\d{4})\b")


def status_of(error: BaseException | None) -> int:
    """Return the HTTP status that led to an exception; 0 where none is known."""
    seen = 0
    while error is not None and seen < 8:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status > 0:
            return status
        error, seen = error.__cause__ or error.__context__, seen + 1
    return 0


def refusal(error: BaseException) -> Problem:
    """Return what an exception of a submission means; SB-5007 proves nothing."""
    status = status_of(error)
    code = STATUSES.get(status, "") if status else _before(error)
    return Problem(code or "SB-5007", _PLACES.get(code, "$"), detail=_words(error, status))


def _before(error: BaseException) -> str:
    return next((BEFORE[one.__name__] for one in type(error).__mro__ if one.__name__ in BEFORE), "")


def failure(message: str) -> Problem:
    """Return why a job that was accepted has no result, by the service's message."""
    found = _CODE.search(message)
    code = FAILURES.get(found.group(1), "SB-5001") if found else "SB-5001"
    return Problem(code, _PLACES.get(code, "$"), detail=message[:300])


def cancelled(*, by_us: bool) -> Problem:
    """Return what the end of a job before its time is: ours or the provider's."""
    if by_us:
        return Problem("SB-4002", "$", detail="its provider has cancelled it as it was asked to")
    return Problem("SB-5012", "$", detail="cancelled at the provider")


def _words(error: BaseException, status: int) -> str:
    """Say what it was without its text, which may quote a request."""
    return f"HTTP {status}" if status else type(error).__name__
