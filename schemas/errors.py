"""The one error object: stable code, place, limit, actual value, hint. Pure.

The same fields travel on ``results``, on ``dead-letters``, in the command line's ``--json`` and (RFC
9457) over HTTP. A document's errors are reported together, at most :data:`MAX_PROBLEMS` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

MAX_PROBLEMS = 20
_MAX_TEXT = 200

#: Every code that can reach a user, with its title. A code is never reused for another meaning.
CODES: Mapping[str, str] = {
    # 10xx: bytes on the wire
    "SB-1001": "record is not a known Avro record",
    "SB-1002": "record is not in canonical form",
    "SB-1003": "record is too large",
    "SB-1004": "packed arrays are malformed",
    "SB-1005": "record is empty",
    "SB-1006": "record is cut off or damaged",
    "SB-1007": "headers are too large",
    "SB-1008": "header is given twice",
    "SB-1009": "header is not ASCII",
    "SB-1010": "header contradicts its record",
    # 11xx: the request around the circuit
    "SB-1101": "unknown priority class",
    "SB-1102": "unknown pool",
    "SB-1103": "shots out of range",
    "SB-1104": "deadline has passed",
    "SB-1105": "field is too long",
    "SB-1106": "idempotency key was used with another payload",
    "SB-1107": "field is missing",
    "SB-1108": "field has the wrong value",
    "SB-1109": "job id does not belong to this tenant and route",
    "SB-1110": "pool cannot run this job",
    "SB-1111": "too many jobs are waiting",
    "SB-1112": "request is too large",
    "SB-1113": "result would be too large",
    "SB-1114": "the same work is under way",
    "SB-1115": "unique key is taken",
    "SB-1116": "circuit has too many qubits for the pool",
    "SB-1117": "circuit is too deep for the pool",
    "SB-1118": "pool has not the circuit's gates",
    "SB-1119": "unknown option",
    "SB-1120": "quota is used up",
    "SB-1121": "budget is used up",
    "SB-1122": "budget could not be checked",
    "SB-1150": "circuit is not of the declared family",
    "SB-1151": "family version is not registered",
    "SB-1152": "no pool can answer before the deadline",
    "SB-1153": "data of this class may not go there",
    "SB-1154": "fallback chain is exhausted",
    "SB-1155": "a demand of the rule cannot be met",
    # 12xx: the circuit
    "SB-1200": "circuit text is not readable",
    "SB-1201": "circuit is too large",
    "SB-1202": "include is not allowed",
    "SB-1203": "syntax error in the circuit",
    "SB-1204": "register size out of range",
    "SB-1205": "circuit expands to too many operations",
    "SB-1206": "loop is not bounded",
    "SB-1207": "nesting is too deep",
    "SB-1208": "unknown gate",
    "SB-1209": "wrong number of gate arguments",
    "SB-1210": "undeclared name",
    "SB-1211": "index out of range",
    "SB-1212": "qubit used twice in one gate",
    "SB-1213": "name is not allowed",
    "SB-1214": "number is not finite",
    "SB-1215": "construct is not supported",
    "SB-1216": "name is declared twice",
    "SB-1217": "version header is missing or unknown",
    "SB-1218": "circuit measures nothing",
    "SB-1219": "circuit is not known here",
    "SB-1220": "SDK refused the circuit",
    "SB-1221": "circuit did not survive its inspection",
    "SB-1222": "circuit template is not known",
    "SB-1223": "circuit template has another text",
    # 13xx: bindings
    "SB-1301": "parameter has no value",
    "SB-1302": "value for a parameter that the circuit does not have",
    "SB-1303": "bindings are not finite numbers",
    "SB-1304": "bindings have the wrong shape",
    "SB-1305": "too many points",
    "SB-1306": "parameter is given twice",
    # 14xx: observables and problems
    "SB-1401": "observable is malformed",
    "SB-1402": "observable does not fit the circuit",
    "SB-1403": "problem is malformed",
    "SB-1404": "problem is of an unknown kind",
    # 20xx: configuration and run files
    "SB-2001": "unknown key",
    "SB-2002": "wrong value",
    "SB-2003": "file cannot be read",
    "SB-2004": "not reachable",
    "SB-2005": "data directory is in use",
    "SB-2006": "instance name is in use",
    # 40xx: what became of a job
    "SB-4001": "job was not found",
    "SB-4002": "job was cancelled",
    "SB-4003": "job expired before it could run",
    "SB-4004": "job failed",
    "SB-4005": "job was dead-lettered",
    "SB-4006": "no answer in time",
    "SB-4007": "sweep was not found",
    "SB-4008": "dead letter was not found",
    "SB-4009": "job was superseded",
    "SB-4010": "job was rejected in review",
    "SB-4011": "request is not kept any more",
    "SB-4012": "running it again may cost",
    "SB-4013": "calibration was not found",
    # 50xx: workers and backends
    "SB-5001": "backend failed",
    "SB-5002": "worker was lost",
    "SB-5003": "worker process died",
    "SB-5004": "attempt took too long",
    "SB-5005": "result is implausible",
    "SB-5006": "bundle arrived too late to start, or its worker cannot do what it is for",
    "SB-5007": "outcome is unknown",
    "SB-5008": "backend is down",
    "SB-5009": "backend asks to come later",
    "SB-5010": "result was not stable",
    "SB-5011": "result fails its quality gate",
    "SB-5012": "provider cancelled the job",
    # 90xx: our own defects
    "SB-9001": "internal error",
}

#: What to do about each code, where the place that raises has nothing better to say (docs/errors.md).
HINTS: Mapping[str, str] = {
    "SB-1001": "encode with one of the schemas of schemas/avro, framed as Confluent does",
    "SB-1002": "encode with an Avro library and send exactly its bytes, arrays and maps in one block",
    "SB-1003": "cut the bindings: submit a sweep",
    "SB-1004": "build them with shotbus.schemas.packed; from another language, follow the layout at its top",
    "SB-1005": "send the record as the value",
    "SB-1006": "encode with an Avro library and send all of its bytes",
    "SB-1007": "send less; what belongs to the job has fields of its own",
    "SB-1008": "give each header once",
    "SB-1009": "use ASCII names; job-id, tenant, priority and traceparent have ASCII values too",
    "SB-1010": "leave the header out, or give it the value of the field",
    "SB-1101": "use one of [classes] and publish on requests.<class>",
    "SB-1102": "see shotbus pools list, or leave the backend out and let the policy choose",
    "SB-1103": "sample with 1 shot or more; exact mode (0) needs observables",
    "SB-1104": "give a later one; relative deadlines are seconds from now",
    "SB-1105": "shorten it",
    "SB-1106": "use a new key for a new payload; repeat the payload exactly to get the old job",
    "SB-1107": "set it",
    "SB-1108": "see limit in the error",
    "SB-1109": "let the client make it, or follow schemas/ids.py",
    "SB-1110": "choose another pool, or pass what limit asks for",
    "SB-1111": "submit again after retry_after",
    "SB-1112": "submit a sweep, which cuts the bindings, or several sweeps",
    "SB-1113": "ask for fewer points or observables a job",
    "SB-1114": "take the result of the job in actual; the client does so by itself",
    "SB-1115": "wait for the job in actual, or let the new one supersede it",
    "SB-1116": "choose a pool with more qubits; see max_qubits of [pools]",
    "SB-1117": "make it shallower, or raise max_depth of the pool as far as its backend allows",
    "SB-1118": "write it in the pool's own gates and couplings, or choose another pool",
    "SB-1119": "correct its name, or leave it out; docs/adapters.md has all",
    "SB-1120": "submit again after retry_after; shotbus budget shows what is left",
    "SB-1121": "submit again after retry_after; shotbus budget shows what is left",
    "SB-1122": "submit again after retry_after; budgets are kept by the dispatcher processes",
    "SB-1150": "leave the family out, or change the circuit; docs/routing.md lists what is checked",
    "SB-1151": "use one of limit, or register it under [families]",
    "SB-1152": "give a later deadline, a higher class, or a fallback chain",
    "SB-1153": "name a pool that may see it, or allow it with pools.<name>.access.data_classes",
    "SB-1154": "name another step, or give a later deadline",
    "SB-1155": "add the budget or the pool that limit names, or take the demand out of the rule's require",
    "SB-1200": "pass OpenQASM 3 or 2, a QuantumCircuit or a PennyLane tape",
    "SB-1201": "define repeated parts as gates, or write them as loops",
    "SB-1202": "write the gates into the text; files are never opened",
    "SB-1203": "correct it at the line and column given",
    "SB-1204": "declare a size within the limit",
    "SB-1205": "make it smaller; the limit is on what would run",
    "SB-1206": "use a for over constants",
    "SB-1207": "flatten them",
    "SB-1208": "define it or correct its name",
    "SB-1209": "compare with its definition",
    "SB-1210": "declare it before its first use",
    "SB-1211": "count from 0",
    "SB-1212": "give each place its own qubit",
    "SB-1213": "choose an ASCII name that is no keyword",
    "SB-1214": "correct the expression",
    "SB-1215": "see hint, or unroll it",
    "SB-1216": "rename one of them",
    "SB-1217": "begin with OPENQASM 3.0; or OPENQASM 2.0;",
    "SB-1218": "add measurements, or pass observables",
    "SB-1219": "submit with the client, which sends it along",
    "SB-1220": "see detail; simplify the construct it names",
    "SB-1221": "simplify it; see [inspection] for the memory and the time it may take",
    "SB-1222": "write name@version and its file into [templates]",
    "SB-1223": "give the changed circuit a new version",
    "SB-1301": "bind it",
    "SB-1302": "drop it, or correct its name",
    "SB-1303": "drop the point or repair the value",
    "SB-1304": "one row a point, one column a parameter, real numbers",
    "SB-1305": "cut them into several sweeps",
    "SB-1306": "name each parameter once",
    "SB-1401": "labels as Qiskit's: qubit 0 is the rightmost letter",
    "SB-1402": "pad with I, or change the circuit",
    "SB-1403": "build it with ProblemStatement",
    "SB-1404": "use hamiltonian or ising, version 1",
    "SB-2001": "see hint for the nearest key and docs/configuration.md for all",
    "SB-2002": "see limit",
    "SB-2003": "check the path and the permission to read it; detail tells what is wrong with its content",
    "SB-2004": "start it, or correct the URL; shotbus doctor checks everything",
    "SB-2005": "use that one with --data, or choose another directory",
    "SB-2006": "give each process of a role a name of its own (--instance), or none",
    "SB-4001": "check the id and the tenant",
    "SB-4002": "submit it again",
    "SB-4003": "give it more time or a higher class",
    "SB-4004": "see the other problems of the result",
    "SB-4005": "see shotbus dlq list, repair the cause, shotbus dlq redrive",
    "SB-4006": "ask again with its id",
    "SB-4007": "check the id; a new sweep has none for its first half second",
    "SB-4008": "see shotbus dlq list; a letter is named PARTITION:OFFSET",
    "SB-4009": "take the result of the job in actual",
    "SB-4010": "see the reviewer's reason in detail",
    "SB-4011": "submit it again yourself; requests are kept as long as results, broker.retention_days",
    "SB-4012": "say that it may (--pay), or name a pool that is free (--pool)",
    "SB-4013": "check the id; only what a job ran under is kept, for a year",
    "SB-5001": "see detail",
    "SB-5002": "see the worker's log",
    "SB-5003": "the circuit may need more memory than pools.<name>.memory_mb",
    "SB-5004": "cut it into smaller jobs or raise the limit",
    "SB-5005": "report it with the job id; nothing was counted",
    "SB-5006": "nothing: the dispatcher sends it again",
    "SB-5007": "nothing: the provider is asked before the job may be sent again",
    "SB-5008": "see shotbus pools list and the provider's status page",
    "SB-5009": "nothing: it is sent again when the backend said, or later",
    "SB-5010": "see detail; name another pool",
    "SB-5011": "give more shots, name another pool or a fallback, or lower the bar of the gate in path",
    "SB-5012": "see the provider's status page; name another pool or a fallback",
    "SB-9001": "report it with shotbus dlq show",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one place.

    ``path`` is a JSON path (``$.shots``) or ``line:column``; ``limit`` and ``actual`` are short texts;
    ``hint`` says what to do next.
    """

    code: str
    path: str = "$"
    limit: str = ""
    actual: str = ""
    hint: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unregistered error code {self.code}")
        if not self.hint:
            object.__setattr__(self, "hint", HINTS.get(self.code, ""))
        for name in ("path", "limit", "actual", "hint", "detail"):
            object.__setattr__(self, name, _short(getattr(self, name)))

    @property
    def title(self) -> str:
        """The code's fixed meaning."""
        return CODES[self.code]

    def under(self, place: str) -> Problem:
        """Return the same problem with its path taken to be inside ``place``, a JSON path."""
        inside = self.path[1:] if self.path.startswith("$") else f":{self.path}"
        return replace(self, path=place + inside)

    def as_record(self) -> dict[str, Any]:
        """Return the fields as they travel in Avro and JSON."""
        return {
            "code": self.code,
            "path": self.path,
            "limit": self.limit,
            "actual": self.actual,
            "hint": self.hint,
            "detail": self.detail,
        }

    def as_json(self, trace_id: str = "") -> dict[str, Any]:
        """Return the RFC 9457 style object of ``--json``; ``trace_id`` is the job's, where there is one."""
        doc = f"docs/errors.md#{self.code.lower()}"
        return {"title": self.title, **self.as_record(), "doc": doc, "trace_id": trace_id}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Problem:
        """Read what :meth:`as_record` wrote; codes of newer versions become SB-9001 with the code kept."""
        fields = {name: str(record.get(name, "")) for name in ("path", "limit", "actual", "hint", "detail")}
        code = str(record["code"])
        if code not in CODES:
            fields["detail"] = f"{code} {fields['detail']}"
            code = "SB-9001"
        return cls(code=code, **fields)

    def __str__(self) -> str:
        parts = [f"{self.code} {self.path}: {self.title}"]
        if self.actual:
            parts.append(f"got {self.actual}")
        if self.limit:
            parts.append(f"limit {self.limit}")
        if self.detail:
            parts.append(self.detail)
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)


class ShotbusError(Exception):
    """Something was refused or failed; ``problems`` says everything that is wrong with it.

    ``trace_id``: of the job it happened to, empty where there is none.
    """

    trace_id = ""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep at most :data:`MAX_PROBLEMS` of ``problems``."""
        self.problems = tuple(problems)[:MAX_PROBLEMS]
        super().__init__("\n".join(str(problem) for problem in self.problems))


def fail(code: str, path: str = "$", **fields: object) -> ShotbusError:
    """Make an error of one problem, to be raised; ``fields`` are those of :class:`Problem`."""
    return ShotbusError([Problem(code, path, **{name: str(value) for name, value in fields.items()})])


def _short(text: object) -> str:
    """Bound what is echoed, and keep control characters out of terminals and logs."""
    kept = str(text)[: _MAX_TEXT + 1]
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in kept)
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"
