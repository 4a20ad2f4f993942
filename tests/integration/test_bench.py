"""Every benchmark at a tiny size: what it counts must be right and its figures complete; times are not judged."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from shotbus.benchmarks import ansatz, figures, load, noop, suite
from shotbus.broker.bus.base import Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.cli.bench import bench
from shotbus.schemas.openqasm import inspect
from shotbus.schemas.registry import latest, schema_id

SHAPES = {
    "sweep": {("points", "1/s"), ("points, pool vector", "1/s")},
    "noop": {
        ("jobs, 1,024 callers", "1/s"),
        ("jobs, 256 callers", "1/s"),
        ("ids without exactly one result", ""),
    },
    "latency": {("submit to result, p50", "ms"), ("submit to result, p95", "ms")},
    "memory": {
        ("dispatcher, nothing waiting", "MiB"),
        ("dispatcher, 600 jobs waiting", "MiB"),
        ("a waiting job", "bytes"),
        ("submit and admit them", "1/s"),
        ("restart until all wait again", "s"),
    },
    "bytes": {
        ("request, full matrix", "bytes/point"),
        ("request, 2 of 48 change", "bytes/point"),
        ("bindings alone, full matrix", "bytes/point"),
        ("bindings alone, 2 of 48 change", "bytes/point"),
        ("result", "bytes/point"),
    },
    "fairness": {
        ("interactive, accepted to started, p95", "ms"),
        ("interactive, published to started, p95", "ms"),
        ("jobs still waiting behind them", "jobs"),
        ("bulk, share of backend seconds", "%"),
        ("Jain's index of 10 equal tenants, one floods 50 times", ""),
    },
    "pools": {("healthy pool, jobs", "1/s")},
    "backlog": {
        ("taking a job in, 2,000 waiting", "µs CPU"),
        ("forwarding and finishing one, 2,000 waiting", "µs CPU"),
        ("dispatcher at its largest, 2,000 jobs waiting", "MB"),
        ("killed: until the next one forwards, 300 live jobs", "s"),
        ("stopped: until the next one forwards, 300 live jobs", "s"),
    },
    "eta": {
        ("jobs that waited when they were asked for", "jobs"),
        ("answers without an interval", "jobs"),
        ("ends inside the 80 % interval", "%"),
        ("middle of the interval, median error", "ms"),
    },
    "calibrations": {("hit rate, errors move by 2% an hour", "%")},
}
# Only there is a dispatcher without a name of its own waited for.
KAFKA_ALONE = {
    "backlog": {("killed, without an instance name: until the next one forwards, 300 live jobs", "s")},
}
# What counts mistakes, and what shards may not say yet.
MAY_BE_ZERO = {
    "ids without exactly one result",
    "answers without an interval",
    "ends inside the 80 % interval",
    "middle of the interval, median error",
}


@pytest.mark.parametrize("name", suite.BENCHMARKS)
async def test_a_tiny_run_yields_every_figure(name):
    report = await suite.run(name, None, "tiny")

    assert {(figure.name, figure.unit) for figure in report.figures} == SHAPES[name]
    for figure in report.figures:
        assert np.isfinite(figure.value)
        assert figure.value > 0 or figure.name in MAY_BE_ZERO
        json.dumps(figure.as_json())
    assert "of the CPUs the benchmark took" in report.notes[-1]


@pytest.mark.kafka
async def test_on_kafka_every_id_has_exactly_one_result(kafka_address):
    report = await suite.run("noop", f"kafka://{kafka_address}?store=memory", "tiny")

    counted = next(figure for figure in report.figures if figure.name == "ids without exactly one result")
    assert counted.met
    assert counted.noise == "600 ids: 0 missing, 0 repeated, 0 foreign"


@pytest.mark.kafka
@pytest.mark.parametrize("name", ["fairness", "pools", "backlog", "eta"])
async def test_on_kafka_the_dispatcher_is_loaded_as_it_is_embedded(name, kafka_address):
    report = await suite.run(name, f"kafka://{kafka_address}?store=memory", "tiny")

    assert {(figure.name, figure.unit) for figure in report.figures} == SHAPES[name] | KAFKA_ALONE.get(
        name, set()
    )
    assert {figure.benchmark for figure in report.figures} == {f"{name} kafka"}


async def test_missing_repeated_and_foreign_results_are_told_apart():
    bus = MemoryBus(MemoryCluster())
    await bus.start()
    await bus.create_topics([TopicSpec("results", 1)])
    await bus.publish([outgoing(key) for key in (b"before", b"one", b"one", b"stranger")])

    count = await noop.count_results(bus, {TopicPartition("results", 0): 1}, ["one", "two"])

    assert (count.missing, count.repeated, count.foreign, count.wrong) == (1, 1, 1, 3)
    await bus.close()


def outgoing(key):
    # The frame of a circuit_result; nothing behind it is looked at.
    frame = b"\0" + schema_id(latest("circuit_result")).to_bytes(4, "big")
    return Outgoing("results", 0, key, frame)


def test_a_ratio_is_judged_where_there_is_a_reference_and_the_value_where_there_is_none():
    at_least, below = figures.Target("at least", 0.8), figures.Target("below", 400)

    assert figures.Figure("b", "f", 90, "1/s", figures.Reference("r", 100), at_least).met
    assert not figures.Figure("b", "f", 70, "1/s", figures.Reference("r", 100), at_least).met
    assert figures.Figure("b", "f", 399, "MiB", target=below).met
    assert figures.Figure("b", "f", 1, "s").met is None


def test_interleaved_repeats_are_compared_pair_by_pair():
    # The machine halves its speed after the first pair; the ratio does not care.
    figure = figures.paired(
        "b", "f", "1/s", [90, 45, 45], [100, 50, 50], against="r", target=figures.Target("at least", 0.8)
    )

    assert figure.ratio == pytest.approx(0.9)
    assert figure.met


def test_the_share_of_others_is_what_neither_idled_nor_was_ours():
    before, after = load.Spent(10.0, 20.0, 1.0), load.Spent(18.0, 30.0, 4.0)

    assert load.told(before, after, kafka=False) == "of the CPUs the benchmark took 30%, others 50%"


def test_the_ansatz_has_the_declared_size_and_its_delta_changes_the_declared_columns():
    facts = inspect(ansatz.text())

    assert (facts.qubits, len(facts.parameters)) == (8, 48)
    matrix = ansatz.points(5, changing=2)
    assert (matrix != matrix[0]).any(axis=0).sum() == 2


def test_the_plan_takes_to_kafka_what_is_measured_there():
    assert suite.plan(["noop", "sweep"], None) == [("sweep", None), ("noop", None)]
    assert suite.plan([], "kafka://k:1")[-2:] == [("noop", "kafka://k:1"), ("latency", "kafka://k:1")]


def test_what_takes_long_runs_only_when_it_is_named():
    assert {"fairness", "pools", "backlog", "eta", "calibrations"}.isdisjoint(
        name for name, _ in suite.plan([], None)
    )
    assert suite.plan(["eta"], "kafka://k:1") == [("eta", None), ("eta", "kafka://k:1")]


def test_a_scale_makes_the_load_smaller_and_nothing_else():
    full, scaled = suite.sizes("backlog", "full"), suite.sizes("backlog", "full", 0.01)

    assert (full["jobs"], full["live"], full["few"]) == (1_000_000, 100_000, 10_000)
    assert scaled == full | {"jobs": 10_000, "live": 1_000}
    assert suite.sizes("eta", "tiny", 1e-9) == {"jobs": 1}


def test_the_command_prints_its_figures_as_json_and_tells_missed_targets_by_its_exit_code(monkeypatch):
    async def slow(name, kafka, size, scale):
        assert (size, scale) == ("quick", 0.5)
        figure = figures.Figure(name, "jobs", 1.0, "1/s", target=figures.Target("at least", 2))
        return figures.Report([figure], ["a note"])

    monkeypatch.setattr(suite, "run", slow)
    done = CliRunner().invoke(bench, ["--only", "noop", "--quick", "--scale", "0.5", "--json"])

    assert done.exit_code == 1
    assert json.loads(done.stdout)["reports"][0]["figures"][0]["met"] is False
