"""A dispatcher with everything switched on at once: its configuration, its circuits, and what an edge would add.

Three pools: ``free`` takes anything, ``paid`` costs money and has opening hours, ``solver`` answers problems.
"""

import dataclasses

from dispatcher_kit import PARTITIONS, SHARD, START_MS, job_id, payload, request
from reuse_kit import result

from shotbus.broker.config import (
    BreakerConfig,
    BrokerConfig,
    BudgetConfig,
    Config,
    FairnessConfig,
    LimitsConfig,
    PoolConfig,
    PriceConfig,
    RetryConfig,
    SheddingConfig,
)
from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.dispatcher.messages import Submitted
from shotbus.broker.inspection.facts import Inspected, refused
from shotbus.broker.policy.config import (
    AccessConfig,
    CronWindowConfig,
    PrescreenConfig,
    RoutingConfig,
    RuleConfig,
    Share,
    ShareConfig,
    Span,
    ThenConfig,
    WhenConfig,
)
from shotbus.schemas.ids import affine_route, digest
from shotbus.schemas.ids import job_id as make_job_id
from shotbus.schemas.openqasm import inspect

POOLS = ("free", "paid", "solver")
TENANTS = ("ada", "bob", "eve")
#: One rule each, by the name of the experiment that it takes; "" is taken by none.
ROUTES = (
    "",
    "dear",
    "canary",
    "approved",
    "chained",
    "cached",
    "nightly",
    "hasty",
    "flagged",
    "screened",
    "shadowed",
)
TEXT = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[{0}] q; bit[{0}] c; h q; c = measure q;'
CIRCUITS = tuple(f"{number:064x}" for number in range(3))
#: Whose jobs belong to this shard, whichever of the tenants has it.
KEYS = [
    key
    for key in map("loop-{}".format, range(200))
    if all(affine_route(tenant, key) % PARTITIONS == SHARD for tenant in TENANTS)
][:2]


def rule(name, *pools, **then):
    when = WhenConfig(experiments=(name,))
    flag = then.pop("flag", "")
    return RuleConfig(name=name, flag=flag, when=when, then=ThenConfig(pools=pools, **then))


SCREEN = PrescreenConfig("free", "max_probability", Span("0.5.."))
RULES = (
    rule("dear", "paid", fallback=("free",)),
    rule("canary", "free", canary=ShareConfig("paid", 40.0), fallback=("paid", "solver", "review")),
    rule("approved", "paid", require=("approval",), fallback=("free",)),
    rule("chained", "paid", fallback=("cache:60", "defer:night", "demote:bulk", "free", "review")),
    rule("cached", "solver", fallback=("cache:600", "free")),
    rule("nightly", "free", window="night"),
    rule("hasty", "free", max_queue_seconds=5.0, fallback=("paid", "demote:bulk", "cache:60")),
    rule("flagged", "paid", flag="qpu", fallback=("free",)),
    rule("screened", "paid", prescreen=SCREEN, require=("green_run", "baseline"), fallback=("free",)),
    rule("shadowed", "free", shadow=ShareConfig("paid", 60.0), fallback=("solver",)),
)


def config(**changes):
    """Everything switched on; ``changes`` replace sections."""
    pool = {"bundle_jobs": 2, "bundle_seconds": 10.0, "lease_seconds": 10.0, "start_seconds": 20.0}
    pool |= {"seconds_per_point": 0.5, "high_seconds": 8.0, "low_seconds": 4.0}
    breaker = BreakerConfig(window_seconds=30.0, min_calls=3, pause_seconds=5.0, probes=1, pause_cap=20.0)
    sections = {
        "broker": BrokerConfig(partitions=PARTITIONS),
        "pools": {
            "free": PoolConfig(adapter="aer", breaker=breaker, **pool),
            "paid": PoolConfig(
                adapter="aer",
                kind="hardware",
                breaker=breaker,
                price=PriceConfig(per_task=1.0, per_shot=0.001),
                access=AccessConfig(("private",), hours="day", reservations=("eve@night",)),
                **pool,
            ),
            "solver": PoolConfig(adapter="classical", kind="classical", modes=("estimate",), **pool),
        },
        "windows": {
            "day": CronWindowConfig(cron="0 * * * *", minutes=45),
            "night": CronWindowConfig(cron="30 * * * *", minutes=20),
        },
        "flags": {"qpu": Share(0)},
        "routing": RoutingConfig(default="free", rules=RULES),
        "limits": LimitsConfig(
            max_waiting=80, concurrency={"tenant": 6, "session": 1, "backend:free": 6, "backend:paid": 4}
        ),
        "retry": RetryConfig(
            max_attempts=3, max_deaths=2, base=1.0, cap=4.0, give_up_seconds=900.0, budget=0.2, budget_burst=1
        ),
        "shedding": {
            "soft": SheddingConfig(over=0.5, defer=("bulk",), retry_after_seconds=20.0),
            "hard": SheddingConfig(over=1.0, refuse=("bulk", "experiment"), retry_after_seconds=20.0),
        },
        "budgets": {
            "money": BudgetConfig(tenant="ada", resource="money", limit=5.0, period="day", block=0.0),
            "shots": BudgetConfig(tenant="bob", resource="shots", limit=1_800, period="day", block=0.1),
            "queued": BudgetConfig(tenant="bob", resource="queued", limit=5, block=0.0),
        },
        "fairness": FairnessConfig(ageing_seconds=60.0),
    }
    return Config(**sections | changes)


def make_request(number, *, unique="", problem=False, **changes):
    """The fields of a request of this shard: estimates have a problem that ``solver`` can answer."""
    if problem:
        asks = {"kind": "ising", "version": 1, "payload": b"{}"}
        changes |= {"mode": "estimate", "observables": b"ZZ", "problem": asks}
    fields = request(number, payload_hash=payload(number), **changes)
    if unique:
        entropy = number.to_bytes(12, "big")
        fields["unique_key"] = unique
        fields["job_id"] = make_job_id(fields["tenant"], unique_key=unique, entropy=entropy)
    assert fields["job_id"] == job_id(number) or unique
    return fields


def look_at(circuit):
    """What inspection finds; a circuit of an unknown id is refused."""
    if circuit not in CIRCUITS:
        return refused(circuit, "SB-1203", detail="it is no program")
    return Inspected(circuit, inspect(TEXT.format(2 + CIRCUITS.index(circuit))))


def route(machine, fields, offset, store, now):
    """What the edge makes of a request that was read; ``store`` holds facts and earlier results by name."""
    router = machine.shard.router
    place = Reference(f"shotbus.requests.{fields['priority']}", SHARD, offset)
    pool = fields["backend"] or "free"
    event = Submitted(fields, place, 300, START_MS, pool=pool)
    usual = router.usual(fields)
    if want := router.wants_facts(fields, usual):
        known = store.get(f"facts:{fields['circuit_id']}")
        if router.book.get(fields["circuit_id"]) is None and known is not None:
            router.book.put(known)
        if router.book.get(fields["circuit_id"]) is None:
            return dataclasses.replace(event, uninspected=True)
    facts = router.book.get(fields["circuit_id"]) if want else None
    decision = usual or router.decide(fields, facts, now.wall_ms)
    event = dataclasses.replace(event, decision=decision, facts=facts, pool=decision.pool or pool)
    if fields["seed"] is None or decision.refused:
        return event
    key = digest(event.pool, fields["circuit_id"], str(fields["seed"]), str(fields["shots"])).hex()
    return dataclasses.replace(event, cache_key=key, cached=store.get(f"cache:{key}"), history_key=f"{key}/x")


def found_result(age_seconds, now, **changes):
    """An earlier result that a recall finds."""
    at_us = (now.wall_ms - int(1000 * age_seconds)) * 1000
    return result(job_id(900), finished_us=at_us, payload=b"kept", **changes)
