"""A backend of IBM's as it tells of itself: health, queue, calibration. Asks the service.

A fake one is made here of what the SDK brings along, and runs on Aer; of a real one the SDK keeps
configuration and target, which are refreshed after a while.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from shotbus.broker.clock import Clock
from shotbus.broker.config_loader import reveal
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.ibm_settings import IbmSettings
from shotbus.workers.providers.base import DownError
from shotbus.workers.providers.lately import Lately, Told
from shotbus.workers.providers.target import TargetCalibration

_MILLI = 1e3
_MISSING = "qiskit-ibm-runtime is not installed: pip install 'shotbus[ibm]'"


class IbmDevice(Lately):
    """One backend; what it says of itself is remembered for a while."""

    def __init__(self, settings: IbmSettings, clock: Clock) -> None:
        # One that runs here never changes.
        super().__init__(self._tell, math.inf if settings.local else settings.device_seconds, clock)
        self._settings = settings
        self._service: Any = None
        self._backend: Any = None

    @property
    def version(self) -> str:
        """The backend's version as it was told last, empty before it was."""
        return self._known[0].version if self._known is not None else ""

    def service(self) -> Any:
        """Return the account; only real backends have one. Raises DownError."""
        if self._service is None:
            self._service = self._account()
        return self._service

    def backend(self) -> Any:
        """Return the SDK's backend. Raises DownError."""
        if self._backend is None:
            name = self._settings.backend
            make = _fake if self._settings.local else self.service().backend
            try:
                self._backend = make(name)
            except DownError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever an SDK raises here, the device cannot be had)
                raise DownError(f"{name} cannot be had: {type(error).__name__}") from None
        return self._backend

    def _tell(self) -> Told:
        backend = self.backend()
        try:
            if not self._settings.local:
                backend.refresh()
            properties = backend.properties()
            target, status = backend.target, backend.status()
        except Exception as error:  # noqa: BLE001 (whatever an SDK raises here, nothing is known of the device)
            raise DownError(f"no answer about {self._settings.backend}: {type(error).__name__}") from None
        measured = getattr(properties, "last_update_date", None)
        calibrated_ms = round(measured.timestamp() * _MILLI) if measured is not None else 0
        version = str(getattr(properties, "backend_version", ""))
        calibration = TargetCalibration(self._settings.backend, target, calibrated_ms, {"version": version})
        operational = bool(getattr(status, "operational", True))
        reason = str(getattr(status, "status_msg", "")) or "no reason given"
        return calibration, replace(
            calibration.state(), unhealthy="" if operational else f"off line: {reason[:200]}"
        )

    def _account(self) -> Any:
        try:
            from qiskit_ibm_runtime import QiskitRuntimeService
        except ImportError:
            raise DownError(_MISSING) from None
        try:
            token = reveal(self._settings.credentials, "$.credentials")
        except ShotbusError as error:
            raise DownError(f"no credential: {error.problems[0].actual}") from None
        try:
            return QiskitRuntimeService(
                channel=self._settings.channel,
                token=token,
                instance=self._settings.instance or None,
                **self._elsewhere(),
            )
        except Exception as error:  # noqa: BLE001 (texts may quote the request; the name says enough)
            raise DownError(f"the account cannot be used: {type(error).__name__}") from None

    def _elsewhere(self) -> dict[str, Any]:
        url = self._settings.url
        return {"url": url, "url_resolver": lambda *_: url} if url else {}


def _fake(name: str) -> Any:
    """Return one of the backends that the SDK brings along, without making all of them. Raises DownError."""
    try:
        from qiskit_ibm_runtime import fake_provider
    except ImportError:
        raise DownError(_MISSING) from None
    made = (one for one in vars(fake_provider).values() if getattr(one, "backend_name", None) == name)
    if (found := next(made, None)) is None:
        raise DownError(f"qiskit-ibm-runtime brings no backend {name} along")
    return found()
