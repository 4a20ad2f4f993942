"""The fold: every order, every duplicate and every restart gives the same final bytes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus.base import Record
from shotbus.broker.machine import Now, Tick
from shotbus.broker.topics import Topics
from shotbus.reducers.fold import Fold, ShardRefused, ShardResult, SweepCancelled, SweepDeclared, SweepSealed
from shotbus.reducers.fold_edge import FoldEdge
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.layout import Layout, pack_layout
from shotbus.schemas.packed import unpack
from shotbus.schemas.pub import Counts, Estimates, pack_counts, pack_estimates

KEEP_MS = 1_000_000
START_US = 1_700_000_000_000_000
SHARDS = 6


def now(seen=0.0, wall_ms=START_US // 1000):
    return Now(wall_ms, seen)


def declaration(reduce="minimum", shards=SHARDS, **options):
    axis = np.tile(np.linspace(0.0, 4.0, 4), shards)
    groups = np.arange(shards, dtype="<i4") // 2
    layout = pack_layout(Layout(np.full(shards, 4, dtype="<i4"), groups, axis))
    return {
        "command": "declare",
        "sweep_id": "s1",
        "tenant": "ada",
        "principal": "ada",
        "shards": shards,
        "layout": layout,
        "reduce": reduce,
        "options": options,
        "experiment": "",
        "tags": [],
        "traceparent": "",
        "at_us": START_US,
    }


def payload_of(reduce, shard):
    rng = np.random.default_rng(abs(shard))
    if reduce == "histogram":
        numbers = rng.integers(1, 2**40, size=4)
        outcomes = rng.permutation(4).astype("|u1")[:, None]
        return pack_counts(Counts((("c", 2),), np.array([0, 1, 1, 3, 4], dtype="<i4"), outcomes, numbers))
    evs = rng.standard_normal((4, 3))
    return pack_estimates(Estimates(evs, np.abs(evs) / 7))


def result(shard, reduce="minimum", outcome="succeeded", **changes):
    request = dict.fromkeys(("request_partition", "request_offset", "submitted_us", "accepted_us"), 0)
    texts = dict.fromkeys(("pool", "circuit_id", "experiment", "intent", "cache_key", "request_topic"), "")
    fields = (
        request
        | texts
        | {
            "timings": b"",
            "provenance": told_by(shard),
            "job_id": f"{shard:032x}",
            "tenant": "ada",
            "sweep_id": "s1",
            "shard_index": shard,
            "outcome": outcome,
            "executed_on": f"sim-{shard % 2}",
            "attempt": 1,
            "points": 4,
            "shots": 100 + shard,
            "seed": 1,
            "payload": payload_of(reduce, shard),
            "problems": [],
            "bytes_in": 1,
            "finished_us": START_US + 7919 * shard % 101,
        }
    )
    return ShardResult(fields | changes)


def told_by(shard):
    """Shards of two versions of an SDK, which tell their packages in any order; every fifth tells none."""
    versions = [("sdk", str(shard % 2)), ("python", "3")]
    told = dict(versions[:: 1 if shard % 3 else -1])
    document = {"backend": "b"} if shard % 5 == 4 else {"sdk_versions": {"sdk": "9"}, "versions": told}
    return json.dumps(document, separators=(",", ":")).encode()


def refusal(shard, retry_after_ms=0):
    fields = {"job_id": "j", "tenant": "ada", "sweep_id": "s1", "shard_index": shard, "problems": []}
    return ShardRefused({**fields, "retry_after_ms": retry_after_ms, "refused_us": START_US + 500})


class Ledger:
    """The machine with its compacted ledger, as the runner keeps it."""

    def __init__(self):
        self.rows = {}
        self.finals = []
        self.partials = []
        self.fold = Fold(4, KEEP_MS)
        self.fold.restored(now())

    def feed(self, event, at=None):
        for command in self.fold.handle(event, at or now()):
            record = encode(command.schema, command.fields)
            (self.finals if command.fields["final"] else self.partials).append((record, command.fields))
        for key in self.fold.touched():
            row = self.fold.snapshot(key)
            self.rows.pop(key, None) if row is None else self.rows.__setitem__(key, row)
        return self

    def restart(self):
        self.fold = Fold(4, KEEP_MS)
        for key, row in self.rows.items():
            self.fold.restore(key, row)
        self.fold.restored(now())


def run(events, restarts=frozenset()):
    ledger = Ledger()
    for number, event in enumerate(events):
        if number in restarts:
            ledger.restart()
        ledger.feed(event, now(float(number)))
    return ledger


def straight(reduce, **options):
    events = [result(shard, reduce, outcome_of(shard)) for shard in range(SHARDS)]
    return run([SweepDeclared(declaration(reduce, **options)), *events])


def outcome_of(shard):
    return ("succeeded", "served_from_cache", "failed", "succeeded_by_fallback")[shard % 4]


@given(st.data())
@pytest.mark.parametrize(
    ("reduce", "options"),
    [("minimum", {"model": "sinusoid"}), ("expectation", {}), ("histogram", {}), ("collect", {})],
)
def test_order_duplicates_and_restarts_do_not_show_in_the_final_bytes(reduce, options, data):
    declared = SweepDeclared(declaration(reduce, **options))
    results = [result(shard, reduce, outcome_of(shard)) for shard in range(SHARDS)]
    noise = [*results, declared, refusal(1), refusal(2, 500), Tick(), result(0, sweep_id="other")]
    extra = data.draw(st.lists(st.sampled_from(noise), max_size=8))
    # A refusal that completes the sweep before its result is read ends it: keep one result for last.
    events = data.draw(st.permutations([*results[1:], *extra]))
    events = [declared, *[event for event in events if event is not results[0]], results[0], *extra]
    events = list(events[: SHARDS * 3])
    restarts = data.draw(st.sets(st.integers(1, len(events)), max_size=4))
    ledger, expected = run(events, restarts), straight(reduce, **options)
    assert [final for final, _ in ledger.finals] == [final for final, _ in expected.finals]
    assert len(ledger.finals) == 1
    assert list(ledger.rows) == [b"s1"]


@given(st.lists(st.integers(0, SHARDS - 1), min_size=1, max_size=20))
def test_shots_are_conserved_whatever_arrives_twice(shards):
    ledger = run([SweepDeclared(declaration()), *map(result, shards)])
    ledger.feed(SweepCancelled("s1", "ada", START_US + 9))
    ((_, fields),) = ledger.finals
    seen = set(shards)
    assert fields["shots"] == sum(100 + shard for shard in seen)
    assert fields["done"] == fields["succeeded"] == len(seen)
    assert sum(fields["executed_on"].values()) == len(seen)
    assert fields["points"] == 4 * len(seen)


def test_the_final_says_what_became_of_the_shards():
    ((_, fields),) = straight("collect").finals
    assert (fields["done"], fields["succeeded"], fields["from_cache"], fields["failed"]) == (6, 5, 2, 1)
    assert fields["failed_shards"] == [2]
    assert fields["executed_on"] == {"sim-0": 3, "sim-1": 3}
    assert fields["at_us"] == max(START_US + 7919 * shard % 101 for shard in range(SHARDS))
    outcomes = unpack(fields["payload"])[1]["outcomes"]
    assert outcomes == {"succeeded": 2, "succeeded_by_fallback": 1, "served_from_cache": 2, "failed": 1}


@pytest.mark.parametrize("shard", [-1, SHARDS])
def test_a_shard_out_of_range_is_refused_and_changes_nothing(shard):
    ledger = run([SweepDeclared(declaration())])
    for event in (result(shard), refusal(shard)):
        with pytest.raises(ShotbusError, match="SB-1108"):
            ledger.feed(event)
    assert ledger.fold.touched() == []


def test_one_row_a_shard_is_written_and_the_declaration_only_once():
    fold = Fold(4, KEEP_MS)
    fold.handle(SweepDeclared(declaration()), now())
    assert fold.touched() == [b"s1"]
    fold.handle(result(3), now())
    assert fold.touched() == [b"s1/3"]


def test_results_of_unknown_sweeps_and_of_other_tenants_are_ignored_and_counted():
    ledger = run([result(0), SweepDeclared(declaration()), result(0, tenant="eve")])
    assert (ledger.fold.stats["unknown"], ledger.fold.stats["foreign"]) == (1, 1)
    assert ledger.fold.stats["counted"] == 0


def test_another_tenant_can_neither_seal_nor_cancel():
    ledger = run(
        [SweepDeclared(declaration()), SweepCancelled("s1", "eve", 0), SweepSealed("s1", "eve", 0, 0)]
    )
    assert ledger.finals == []


def test_a_result_replaces_a_refusal_in_either_order():
    first = run([SweepDeclared(declaration()), refusal(1), *map(result, range(SHARDS))])
    second = run(
        [SweepDeclared(declaration()), *map(result, range(3)), refusal(1), *map(result, range(3, SHARDS))]
    )
    assert first.finals == second.finals
    assert first.finals[0][1]["failed"] == 0


def test_a_refusal_counts_as_failed_unless_it_says_to_come_again():
    ledger = run([SweepDeclared(declaration()), *map(result, range(1, SHARDS)), refusal(0, 100)])
    assert ledger.finals == []
    ledger.feed(refusal(0))
    assert ledger.finals[0][1]["failed_shards"] == [0]


def test_an_implausible_result_counts_as_failed_so_that_the_sweep_ends():
    ledger = run([SweepDeclared(declaration(shards=2)), result(0, payload=b"?"), result(1)])
    ((_, fields),) = ledger.finals
    assert fields["failed_shards"] == [0]
    assert unpack(fields["payload"])[1]["outcomes"] == {"succeeded": 1, "implausible": 1}


def test_min_success_ends_a_sweep_early_and_late_shards_are_ignored():
    ledger = run([SweepDeclared(declaration(min_success="2")), *map(result, range(4))])
    ((_, fields),) = ledger.finals
    assert fields["done"] == 2
    assert ledger.fold.stats["late"] == 2


def test_sealing_lowers_the_number_of_shards_waited_for():
    ledger = run([SweepDeclared(declaration()), *map(result, range(3))])
    ledger.restart()
    ledger.feed(SweepSealed("s1", "ada", 4, START_US))
    ledger.restart()
    assert ledger.finals == []
    ledger.feed(result(3))
    assert (ledger.finals[0][1]["shards"], ledger.finals[0][1]["done"]) == (4, 4)


def test_partials_come_at_most_every_half_second_and_only_after_a_change():
    ledger = run([SweepDeclared(declaration())])
    assert ledger.fold.wake_at(now(0.0)) is None
    ledger.feed(result(0), now(10.0)).feed(result(1), now(10.2)).feed(Tick(), now(10.3))
    assert ledger.partials == []
    assert ledger.fold.wake_at(now(10.3)) == pytest.approx(0.2, abs=0.01)
    ledger.feed(Tick(), now(10.6)).feed(Tick(), now(99.0))
    ((_, fields),) = ledger.partials
    assert (fields["done"], fields["final"]) == (2, False)


def test_a_declaration_that_cannot_be_folded_ends_at_once_with_its_reasons():
    ledger = run([SweepDeclared(declaration("minimun")), result(0)])
    ((_, fields),) = ledger.finals
    assert unpack(fields["payload"])[1]["problems"][0]["code"] == "SB-1108"
    assert ledger.fold.stats["late"] == 1


def test_the_marker_of_a_finished_sweep_expires():
    ledger = straight("collect")
    later = START_US // 1000 + KEEP_MS
    ledger.feed(Tick(), now(100.0, later - 1))
    assert list(ledger.rows) == [b"s1"]
    ledger.feed(Tick(), now(200.0, later))
    assert ledger.rows == {}


def test_a_sweep_without_news_ends_with_what_it_has():
    ledger = run([SweepDeclared(declaration()), result(2)])
    ledger.feed(Tick(), now(100.0, START_US // 1000 + KEEP_MS + 1))
    assert ledger.finals[0][1]["done"] == 1


def record(topic, value, sweep="s1"):
    return Record(topic, 0, 0, None, value, (("sweep-id", sweep.encode()),), 0)


async def test_the_edge_decodes_commands_results_and_refusals_and_skips_the_rest():
    topics = Topics(partitions=2)
    edge = FoldEdge(topics, 0)
    sweeps, results = topics.name("sweeps"), topics.name("results")
    declare = edge.decode(record(sweeps, encode("sweep_command", declaration())))
    sealed = edge.decode(record(sweeps, encode("sweep_command", {**declaration(), "command": "seal"})))
    assert (type(declare), type(sealed)) == (SweepDeclared, SweepSealed)
    assert edge.decode(record(results, encode("circuit_result", result(1).fields))).fields["shots"] == 101
    assert isinstance(edge.decode(record(results, encode("refusal", refusal(1).fields))), ShardRefused)
    located = {
        "job_id": "j",
        "correlation": "",
        "status": "",
        "sub_status": "",
        "outcome": "",
        "finished_ms": 0,
    }
    assert edge.decode(record(results, encode("located", {**located, "at_us": 0}))) is None
    assert edge.decode(record(results, b"not even Avro", sweep="")) is None
    with pytest.raises(ShotbusError, match="SB-1001"):
        edge.decode(record(results, b"not even Avro"))


def test_the_edge_refuses_shards_out_of_range_and_ids_that_cannot_be_before_the_machine_sees_them():
    edge = FoldEdge(Topics(partitions=2), 0)
    edge.machine.handle(SweepDeclared(declaration()), now())
    with pytest.raises(ShotbusError, match="SB-1108"):
        edge.decode(record("shotbus.results", encode("circuit_result", result(SHARDS).fields)))
    with pytest.raises(ShotbusError, match="SB-1108"):
        edge.decode(record("shotbus.sweeps", encode("sweep_command", {**declaration(), "sweep_id": "a/1"})))


def test_the_edge_wants_declarations_read_to_their_end_for_a_result_of_an_unknown_sweep():
    edge = FoldEdge(Topics(partitions=2), 0)
    assert edge.must_catch_up([result(0)])
    assert not edge.must_catch_up([SweepDeclared(declaration()), result(0)])
    edge.machine.handle(SweepDeclared(declaration()), now())
    assert not edge.must_catch_up([result(0), refusal(1)])


async def test_the_edge_encodes_reductions_for_the_sweeps_partition():
    edge = FoldEdge(Topics(partitions=2), 0)
    edge.machine.handle(SweepDeclared(declaration(shards=1)), now())
    (outgoing,) = await edge.materialise(edge.machine.handle(result(0), now()))
    assert (outgoing.topic, outgoing.key) == ("shotbus.reductions", b"s1")
    assert dict(outgoing.headers) == {"sweep-id": b"s1", "final": b"1"}


@pytest.mark.parametrize("restarts", [frozenset(), frozenset(range(SHARDS + 1))])
def test_a_sweep_of_two_versions_says_so_and_how_many_shards_each_has(restarts):
    events = [result(shard) for shard in range(SHARDS)]
    ledger = run([SweepDeclared(declaration()), *events], restarts)
    told = unpack(ledger.finals[0][1]["payload"])[1]["versions"]
    assert told == [
        {"versions": {"python": "3", "sdk": "0"}, "shards": 2},
        {"versions": {"python": "3", "sdk": "1"}, "shards": 3},
    ]
    assert ledger.finals[0][1]["executed_on"] == {"sim-0": 3, "sim-1": 3}
