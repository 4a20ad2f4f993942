"""Jobs on devices at AWS: one task each, found again by a tag that is its token. Asks Braket and S3.

The token is the task's ``clientToken`` too: the same request, whoever repeats it, is the same task. Braket
cannot close a token; "nobody's" is said after a submission on its way would long have been listed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState, BatchItem
from shotbus.workers.adapters.braket_answers import read_result
from shotbus.workers.adapters.braket_api import MAX_ANSWER_BYTES, AskedInVainError, BraketApi
from shotbus.workers.adapters.braket_device import BraketDevice
from shotbus.workers.adapters.braket_programs import action_of
from shotbus.workers.adapters.braket_settings import BraketSettings
from shotbus.workers.adapters.braket_tasks import DIGEST, TOKEN, Task, read_task
from shotbus.workers.adapters.remote_http import retry_after_ms
from shotbus.workers.providers.base import (
    Closed,
    DownError,
    Fetched,
    ImplausibleError,
    JobView,
    NoAnswerError,
    NotSentError,
    RefusedError,
)
from shotbus.workers.providers.programs import Order
from shotbus.workers.providers.settling import Settling
from shotbus.workers.providers.target import TargetCalibration

_KEPT = 1_024
_LONGEST_TOKEN = 64
_RESULTS = "results.json"
_MISSING = ("NoSuchKey", "NoSuchBucket")


class BraketAws:
    """One device of Braket's.

    Args:
        settings: which, and as whom.
        clock: for what is remembered of it.

    """

    def __init__(self, settings: BraketSettings, clock: Clock) -> None:
        self._settings = settings
        self._api = BraketApi(settings)
        self._device = BraketDevice(self._api, settings, clock)
        self._settling = Settling(settings.settle_seconds, clock)
        self._tasks: Lru[str, Task] = Lru(_KEPT)
        self._by_token: Lru[str, str] = Lru(_KEPT)
        #: By token, the calibration that its job was compiled for.
        self._compiled_for: Lru[str, str] = Lru(_KEPT)
        self._cancelled: Lru[str, None] = Lru(_KEPT)

    @property
    def capabilities(self) -> AdapterCapabilities:
        simulator = "/quantum-simulator/" in self._settings.device
        return AdapterCapabilities(
            pool="braket",
            kind="simulator" if simulator else "hardware",
            modes=("sample", "estimate"),
            max_qubits=self._settings.max_qubits,
            inline=False,
            paid=True,
            executed_on=self._settings.device,
            dated=True,
        )

    def current(self) -> TargetCalibration:
        """Return the calibration that holds now. Raises DownError."""
        return self._device.current()

    def state(self) -> BackendState:
        """Return how the device is. Raises DownError."""
        return self._device.state()

    def find_calibration(self, calibration_id: str) -> bytes | None:
        """Return one of the last snapshots."""
        found = self._device.find(calibration_id)
        return found.snapshot if found is not None else None

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: each job stands for itself."""
        return nullcontext()

    def submit(self, order: Order, item: BatchItem) -> JobView:
        """Hand a job in. Raises NotSentError, NoAnswerError, ImplausibleError, RefusedError."""
        try:
            facts = self._device.facts(order.calibration_id)
            action = action_of(order, facts.form, facts.limits)
        except DownError as error:
            raise NotSentError(str(error)) from None
        except ShotbusError as error:
            raise RefusedError(error.problems[0]) from None
        # Braket remembers tokens for a while only, tags for good.
        if item.attempt > 1 and (known := self.find(item.token)) is not None:
            return known
        self._compiled_for.put(item.token, order.calibration_id)
        arn = self._create(
            {
                "clientToken": client_token(item.token),
                "deviceArn": self._settings.device,
                "outputS3Bucket": self._settings.bucket,
                "outputS3KeyPrefix": self._settings.prefix or "shotbus",
                "action": action.document,
                "shots": action.shots,
                "tags": {TOKEN: item.token, DIGEST: order.digest},
            }
        )
        self._by_token.put(item.token, arn)
        # What the token has may be what an earlier attempt has handed in.
        return self.find(item.token) or JobView(arn, "queued", digest=order.digest)

    def find(self, token: str) -> JobView | None:
        """Return the task with this tag."""
        return self._find(token)[0]

    def job(self, view: JobView, token: str) -> JobView | None:
        return self._ask(view.id, token)

    def fetch(self, view: JobView, token: str, order: Order) -> Fetched | None:
        """Fetch a result from S3 and check it against the request."""
        if view.id not in self._tasks and self._ask(view.id, token) is None:
            return None
        task = self._tasks.get(view.id)
        if task is None:
            return None
        if task.bucket != self._settings.bucket:
            return Fetched(b"", wrong="the result is in another bucket")
        try:
            return read_result(
                self._read(task, _RESULTS), lambda name: self._read(task, name), view.id, order
            )
        except AskedInVainError as error:
            gone = any(name in error.refusal.problem.detail for name in _MISSING)
            return Fetched(b"", gone=True) if gone else None
        except ImplausibleError as error:
            return Fetched(b"", wrong=str(error))

    def close(self, token: str) -> Closed:
        """Ask for a tag. "Nobody's" is final once a submission on its way would long have been listed."""
        view, listed = self._find(token)
        if view is not None or not listed:
            return Closed(view)
        return Closed(absent=self._settling.is_over(token))

    def cancel(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Ask for a task's end; that it is too late for one is an answer, too."""
        self._cancelled.put(view.id, None)
        try:
            self._api.cancel(view.id, client_token(f"{token}.cancel"))
        except AskedInVainError as error:
            decided = "ConflictException" in error.refusal.problem.detail
            return self.job(view, token) or view, decided
        return self.job(view, token) or view, True

    def places(self, view: JobView) -> Mapping[str, str]:
        """Return where the result is."""
        task = self._tasks.get(view.id)
        return {} if task is None else {"answer": f"s3://{task.bucket}/{task.folder}/{_RESULTS}"}

    def told(self) -> Mapping[str, Any]:
        return {
            "device": self._settings.device,
            "region": self._settings.region,
            "bucket": self._settings.bucket,
            "local": False,
        }

    def version(self) -> str:
        """Return none: Braket tells of no device which of its versions it is."""
        return ""

    def packages(self) -> tuple[str, ...]:
        return ("qiskit", "amazon-braket-sdk", "boto3", "numpy")

    def _create(self, task: Mapping[str, Any]) -> str:
        try:
            arn = self._api.create(task)
        except AskedInVainError as error:
            why = error.refusal
            if not why.sent:
                raise NotSentError(why.problem.detail) from None
            if why.problem.code == "SB-5007":
                raise NoAnswerError(f"no answer: {why.problem.detail}") from None
            raise RefusedError(why.problem, retry_after_ms(why.retry_after, time.time())) from None
        if not arn:
            raise ImplausibleError("task without an ARN")
        return arn

    def _find(self, token: str) -> tuple[JobView | None, bool]:
        """Return the task with this tag, and whether all tasks were looked through."""
        arn = self._by_token.get(token)
        if arn is None:
            try:
                found = self._api.search({TOKEN: token})
            except AskedInVainError:
                return None, False
            if found is None:
                return None, True
            arn = str(found.get("quantumTaskArn", ""))
        view = self._ask(arn, token)
        if view is not None:
            self._by_token.put(token, arn)
        return view, False

    def _ask(self, arn: str, token: str) -> JobView | None:
        try:
            task = read_task(self._api.task(arn), token, by_us=arn in self._cancelled)
        except (AskedInVainError, ImplausibleError):
            return None
        if task.view.id != arn:
            return None
        self._tasks.put(arn, task)
        if task.view.status != "done":
            return task.view
        # It does not tell when a task began; what held when it ended counts.
        compiled_for = self._compiled_for.get(token) or ""
        return task.view._replace(
            calibrations=self._device.ran_under(compiled_for, task.ended_ms, task.ended_ms)
        )

    def _read(self, task: Task, name: str) -> bytes:
        raw = self._api.read(task.bucket, f"{task.folder}/{name}")
        if len(raw) > MAX_ANSWER_BYTES:
            raise ImplausibleError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return raw


def client_token(token: str) -> str:
    """Return what Braket knows a token by: itself, or a digest of one that is too long."""
    return token if len(token) <= _LONGEST_TOKEN else hashlib.sha256(token.encode()).hexdigest()
