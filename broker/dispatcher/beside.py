"""What runs beside a job without being one of its own, and how it is told from a submission. Pure.

A companion is a job in the books, with attempts, a row and events; it has no terminal result.
"""

from __future__ import annotations

from shotbus.broker.dispatcher.job import Job

SHADOW, SPECULATION = "shadow", "speculation"


def is_companion(job: Job) -> bool:
    """Tell whether a job runs beside another and is nobody's submission."""
    return job.extras is not None and "companion_of" in job.extras
