"""What a running system tells: metrics under their documented names with true values, JSON logs, one trace."""

import contextlib
import dataclasses
import pathlib
import re
import socket
import urllib.request

import pytest
from cli_kit import invoke
from embedded_kit import BELL, Broker, eventually, records
from prometheus_client.metrics import MetricWrapperBase

from shotbus import Client, JobFailedError, RefusedError, ShotbusError
from shotbus.broker.bus.base import Outgoing
from shotbus.broker.config import MetricsConfig
from shotbus.broker.inspection.inspector import InspectorCounters
from shotbus.broker.inspection.service import DeskCounters
from shotbus.broker.stages import STAGES
from shotbus.broker.telemetry import Metrics
from shotbus.broker.tracing import parse_traceparent
from shotbus.broker.treasury.machine import STATS
from shotbus.deploy.cluster import Cluster
from shotbus.schemas.codec import decode
from shotbus.workers.settings import WORKER_GAUGES, WorkerCounters

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    directory = tmp_path_factory.mktemp("broker") / "data"
    with Broker(directory, "noop") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


class Changes:
    """How much samples have grown since this was made."""

    def __init__(self, broker):
        self._broker = broker
        self._before = broker.metrics()[1]

    def become(self, **expected):
        """Wait until every sample has grown by what is expected; ``__`` separates name and label."""
        names = {self._sample(name): value for name, value in expected.items()}

        def grown():
            now = self._broker.metrics()[1]
            found = {name: now.get(name, 0.0) - self._before.get(name, 0.0) for name in names}
            return found == names or None

        eventually(grown)

    @staticmethod
    def _sample(name):
        metric, _, labels = name.partition("__")
        pairs = labels.split("__") if labels else []
        shown = ",".join(f'{key}="{value}"' for key, value in (pair.split("_is_") for pair in pairs))
        return f"shotbus_{metric}" + (f"{{{shown}}}" if shown else "")


def run(client, count, **options):
    jobs = [client.submit(BELL, shots=7, backend="noop", **options) for _ in range(count)]
    return [job.result(30) for job in jobs]


def documented():
    rows = re.findall(
        r"^\| `(shotbus_\w+)` \| (\w+) \|(.*?)\| .+ \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def declared():
    """Every metric of the code: the process's own, and what components export."""
    metrics = Metrics(role="test", version="0")
    own = {id(one): one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)}
    for one in own.values():
        yield (
            one.describe()[0].name + ("_total" if one._type == "counter" else ""),
            (one._type, one._labelnames),
        )
    yield "shotbus_build_info", ("info", ("version", "role"))
    for field in dataclasses.fields(WorkerCounters):
        falls = field.name in WORKER_GAUGES
        name, kind = (field.name, "gauge") if falls else (f"{field.name}_total", "counter")
        yield f"shotbus_worker_{name}", (kind, ("pool",))
    for word in ("counted", "duplicate", "late", "unknown", "foreign", "deferred", "partial", "final"):
        yield f"shotbus_reducer_shards_{word}_total", ("counter", ())
    for word in ("read", "unreadable"):
        yield f"shotbus_reducer_records_{word}_total", ("counter", ())
    for role, counters in (("inspection", DeskCounters), ("inspector", InspectorCounters)):
        for field in dataclasses.fields(counters):
            yield f"shotbus_{role}_{field.name}_total", ("counter", ())
    for word in STATS:
        yield f"shotbus_treasury_{word}_total", ("counter", ())
    yield "shotbus_treasury_alert_total", ("counter", ("budget", "threshold"))
    yield "shotbus_budget_spent_units", ("gauge", ("resource",))


def test_the_docs_list_every_metric_with_type_and_labels_and_nothing_else():
    assert documented() == dict(declared())


def test_the_docs_list_every_stage_in_the_order_of_the_table():
    text = DOCS.read_text(encoding="utf-8").partition("## Stages")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [(stage.name, stage.where, stage.meaning) for stage in STAGES]


def test_the_endpoint_serves_every_documented_metric(client, broker):
    run(client, 1)
    text = broker.metrics()[0]
    served = set(re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE))
    elsewhere = ("shotbus_reducer_", "shotbus_treasury_", "shotbus_budget_")
    not_yet = {name for name in documented() if name.startswith(elsewhere)}
    created = {name for name in served if name.endswith("_created")}
    assert set(documented()) - not_yet <= served
    assert served - created <= set(documented())
    assert 'role="up"' in text


def test_every_served_metric_has_its_documented_type(client, broker):
    run(client, 1)
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", broker.metrics()[0], re.MULTILINE))
    told = {name: kind for name, (kind, _) in documented().items() if name in types and kind != "info"}
    assert told == {name: types[name] for name in told}
    assert "shotbus_worker_jobs_done_total" in told


def test_the_endpoint_is_on_by_default_and_told_in_log_and_ready_line(broker):
    url = broker.ready["metrics"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
    assert [line["metrics"] for line in broker.lines() if line["event"] == "connected"] == [url]


def test_a_port_of_minus_one_switches_the_endpoint_off(tmp_path):
    with Broker(tmp_path / "data", "noop", environ={"SHOTBUS__METRICS__PORT": "-1"}) as broker:
        assert broker.ready["metrics"] is None


def test_every_role_process_has_an_endpoint_of_its_own(tmp_path):
    with Cluster(f"sqlite:///{tmp_path / 'data'}", tmp_path / "logs") as cluster:
        for words in (["dispatcher"], ["reducer"], ["worker", "--pool", "noop"]):
            cluster.start(words[0], *words)
        cluster.wait("dispatcher", "reducer", "worker")
        assert len({role.metrics for role in cluster.roles.values()}) == 3
        for role in cluster.roles.values():
            with urllib.request.urlopen(role.metrics, timeout=10) as answer:
                assert f'role="{role.name}"' in answer.read().decode()


def test_a_wildcard_address_is_told_as_this_hosts_name():
    metrics = Metrics(role="test", version="0")
    assert metrics.serve(MetricsConfig(host="0.0.0.0")).startswith(f"http://{socket.gethostname()}:")


def test_what_is_exported_is_a_counter_unless_it_may_fall():
    metrics = Metrics(role="test", version="0")
    metrics.export("part", {"pool": "a"}, lambda: {"done": 3, "held": 2}, ["held"])
    metrics.export("part", {"pool": "b"}, lambda: {"done": 4, "held": 1}, ["held"])
    found = {family.name: family for family in metrics.registry.collect()}
    assert found["shotbus_part_done"].type == "counter"
    assert {one.name for one in found["shotbus_part_done"].samples} == {"shotbus_part_done_total"}
    assert [one.value for one in found["shotbus_part_done"].samples] == [3, 4]
    assert found["shotbus_part_held"].type == "gauge"


def test_jobs_are_counted_from_submission_to_result(client, broker):
    changes = Changes(broker)
    run(client, 5, priority="bulk")
    changes.become(
        jobs_submitted_total__priority_is_bulk=5,
        jobs_terminal_total__outcome_is_succeeded__pool_is_noop=5,
        end_to_end_seconds_count__priority_is_bulk=5,
        payload_bytes_count__stage_is_admit=5,
        worker_jobs_done_total__pool_is_noop=5,
    )


def test_refusals_repetitions_and_cancels_are_counted(client, broker):
    changes = Changes(broker)
    for shots in (1, 1, 2):
        with contextlib.suppress(RefusedError):
            client.submit(BELL, shots=shots, backend="noop", idempotency_key="counted").result(30)
    job = client.submit(BELL, shots=1, backend="noop", not_before=3600)
    job.cancel()
    with pytest.raises(JobFailedError):
        job.result(30)
    changes.become(
        **{
            "dedup_hits_total": 2,
            "jobs_refused_total__error_code_is_SB-1106": 1,
            "jobs_terminal_total__outcome_is_cancelled__pool_is_noop": 1,
        }
    )


def test_dead_letters_are_counted(client, broker):
    changes = Changes(broker)

    async def publish():
        session = client._client.session
        topic = session.topics.requests("experiment")
        await session.bus.publish([Outgoing(topic, 0, None, b"noise"), Outgoing(topic, 1, None, None)])

    client._loop.run(publish())
    changes.become(dlq_letters_total__error_class_is_INVALID=2, dlq_depth=2)
    assert invoke(broker.directory, "dlq", "purge", "--yes", "--data", broker.directory)[0] == 0
    eventually(lambda: broker.metrics()[1]["shotbus_dlq_depth"] == 0)


DEPTH = 'shotbus_queue_depth{pool="noop",priority="experiment"}'
OLDEST = 'shotbus_queue_oldest_age_seconds{priority="experiment"}'


def test_the_queue_is_told_while_jobs_wait(client, broker):
    async def control(verb):
        await client._client.control_pool(verb, "noop")

    client._loop.run(control("pause"))
    jobs = [client.submit(BELL, shots=1, backend="noop") for _ in range(3)]
    eventually(lambda: broker.metrics()[1][DEPTH] == 3)
    waiting = eventually(lambda: broker.metrics()[1][OLDEST])
    assert 0 < waiting < 60
    client._loop.run(control("resume"))
    for job in jobs:
        job.result(30)
    eventually(lambda: broker.metrics()[1][DEPTH] == 0)
    eventually(lambda: broker.metrics()[1][OLDEST] == 0)


def test_health_tells_which_pools_have_workers(client, broker):
    run(client, 1)
    eventually(lambda: broker.metrics()[1]['shotbus_pool_health{kind="none",pool="noop"}'] == 1)
    assert broker.metrics()[1]['shotbus_pool_health{kind="simulator",pool="aer"}'] == 0
    assert broker.metrics()[1]['shotbus_pool_inflight{kind="none",pool="noop"}'] == 0


def test_pools_are_told_as_the_shards_see_them_and_no_promise_is_broken(client, broker):
    run(client, 1)
    partitions = client._client.session.topics.partitions

    def sample(name, state):
        return f'shotbus_{name}{{kind="none",pool="noop",state="{state}"}}'

    eventually(lambda: broker.metrics()[1][sample("pool_state", "ready")] == partitions)
    found = broker.metrics()[1]
    assert found[sample("breaker_state", "closed")] == partitions
    assert found[sample("breaker_state", "open")] == 0
    assert found['shotbus_backpressure_engaged{pool="noop"}'] == 0
    broken = [value for name, value in found.items() if name.startswith("shotbus_invariant_violations_total")]
    assert broken == [0.0] * 16


def test_what_was_inspected_is_counted_with_its_depth(client, broker):
    changes = Changes(broker)
    qasm = BELL.replace("h q[0];", "h q[0];" * 7)
    job = client.submit(qasm, shots=1, backend="aer")
    changes.become(inspection_inspected_total=1, inspector_accepted_total=1, circuit_depth_count=1)
    job.cancel()


def test_every_log_line_is_json_with_time_level_event_role_and_process(client, broker):
    run(client, 1)
    lines = broker.lines()
    assert lines
    for line in lines:
        assert {"timestamp", "level", "event", "role", "process"} <= set(line)
    assert {line["role"] for line in lines} == {"up"}


def test_no_log_line_is_written_for_a_job(client, broker):
    run(client, 2)
    before = len(broker.lines())
    run(client, 40)
    assert len(broker.lines()) - before < 5


TOLD = ("requests.experiment", "work.noop", "events", "results")


def traces(broker, job):
    """The trace ids that records about a job carry, by topic."""
    found = {}
    for record in records(broker.url, *TOLD):
        topic = record.topic.removeprefix("shotbus.")
        inside = {"work.noop": "items", "events": "events"}.get(topic)
        if inside:
            told = [one for one in decode(record.value)[1][inside] if one["job_id"] == job]
        else:
            told = [dict(record.headers)] if record.key == job.encode() else []
        for one in told:
            header = one["traceparent"]
            found[topic] = parse_traceparent(header if isinstance(header, str) else header.decode()).trace_id
    return found


@pytest.mark.parametrize("given", ["", "00-" + "5f" * 16 + "-" + "ab" * 8 + "-01"], ids=["own", "callers"])
def test_one_trace_goes_from_request_over_bundle_and_events_to_result(client, broker, given):
    def submitted():
        """What was worked on is soon deleted from the bus, now and then before it is read here."""
        job = client.submit(BELL, shots=1, backend="noop", traceparent=given)
        job.result(30)
        found = traces(broker, job.job_id)
        return found if set(found) == set(TOLD) else None

    found = eventually(submitted)
    assert len(set(found.values())) == 1
    assert not given or set(found.values()) == {"5f" * 16}


def test_a_refusal_carries_the_trace_too(client, broker):
    given = "00-" + "6e" * 16 + "-" + "ab" * 8 + "-01"
    client.submit(BELL, shots=1, backend="noop", idempotency_key="traced").result(30)
    job = client.submit(BELL, shots=2, backend="noop", idempotency_key="traced", traceparent=given)
    with pytest.raises(ShotbusError):
        job.result(30)
    headers = [dict(one.headers) for one in records(broker.url, "results") if one.key == job.job_id.encode()]
    assert "6e" * 16 in {
        header["traceparent"].decode()[3:35] for header in headers if "traceparent" in header
    }


def test_a_sweep_and_its_shards_share_one_trace(client, broker):
    given = "00-" + "7d" * 16 + "-" + "ab" * 8 + "-01"
    sweep = client.sweep(BELL, None, shots=1, backend="noop", traceparent=given)
    sweep.result(30)
    told = [
        decode(one.value)[1]
        for one in records(broker.url, "sweeps", "reductions")
        if one.key == sweep.sweep_id.encode()
    ]
    assert {fields["traceparent"][3:35] for fields in told} == {"7d" * 16}
