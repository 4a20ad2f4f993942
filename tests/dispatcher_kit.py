"""Builders that the dispatcher's suites share: requests, outcomes, control records, a small configuration."""

from shotbus.broker.config import BreakerConfig, BrokerConfig, Config, LimitsConfig, PoolConfig, RetryConfig
from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.dispatcher.messages import Commanded, Dispatch, Forward, Reported, Submitted
from shotbus.broker.machine import Emit, Now
from shotbus.schemas.codec import encode

SHARD, PARTITIONS = 0, 2
#: What every worker tells of a run.
PROVENANCE = b'{"backend":"b","kind":"simulator","host":"h","versions":{"shotbus":"1"}}'
START_MS = 1_700_000_000_000
POOLS = ("aer", "noop")
CLASSES = ("interactive", "production", "experiment", "bulk")


def config(*, max_waiting=200, retention_days=3.0, bundle_jobs=3, **retry):
    """A configuration whose bundles are small and whose leases are ten seconds."""
    pool = {"bundle_jobs": bundle_jobs, "lease_seconds": 10.0, "start_seconds": 20.0, "slots": 1}
    # Breakers and the budget of repeats have tests of their own.
    pool["breaker"] = BreakerConfig(min_calls=1_000_000)
    return Config(
        broker=BrokerConfig(partitions=PARTITIONS, retention_days=retention_days),
        pools={
            "aer": PoolConfig(adapter="aer", **pool),
            "noop": PoolConfig(adapter="noop", kind="none", **pool),
        },
        limits=LimitsConfig(max_waiting=max_waiting),
        retry=RetryConfig(
            **{"max_attempts": 3, "max_deaths": 2, "base": 1.0, "cap": 4.0, "budget_burst": 10_000} | retry
        ),
    )


def job_id(number, shard=SHARD):
    """A job id whose route leads to ``shard``."""
    return f"{2 * (number % 1_000) + shard:08x}{number:024x}"


def payload(number):
    """A payload hash."""
    return number.to_bytes(16, "big")


def request(number=1, *, shard=SHARD, **changes):
    """The fields of a valid request."""
    fields = {
        "job_id": job_id(number, shard),
        "tenant": "ada",
        "principal": "ada@example.org",
        "session_id": "",
        "idempotency_key": "",
        "payload_hash": b"\1" * 16,
        "priority": "experiment",
        "experiment": "e",
        "intent": "test",
        "family": "",
        "family_version": "",
        "circuit_id": "c" * 64,
        "points": 1,
        "bindings": b"",
        "mode": "sample",
        "shots": 100,
        "precision": None,
        "observables": b"",
        "expected": {"registers": [], "observables": 0, "shape": [1]},
        "seed": None,
        "backend": "",
        "not_before_ms": None,
        "deadline_ms": None,
        "max_result_age_ms": None,
        "sweep_id": "",
        "shard_index": -1,
        "options": {},
        "problem": None,
        "value": None,
        "tags": [],
        "code_commit": "",
        "sdk_versions": {},
        "rerun_of": "",
        "template": "",
        "submitted_us": START_MS * 1000,
        "client_prepare_us": 0,
        "think_us": 0,
        "unique_key": "",
        "unique_policy": "",
        "window": "",
        "data_class": "",
        "fallback": [],
        "speculate": "",
        "value_per_second": None,
        "confidence": None,
        "tolerance": None,
        "top_up": False,
        "max_cost": None,
        "roles": [],
    }
    assert not changes.keys() - fields.keys()
    return fields | changes


def request_bytes(number=1, **changes):
    """A request as it stands on the bus."""
    return encode("circuit_request", request(number, **changes))


def submitted(fields, *, offset=0, pool="aer", topic=None, partition=SHARD, cached=None, relayed=False):
    """The event of a request that was read."""
    place = Reference(topic or f"shotbus.requests.{fields['priority']}", partition, offset)
    return Submitted(fields, place, 300, START_MS, pool=pool, cached=cached, relayed=relayed)


def cached_result():
    """What the result cache holds for a request."""
    return {
        "job_id": job_id(900),
        "tenant": "ada",
        "points": 1,
        "executed_on": "aer_simulator",
        "provenance": PROVENANCE,
        "payload": b"kept",
        "seed": 5,
        "answered_by": "run",
        "finished_us": (START_MS - 4_000) * 1000,
    }


def item(job, attempt, error_class="", retry_after_ms=0):
    """A worker's report about one attempt."""
    code = {"code": "SB-5001", "path": "$", "limit": "", "actual": "", "hint": "", "detail": ""}
    return {
        "job_id": job,
        "attempt": attempt,
        "error_class": error_class,
        "problems": [code] if error_class else [],
        "retry_after_ms": retry_after_ms,
        "payload": b"" if error_class else b"answer",
        "shots": 0 if error_class else 100,
        "timings": b"",
        "provider_job_id": "",
        "found": "",
        "cost": -1.0,
        "backend_seconds": -1.0,
        "deviation": -1.0,
    }


def outcome(kind, bundle_id, *, worker="w1", lease="lease-1", items=(), pool="aer"):
    """The fields of an outcome record."""
    return {
        "bundle_id": bundle_id,
        "pool": pool,
        "worker": worker,
        "lease_id": lease,
        "kind": kind,
        "at_us": START_MS * 1000,
        "executed_on": "aer_simulator",
        "provenance": PROVENANCE,
        "items": list(items),
        "calibration_id": "",
    }


def reported(kind, bundle_id, **fields):
    """The event of an outcome record."""
    return Reported(outcome(kind, bundle_id, **fields))


def finished(forward, error_class="", *, lease="lease-1", **fields):
    """The event that every attempt of a forwarded bundle ended in the same way."""
    items = [item(one.job_id, one.attempt, error_class) for one in forward.items]
    return reported("finished", forward.bundle_id, lease=lease, items=items, pool=forward.pool, **fields)


def control(command, name, *, target="job", tenant="ada"):
    """The fields of a control record."""
    return {
        "command": command,
        "target": target,
        "name": name,
        "tenant": tenant,
        "principal": tenant,
        "correlation": "corr",
        "reason": "",
        "at_us": START_MS * 1000,
        "arguments": {},
    }


def commanded(command, name, **fields):
    """The event of a control record."""
    return Commanded(control(command, name, **fields))


def emitted(commands, schema):
    """The fields of the records of one schema among commands."""
    return [one.fields for one in commands if isinstance(one, Emit) and one.schema == schema]


def forwards(commands):
    """The bundles among commands."""
    return [one for one in commands if isinstance(one, Forward)]


class Driver:
    """Drives a machine as the runner does: events, then the tick, then rows into the ledger."""

    def __init__(self, build):
        self.build = build
        self.wall_ms, self.seen = START_MS, 0.0
        self.ledger = {}
        self.free = {}
        self.machine = build()

    @property
    def now(self):
        return Now(self.wall_ms, self.seen)

    def pass_time(self, seconds, seen=None):
        self.wall_ms += int(seconds * 1000)
        self.seen += seconds if seen is None else seen

    def run(self, *events):
        """One micro-batch; returns all its commands."""
        commands = [command for event in events for command in self.machine.handle(event, self.now)]
        commands += self.machine.handle(Dispatch(self.free), self.now)
        self.write_rows()
        return commands

    def write_rows(self):
        for key in self.machine.touched():
            row = self.machine.snapshot(key)
            if row is None:
                self.ledger.pop(key, None)
            else:
                self.ledger[key] = row

    def restart(self):
        """Lose the machine and rebuild it from the ledger."""
        self.seen = 0.0
        self.machine = restore(self.build, self.ledger, self.now)


def restore(build, ledger, now):
    """A machine rebuilt from rows."""
    machine = build()
    for key, row in ledger.items():
        machine.restore(key, row)
    machine.restored(now)
    machine.touched()
    return machine
