"""The wire to a remote provider: one request, one bounded answer, or proof that nothing was sent. Does I/O.

Nothing is repeated and no redirect is followed here: whether a request may be sent again is for those to
decide who know what it does. Texts of exceptions stay here, since they may quote headers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import urllib3

from shotbus.broker.config_loader import reveal
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.remote_settings import RemoteSettings
from shotbus.workers.providers.base import NoAnswerError, NotSentError

#: A longer answer is not read.
MAX_ANSWER_BYTES = 64 << 20
_LONGEST_RETRY_MS = 3_600_000
_ATTEMPT = "X-Client-Attempt"


class Answer(NamedTuple):
    """An HTTP answer; ``document`` is None when the body is not JSON, or not an object."""

    status: int
    document: dict[str, Any] | None
    raw: bytes
    retry_after_ms: int = 0


class Api:
    """A provider's interface, version 1.

    Every verb raises NotSentError when no connection could be made, and NoAnswerError when one was made and
    no whole answer came.
    """

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self._pool = urllib3.PoolManager(retries=False, ca_certs=settings.ca_file or None)

    def submit(self, body: bytes, attempt: int) -> Answer:
        """Hand in a job; which attempt of ours it is stands in the provider's books, and changes nothing."""
        seconds = self._settings.submit_seconds
        return self._ask("POST", "/v1/jobs", body=body, seconds=seconds, more={_ATTEMPT: str(attempt)})

    def job(self, name: str) -> Answer:
        """Ask how a job is."""
        return self._ask("GET", f"/v1/jobs/{_word(name)}")

    def result(self, name: str) -> Answer:
        """Fetch a job's result."""
        return self._ask("GET", f"/v1/jobs/{_word(name)}/result")

    def cancel(self, name: str) -> Answer:
        """Ask for a job's end."""
        return self._ask("POST", f"/v1/jobs/{_word(name)}/cancel")

    def find(self, token: str) -> Answer:
        """Ask which job came with a token. That there is none now proves nothing about later."""
        return self._ask("GET", f"/v1/jobs?token={_word(token)}")

    def close(self, token: str) -> Answer:
        """Ask which job has a token; where none has, none ever will: that is proof."""
        return self._ask("POST", f"/v1/tokens/{_word(token)}/close")

    def device(self) -> Answer:
        """Ask how the device is."""
        return self._ask("GET", "/v1/device")

    def calibration(self, name: str) -> Answer:
        """Fetch a calibration snapshot."""
        return self._ask("GET", f"/v1/calibrations/{_word(name)}")

    def _ask(
        self,
        verb: str,
        path: str,
        *,
        body: bytes = b"",
        seconds: float = 0.0,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self._secret()}", "Accept": "application/json", **more}
        if body:
            headers["Content-Type"] = "application/json"
        limits = urllib3.Timeout(
            connect=self._settings.connect_seconds, read=seconds or self._settings.request_seconds
        )
        try:
            response = self._pool.request(
                verb,
                self._settings.url + path,
                body=body or None,
                headers=headers,
                timeout=limits,
                redirect=False,
                preload_content=False,
            )
            try:
                raw = response.read(MAX_ANSWER_BYTES + 1)
            finally:
                # What was not read to its end must not be taken for the next answer.
                response.close()
        except (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.LocationValueError) as error:
            raise NotSentError(f"not reachable: {type(error).__name__}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswerError(f"no answer: {type(error).__name__}") from None
        wait_ms = retry_after_ms(response.headers.get("Retry-After", ""), time.time())
        return Answer(response.status, read_document(raw), raw, wait_ms)

    def _secret(self) -> str:
        """Return the credential, looked up each time: it may have been exchanged meanwhile."""
        try:
            secret = reveal(self._settings.credentials, "$.credentials")
        except ShotbusError as error:
            raise NotSentError(f"no credential: {error.problems[0].actual}") from None
        if not secret.isascii() or not secret.isprintable():
            raise NotSentError("the credential is not one line of ASCII")
        return secret


def read_document(raw: bytes) -> dict[str, Any] | None:
    """Return an answer's JSON object; None for anything else, NaN and infinity included."""
    if len(raw) > MAX_ANSWER_BYTES:
        return None
    try:
        document = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refuse(name: str) -> float:
    raise ValueError(name)


def retry_after_ms(header: str, now: float) -> int:
    """Return what Retry-After asks for, seconds or an HTTP date, at most an hour; 0 for nothing of use.

    ``now`` is wall time, seconds.
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0
    if not math.isfinite(seconds):
        return 0
    return int(min(max(0.0, seconds * 1000), _LONGEST_RETRY_MS))


def _word(text: str) -> str:
    return quote(text, safe="")
