"""Topics as declared: names, partitions, clean-up."""

import pytest

from shotbus.broker.topics import CLASSES, Topics


@pytest.fixture
def specs():
    return {
        spec.name: spec for spec in Topics(prefix="p.", partitions=3, work_partitions=5).specs(["b", "a"])
    }


def test_every_topic_has_the_prefix_and_is_declared_once(specs):
    assert all(name.startswith("p.") for name in specs)
    assert len(specs) == len(list(Topics().specs(["b", "a"])))


def test_there_is_a_topic_a_class_and_a_pool(specs):
    assert {f"p.requests.{name}" for name in CLASSES} <= set(specs)
    assert {"p.work.a", "p.work.b"} <= set(specs)


def test_what_a_shard_owns_has_one_partition_a_shard(specs):
    owned = [
        "jobs",
        "events",
        "results",
        "control",
        "outcomes",
        "dead-letters",
        "treasury",
        "grants",
        "treasury-ledger",
        "audit",
        *(f"requests.{c}" for c in CLASSES),
    ]
    assert {specs[f"p.{name}"].partitions for name in owned} == {3}
    assert specs["p.work.a"].partitions == 5
    assert specs["p.pools"].partitions == 1


def test_what_a_live_job_may_reference_has_no_retention(specs):
    for name in (
        "control",
        "sweeps",
        "outcomes",
        "treasury",
        "grants",
        "work.a",
        *(f"requests.{c}" for c in CLASSES),
    ):
        assert (specs[f"p.{name}"].cleanup, specs[f"p.{name}"].retention_ms) == ("trim", None)


def test_ledgers_are_compacted_and_never_deleted(specs):
    for name in ("jobs", "folds", "treasury-ledger"):
        assert (specs[f"p.{name}"].cleanup, specs[f"p.{name}"].retention_ms) == ("compact", None)


def test_a_dead_letter_has_room_for_the_largest_record_with_its_headers(specs):
    largest = max(
        spec.max_record_bytes for name, spec in specs.items() if "requests" in name or "outcomes" in name
    )
    assert specs["p.dead-letters"].max_record_bytes >= largest + 65_536
