"""What a dispatcher's edge makes of decisions: samples of the documented metrics, a few label lookups a batch."""

import pytest
from dispatcher_kit import PARTITIONS, SHARD, config

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.clock import SystemClock
from shotbus.broker.deadletters import PREFIX
from shotbus.broker.dispatcher.edge import DispatcherEdge
from shotbus.broker.invariants.catalog import CATALOG
from shotbus.broker.machine import Emit, Now
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics


@pytest.fixture
def metrics():
    return Metrics(role="test", version="0")


@pytest.fixture
def edge(metrics):
    return DispatcherEdge(
        SHARD,
        bus=MemoryBus(MemoryCluster()),
        store=MemoryStore(),
        topics=Topics(partitions=PARTITIONS),
        config=config(),
        free_credits=dict,
        metrics=metrics,
        clock=SystemClock(),
    )


def sample(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"shotbus_{name}", labels)


def result(outcome, answered_by, pool="aer"):
    fields = {"outcome": outcome, "pool": pool, "answered_by": answered_by, "shots": 7, "timings": b""}
    return Emit("results", 0, b"k", "circuit_result", fields)


@pytest.mark.parametrize(
    ("outcome", "answered_by", "cache"),
    [
        ("served_from_cache", "cache", "result"),
        ("served_from_cache", "shared", "shared"),
        ("served_from_cache", "tolerance", "tolerance"),
        ("served_from_cache", "top_up", "top_up"),
        ("succeeded", "top_up", "top_up"),
        ("succeeded_by_fallback", "cache", "history"),
    ],
)
def test_an_answer_that_needed_no_run_is_counted_by_where_it_came_from(
    edge, metrics, outcome, answered_by, cache
):
    edge.committed([result(outcome, answered_by)] * 2)
    assert sample(metrics, "cache_hits_total", cache=cache) == 2
    assert sample(metrics, "jobs_terminal_total", outcome=outcome, pool="aer") == 2


def test_fallbacks_are_counted_by_the_kind_of_who_answered(edge, metrics):
    edge.committed([result("succeeded_by_fallback", "fallback"), result("succeeded_by_fallback", "cache")])
    assert sample(metrics, "fallback_total", pool="aer", kind="simulator") == 1
    assert sample(metrics, "fallback_total", pool="aer", kind="cache") == 1


def test_what_load_turned_away_and_what_predictions_came_to_is_counted_once(edge, metrics):
    shard = edge.machine.shard
    shard.counters.shed("aer", "bulk", "refused")
    eta = shard.guard.eta("aer", 10.0, 0.0, Now(0, 0.0))
    for number, actual in enumerate((0.0, eta.mid, 10 * eta.high)):
        shard.guard.forecasts.follow(str(number), "aer", eta, 1_000.0 * number)
        shard.guard.forecasts.ended(str(number), 1_000.0 * number + actual)
    edge.committed([])
    edge.committed([])
    assert sample(metrics, "sheds_total", pool="aer", priority="bulk", outcome="refused") == 1
    for outcome in ("early", "held", "late"):
        assert sample(metrics, "forecasts_total", pool="aer", outcome=outcome) == 1


def letter(message, error_class=b"POISON"):
    headers = (("error-class", error_class), (f"{PREFIX}message", message))
    return Outgoing("dead-letters", 0, None, b"", headers)


def test_promises_are_shown_as_kept_until_a_machine_stops_itself(edge, metrics):
    assert [sample(metrics, "invariant_violations_total", invariant=name) for name in CATALOG] == [0] * 16
    trace = b"Traceback ...:\nshotbus.broker.dispatcher.states.IllegalTransitionError: done by accept"
    edge.committed([letter(trace), letter(b"ValueError: x"), letter(trace, b"INVALID")])
    assert sample(metrics, "invariant_violations_total", invariant="I4") == 1
    assert sum(sample(metrics, "invariant_violations_total", invariant=name) for name in CATALOG) == 1
