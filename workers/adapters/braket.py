"""The adapter of Amazon Braket: simulators of its SDK in this process, and devices at AWS by credentials.

What a job is handed in as and what it may come to is the same for both; only where it runs is not.
"""

from __future__ import annotations

from collections.abc import Mapping

from shotbus.broker.clock import SystemClock
from shotbus.workers.adapters.braket_aws import BraketAws
from shotbus.workers.adapters.braket_compile import BraketCompiler
from shotbus.workers.adapters.braket_local import BraketLocal
from shotbus.workers.adapters.braket_settings import read_settings
from shotbus.workers.providers.adapter import ProviderAdapter
from shotbus.workers.providers.programs import Programs


def create(options: Mapping[str, str]) -> ProviderAdapter:
    """Return the adapter; nothing is imported or asked before its first use.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    settings, clock = read_settings(options), SystemClock()
    service = BraketLocal(settings) if settings.local else BraketAws(settings, clock)
    return ProviderAdapter(service, settings.patience, clock, Programs(BraketCompiler()))
