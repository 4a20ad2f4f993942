"""The wire to Braket and S3 through boto3: one request, one answer, or what is known without. Does I/O.

Nothing is repeated here, by boto3 neither: whether a request may be sent again is for those to decide who
know what it does. Texts of exceptions stay here, since they may quote headers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, NamedTuple

from shotbus.broker.config_loader import reveal
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.braket_errors import Refusal, refusal
from shotbus.workers.adapters.braket_settings import BraketSettings
from shotbus.workers.providers.base import DownError, NotSentError

#: A longer answer is not read.
MAX_ANSWER_BYTES = 64 << 20
#: More pages of a hundred tasks are not turned.
_MOST_PAGES = 100
_KEYS = ("AccessKeyId", "SecretAccessKey")


class AskedInVainError(Exception):
    """A question had no answer; ``refusal`` says why."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.problem.code)
        self.refusal = why


class _Clients(NamedTuple):
    """Clients of boto3, by how long they wait: for submissions, for questions, for results."""

    submit: Any
    ask: Any
    s3: Any


class BraketApi:
    """Braket and S3 of one region, as one account.

    Every verb but :meth:`create` raises AskedInVainError when there was no good answer.
    """

    def __init__(self, settings: BraketSettings) -> None:
        self._settings = settings
        self._secret: str | None = None
        self._clients: _Clients | None = None
        # A worker asks for the device's state from another thread than that which runs jobs.
        self._lock = threading.Lock()

    def create(self, task: Mapping[str, Any]) -> str:
        """Create a task, once; return its ARN.

        Raises NotSentError when there are no credentials, and AskedInVainError.
        """
        try:
            clients = self._current()
        except DownError as error:
            raise NotSentError(str(error)) from None
        answer = _asked(lambda: clients.submit.create_quantum_task(**task))
        return str(answer.get("quantumTaskArn", ""))

    def task(self, arn: str) -> Any:
        """Ask how a task is."""
        more = {"additionalAttributeNames": ["QueueInfo"]}
        return self._ask(lambda clients: clients.ask.get_quantum_task(quantumTaskArn=arn, **more))

    def cancel(self, arn: str, token: str) -> None:
        """Ask for a task's end."""
        self._ask(lambda clients: clients.ask.cancel_quantum_task(quantumTaskArn=arn, clientToken=token))

    def device(self) -> Any:
        """Ask how the device is, and what it can do."""
        return self._ask(lambda clients: clients.ask.get_device(deviceArn=self._settings.device))

    def search(self, tags: Mapping[str, str]) -> Any:
        """Return the first task of the device that was made with these tags; None where none is listed."""
        since = datetime.now(UTC) - timedelta(hours=self._settings.search_hours)
        wanted = [
            {"name": "deviceArn", "operator": "EQUAL", "values": [self._settings.device]},
            {"name": "createdAt", "operator": "GTE", "values": [since.strftime("%Y-%m-%dT%H:%M:%SZ")]},
        ]
        more: dict[str, Any] = {"filters": wanted, "maxResults": 100}
        for _ in range(_MOST_PAGES):
            page = self._page(more)
            listed = page.get("quantumTasks", ())
            ours = [one for one in listed if tags.items() <= (one.get("tags") or {}).items()]
            if ours:
                return min(ours, key=lambda one: str(one.get("createdAt", "")))
            if not page.get("nextToken"):
                return None
            more = {**more, "nextToken": page["nextToken"]}
        raise AskedInVainError(refusal(RuntimeError()))

    def _page(self, more: Mapping[str, Any]) -> Any:
        return self._ask(lambda clients: clients.ask.search_quantum_tasks(**more))

    def read(self, bucket: str, key: str) -> bytes:
        """Fetch an object from S3, its first bytes if it is too long."""
        answer = self._ask(lambda clients: clients.s3.get_object(Bucket=bucket, Key=key))
        return bytes(_asked(lambda: answer["Body"].read(MAX_ANSWER_BYTES + 1)))

    def _ask(self, ask: Any) -> Any:
        try:
            clients = self._current()
        except DownError as error:
            raise AskedInVainError(refusal(error)) from None
        return _asked(lambda: ask(clients))

    def check(self) -> None:
        """Raise DownError where there is nobody to ask as."""
        self._current()

    def _current(self) -> _Clients:
        """Return clients with the credentials as they are now: those may have been exchanged."""
        try:
            secret = reveal(self._settings.credentials, "$.credentials")
        except ShotbusError as error:
            raise DownError(f"no credential: {error.problems[0].actual}") from None
        with self._lock:
            if self._clients is None or secret != self._secret:
                self._clients, self._secret = _clients(self._settings, secret), secret
            return self._clients


def _asked(ask: Any) -> Any:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 (whatever an SDK raises here, what it means is a table)
        raise AskedInVainError(refusal(error)) from None


def _clients(settings: BraketSettings, secret: str) -> _Clients:
    try:
        import boto3
    except ImportError:
        raise DownError("boto3 is not installed: pip install 'shotbus[braket]'") from None
    try:
        session = boto3.Session(region_name=settings.region, **keys_of(secret))
        braket = {"service_name": "braket", "endpoint_url": settings.endpoint or None}
        return _Clients(
            session.client(**braket, config=_config(settings, settings.submit_seconds)),
            session.client(**braket, config=_config(settings, settings.request_seconds)),
            session.client(
                "s3",
                endpoint_url=settings.s3_endpoint or None,
                config=_config(settings, settings.request_seconds),
            ),
        )
    except DownError:
        raise
    except Exception as error:  # noqa: BLE001 (texts may quote a profile; the name says enough)
        raise DownError(f"the account cannot be used: {type(error).__name__}") from None


def _config(settings: BraketSettings, seconds: float) -> Any:
    from botocore.config import Config

    # Without the version of its schemas Braket leaves out of a device what they did not have once.
    schemas = f"BraketSdk/{version('amazon-braket-sdk')} BraketSchemas/{version('amazon-braket-schemas')}"
    return Config(
        user_agent_extra=f"{schemas} NotebookInstance/None",
        connect_timeout=settings.request_seconds,
        read_timeout=seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        ignore_configured_endpoint_urls=True,
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
    )


def keys_of(secret: str) -> dict[str, str]:
    """Return what a session is made with; nothing for no secret, which is boto3's own search.

    Args:
        secret: a JSON object with ``AccessKeyId``, ``SecretAccessKey`` and, for credentials that expire,
            ``SessionToken``, as programs print it that AWS calls a ``credential_process``.

    Raises:
        DownError: it is something else, which is not repeated.

    """
    if not secret:
        return {}
    try:
        told = json.loads(secret)
        keys = [told[name] for name in _KEYS]
        token = told.get("SessionToken") or ""
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DownError("the credential is no JSON object with AccessKeyId and SecretAccessKey") from None
    if not all(isinstance(one, str) and one for one in keys) or not isinstance(token, str):
        raise DownError("the credential's keys are no texts")
    found = {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
    return {**found, "aws_session_token": token} if token else found
