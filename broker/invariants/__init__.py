"""What must hold whatever happened, I1 to I16: one checker for all who look. Pure but for ``reading``.

The simulation, the tests and ``shotbus verify`` feed it what they have of three witnesses: the clients'
histories, the broker's topics, and a provider's ledger, which the broker cannot forge.
"""

from __future__ import annotations

from shotbus.broker.invariants.catalog import CATALOG, Invariant
from shotbus.broker.invariants.checker import Checker, Report
from shotbus.broker.invariants.findings import Bounds, Findings, Judge, Look, Violation
from shotbus.broker.invariants.witnesses import History, Operation, ProviderLedger, Submission

__all__ = [
    "CATALOG",
    "Bounds",
    "Checker",
    "Findings",
    "History",
    "Invariant",
    "Judge",
    "Look",
    "Operation",
    "ProviderLedger",
    "Report",
    "Submission",
    "Violation",
]
