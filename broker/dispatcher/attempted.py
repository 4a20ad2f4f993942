"""What attempts before the last one came to: kept with their job, told with its result. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shotbus.broker.dispatcher.bundles import RUN, Bundle
from shotbus.broker.dispatcher.job import Job
from shotbus.schemas.jsonbytes import with_member

#: Of a job that was tried more often the last ones are told.
MOST = 16
ATTEMPTS, RERUN_OF = "attempts", "rerun_of"
_REFERENCES = ("token", "status", "submission_sha256", "answer_sha256", "submission", "answer")


def note_attempt(job: Job, bundle: Bundle, outcome: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    """Keep what an attempt came to that is not the answer: a failure, or the provider's "absent"."""
    if not (item["error_class"] or item["found"] == "absent"):
        return
    problems, known = item["problems"], _document(outcome["provenance"])
    found = {
        "worker": outcome["worker"],
        "ended_us": outcome["at_us"],
        "purpose": "" if bundle.purpose == RUN else bundle.purpose,
        "error_class": item["error_class"],
        "found": item["found"],
        "code": problems[0]["code"] if problems else "",
        "provider_job_id": item["provider_job_id"],
        "cost": item["cost"] if item["cost"] > 0 else "",
        "calibration_id": outcome["calibration_id"],
        "host": known.get("host", ""),
        "compiled_key": _inside(known, "circuits", job.circuit_id).get("compiled_key", ""),
        **{name: _inside(known, "provider", "jobs", job.job_id).get(name, "") for name in _REFERENCES},
    }
    _keep(job, item["attempt"], bundle.pool, found)


def note_lost(job: Job, bundle: Bundle, error_class: str) -> None:
    """Keep that nothing was heard of an attempt any more."""
    _keep(job, job.attempt, bundle.pool, {"worker": bundle.worker, "error_class": error_class})


def with_history(job: Job, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer that names the job's earlier attempts and whose work it repeats, where it has any."""
    extras = job.extras or {}
    if RERUN_OF in extras:
        answer = {**answer, RERUN_OF: extras[RERUN_OF]}
    if ATTEMPTS not in extras:
        return answer
    document: bytes = answer.get("provenance", b"")
    if f'"{ATTEMPTS}":'.encode() in document:
        # It was another job's answer, and tells of that one's attempts.
        known = {name: told for name, told in _document(document).items() if name != ATTEMPTS}
        document = _json(known).encode()
    return {**answer, "provenance": with_member(document, ATTEMPTS, _json(extras[ATTEMPTS]))}


def _keep(job: Job, attempt: int, pool: str, found: Mapping[str, Any]) -> None:
    told = {"attempt": attempt, "pool": pool} | {name: one for name, one in found.items() if one != ""}
    before = (job.extras or {}).get(ATTEMPTS, [])
    job.keep(**{ATTEMPTS: [*before, told][-MOST:]})


def _document(raw: bytes) -> dict[str, Any]:
    try:
        known = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _inside(known: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        known = known.get(name, {})
        if not isinstance(known, dict):
            return {}
    return known


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
