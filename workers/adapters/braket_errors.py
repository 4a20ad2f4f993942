"""From what Braket, S3 and boto3 say to our errors, as tables. Pure.

A row says: not accepted, and why. What is in none of them proves nothing: whether a task was created is then
unknown (SB-5007), and it is asked for by its token before anything else happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.schemas.errors import Problem

#: Error codes of AWS for a submission. They decide before the status does.
CODES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "AccessDeniedException",
            "ExpiredTokenException",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationTokenException",
            "NotAuthorizedException",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
            "DeviceOfflineException",
            "DeviceRetiredException",
            "ResourceNotFoundException",
        ),
        "SB-5008",
    ),
    **dict.fromkeys(
        (
            "RequestLimitExceeded",
            # Of tasks that are under way at once.
            "ServiceQuotaExceededException",
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        "SB-5009",
    ),
    "ValidationException": "SB-1220",
    # The token has a task of other content: which, is asked.
    "ConflictException": "SB-5007",
    "IdempotentParameterMismatchException": "SB-5007",
    "InternalServiceException": "SB-5007",
}
#: HTTP statuses that say the same where the code is none of these.
STATUSES: Mapping[int, str] = {
    400: "SB-1220",
    401: "SB-5008",
    402: "SB-5009",
    403: "SB-5008",
    404: "SB-5008",
    410: "SB-5008",
    413: "SB-1110",
    424: "SB-5008",
    429: "SB-5009",
}
#: What a validation is about, if not the program: searched in its message, in this order.
ABOUT: Sequence[tuple[str, str]] = (
    (r"client ?token|idempoten", "SB-5007"),
    (r"spending limit|bucket|\bs3\b|region", "SB-5008"),
    (r"\bshots?\b|executables|too large|size limit", "SB-1110"),
)
#: Exceptions of botocore by the names of their classes: nothing was sent.
BEFORE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "ConnectTimeoutError",
            "CredentialRetrievalError",
            "EndpointConnectionError",
            "NoCredentialsError",
            "NoRegionError",
            "PartialCredentialsError",
            "ProfileNotFound",
            "ProxyConnectionError",
            "TokenRetrievalError",
            "UnauthorizedSSOTokenError",
        ),
        "SB-5008",
    ),
    "ParamValidationError": "SB-9001",
}
#: Why a task that was accepted has failed, by words of its reason, in this order; all others are TRANSIENT.
FAILURES: Sequence[tuple[str, str]] = (
    (r"time limit|timed? ?out|too long|duration", "SB-5004"),
    (r"access denied|permission|not authorized|bucket", "SB-5008"),
    (r"offline|unavailable|maintenance|retired", "SB-5008"),
    (r"throttl|quota|capacity|too many", "SB-5009"),
    (r"out of memory|insufficient memory", "SB-1110"),
    (r"\bshots?\b", "SB-1110"),
    (r"compil|pars(e|ing)|unsupported|not supported|invalid|validation|not connected", "SB-1220"),
)
#: What a program set says of one of its executables that failed.
CATEGORIES: Mapping[str, str] = {"COMPILATION": "SB-1220", "DEVICE": "SB-5001", "SERVICE": "SB-5001"}
_PLACES: Mapping[str, str] = {"SB-1220": "$.circuit"}
_LONGEST_TEXT = 300


class Refusal(NamedTuple):
    """What an exception of a submission means: ``sent`` unless it is proven that nothing was."""

    problem: Problem
    sent: bool
    retry_after: str = ""


def refusal(error: BaseException) -> Refusal:
    """Return what an exception of a submission means; SB-5007 proves nothing."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping) or not isinstance(response.get("Error"), Mapping):
        code = next((BEFORE[one.__name__] for one in type(error).__mro__ if one.__name__ in BEFORE), "")
        return Refusal(_problem(code or "SB-5007", type(error).__name__), sent=not code)
    told, meta = response["Error"], response.get("ResponseMetadata") or {}
    name, message = str(told.get("Code", "")), str(told.get("Message", ""))
    status = int(meta.get("HTTPStatusCode") or 0)
    code = CODES.get(name) or STATUSES.get(status, "SB-5007")
    if code == "SB-1220":
        code = _searched(ABOUT, message, code)
    headers = meta.get("HTTPHeaders") or {}
    # Messages about access name accounts and keys.
    words = message if code in ("SB-1220", "SB-1110") else ""
    return Refusal(_problem(code, f"HTTP {status} {name} {words}"), True, str(headers.get("retry-after", "")))


def failure(reason: str) -> Problem:
    """Return why a task that was accepted has no result, by the service's reason."""
    return _problem(_searched(FAILURES, reason, "SB-5001"), reason)


def partial(metadata: Any) -> Problem:
    """Return why an executable of a program set has no result, by its metadata."""
    told = metadata if isinstance(metadata, Mapping) else {}
    category, reason = str(told.get("category", "")), str(told.get("failureReason", ""))
    return _problem(CATEGORIES.get(category, "SB-5001"), f"{category} {reason}")


def cancelled(*, by_us: bool) -> Problem:
    """Return what the end of a task before its time is: ours or the provider's."""
    if by_us:
        return Problem("SB-4002", "$", detail="its provider has cancelled it as it was asked to")
    return Problem("SB-5012", "$", detail="cancelled at the provider")


def _searched(table: Sequence[tuple[str, str]], text: str, otherwise: str) -> str:
    found = (code for words, code in table if re.search(words, text, re.IGNORECASE))
    return next(found, otherwise)


def _problem(code: str, detail: str) -> Problem:
    return Problem(code, _PLACES.get(code, "$"), detail=detail.strip()[:_LONGEST_TEXT])
