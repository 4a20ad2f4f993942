"""What the benchmarks are made of, without processes: loads, copies of requests, indexes, targets."""

import os
import time

import pytest

from shotbus.benchmarks import eta, fairness
from shotbus.benchmarks.arrivals import arrivals
from shotbus.benchmarks.figures import Target
from shotbus.benchmarks.press import Kind, Press
from shotbus.benchmarks.usage import cpu_seconds, resident_bytes
from shotbus.benchmarks.watch import Served
from shotbus.broker.dispatcher.admission import check_request
from shotbus.producers.client import AsyncClient
from shotbus.schemas.codec import decode_untrusted
from shotbus.schemas.ids import partition_of
from shotbus.schemas.payload import payload_hash


def test_copies_of_a_request_are_whole_requests_with_ids_of_their_own(tmp_path):
    client = AsyncClient(f"sqlite:///{tmp_path}")
    kind = Kind("noop", "interactive", "somebody", seconds=0.25, points=3)
    records = Press(client, kind).records(50)
    requests = [decode_untrusted(record.value, "circuit_request") for record in records]

    assert len({request["job_id"] for request in requests}) == 50
    for record, request in zip(records, requests, strict=True):
        assert check_request(request, client.session.config, now_ms=time.time_ns() // 1_000_000) == []
        assert record.key == dict(record.headers)["job-id"] == request["job_id"].encode()
        assert record.partition == partition_of(request["job_id"], client.session.topics.partitions)
        assert record.topic.endswith("requests.interactive")
        assert request["payload_hash"] == payload_hash(request)
    asked = requests[0]
    assert (asked["backend"], asked["points"], asked["options"]) == ("noop", 3, {"seconds": "0.25"})


def test_jains_index_is_one_for_equals_and_one_nth_when_one_has_all():
    assert fairness.jain([2.0, 2.0, 2.0]) == pytest.approx(1)
    assert fairness.jain([3.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert fairness.jain([0.0, 0.0]) == 0


@pytest.mark.parametrize("backlog", [1_200, 100_000])
def test_one_tenant_floods_fifty_times_and_the_backlog_is_whole(backlog):
    counts = list(fairness._flooded(backlog).values())

    assert sum(counts) == backlog
    assert len(set(counts[1:])) == 1
    assert counts[0] / counts[1] == pytest.approx(50, rel=0.05)


def load_of(jobs, seed=3):
    return arrivals(jobs, slots=4, mean_seconds=0.04, load=0.9, seed=seed)


def test_a_load_is_its_seed():
    assert load_of(200) == load_of(200) != load_of(200, seed=4)


def test_a_load_comes_in_bursts_at_about_the_rate_and_with_the_work_that_was_asked_for():
    load = load_of(20_000)
    gaps = [after.at - before.at for before, after in zip(load, load[1:], strict=False)]
    work = sum(one.seconds for one in load) / 4 / load[-1].at

    assert min(gaps) >= 0
    assert 0.6 < work < 1.3
    mean = sum(gaps) / len(gaps)
    # Of Poisson arrivals the variance of the gaps is the square of their mean; bursts make it larger.
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) > 1.2 * mean**2


def test_an_interval_is_read_where_a_shard_has_one():
    said = {"eta_low_ms": 1_000, "eta_mid_ms": 2_000, "eta_high_ms": 3_000}

    assert eta.interval_of(said) == (1_000, 2_000, 3_000)
    assert eta.interval_of(said | {"eta_low_ms": 0}) is None
    assert eta.interval_of({}) is None


def served(at):
    return Served("id", "t", "bulk", "p", at=at, admitted=0.0, waited=0.0, ran=0.0)


def test_coverage_counts_the_ends_inside_and_says_on_which_side_the_others_are():
    interval = eta.Interval(1_000, 2_000, 3_000)
    pairs = [(interval, served(at)) for at in (0.5, 1.0, 2.0, 3.0, 9.0)]
    figure = eta._coverage("eta", pairs)

    assert figure.value == 60
    assert figure.met is False
    assert figure.noise == "1 earlier, 1 later than said"
    assert eta._error(pairs) == 1_000


def test_nothing_said_is_a_missed_target():
    assert eta._coverage("eta", []).met is False


@pytest.mark.parametrize(
    ("target", "good", "bad", "text"),
    [
        (Target("at most", 1), 1, 1.01, "≤ 1"),
        (Target("within", 0.9, 1.1), 0.9, 0.89, "0.9 to 1.1"),
        (Target("within", 0.9, 1.1), 1.1, 1.11, "0.9 to 1.1"),
        (Target("below", 400), 399, 400, "< 400"),
        (Target("exactly", 0), 0, 1, "= 0"),
    ],
)
def test_targets_say_what_they_demand(target, good, bad, text):
    assert target.met_by(good)
    assert not target.met_by(bad)
    assert str(target) == text


def test_the_use_of_a_process_is_read_from_proc():
    before = cpu_seconds(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass

    assert 0.02 <= cpu_seconds(os.getpid()) - before < 5
    assert 1 << 20 < resident_bytes(os.getpid()) <= resident_bytes(os.getpid(), "VmHWM")
    with pytest.raises(LookupError, match="needs Linux"):
        resident_bytes(os.getpid(), "VmNothing")
