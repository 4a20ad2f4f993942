"""Where the answer to a submission that was refused stands in the store. Pure.

A refusal binds no key: the same id may be submitted again and be accepted, another payload may be refused
under the id of a live job, another tenant may try any id. So it is no job's document, and each tenant has
its own; what the job itself has (status, result) goes before it.
"""

from __future__ import annotations

from shotbus.schemas.ids import digest

PREFIX = "refusal:"


def refusal_key(job_id: str, tenant: str) -> str:
    """Return the key of the last refusal that a tenant had under a job id."""
    return f"{PREFIX}{job_id}:{digest(tenant, size=8).hex()}"
