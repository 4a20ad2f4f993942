"""The audit chain: whatever is done to its entries shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.audit import AuditChain, Head, entry, verify
from shotbus.broker.machine import Now
from shotbus.schemas.codec import decode, encode

NOW = Now(1_900_000_000_000, 0.0)


def written(chain, *actions):
    """Entries as a reader of the topic has them."""
    commands = [
        chain.add(action, "pool aer", NOW, principal="ada", before=1, after={"b": 2}) for action in actions
    ]
    return [decode(encode(command.schema, command.fields))[1] for command in commands]


@pytest.fixture
def entries():
    return written(AuditChain("dispatcher-0", 0), "pause", "resume", "drain", "redrive")


def test_an_intact_chain_has_no_problems(entries):
    assert verify(entries) == []
    assert verify([]) == []


def test_an_entry_says_who_did_what_to_what_when_and_why(entries):
    told = entries[0]
    assert (told["chain"], told["number"], told["principal"], told["action"]) == (
        "dispatcher-0",
        1,
        "ada",
        "pause",
    )
    assert (told["target"], told["before"], told["after"]) == ("pool aer", "1", '{"b": 2}')
    assert told["at_us"] == NOW.wall_ms * 1_000


@pytest.mark.parametrize(
    "field", ["number", "at_us", "principal", "action", "target", "reason", "before", "after"]
)
def test_a_changed_field_shows(entries, field):
    old = entries[1][field]
    entries[1][field] = old + (1 if isinstance(old, int) else "x")
    assert any("was changed" in problem for problem in verify(entries))


def test_a_changed_entry_with_a_new_hash_shows_in_the_next(entries):
    fields = {**entries[1], "principal": "eve"}
    forged, _ = entry(fields["previous"], fields)
    assert verify([entries[0], forged, *entries[2:]]) == ["dispatcher-0 entry 3: does not follow entry 2"]


def test_text_moved_from_one_field_into_the_next_shows(entries):
    entries[1]["target"], entries[1]["action"] = entries[1]["action"] + "pool", "aer"
    assert verify(entries)


@pytest.mark.parametrize("order", [(0, 2, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3)])
def test_an_entry_left_out_moved_or_repeated_shows(entries, order):
    assert verify([entries[n] for n in order])


def test_what_retention_deleted_in_front_is_not_missed_but_a_forged_beginning_is(entries):
    assert verify(entries[2:]) == []
    forged, _ = entry(bytes(32), {**entries[2], "previous": b""})
    assert verify([forged]) == ["dispatcher-0 entry 3: does not follow entry 0"]


def test_a_chain_cut_off_at_its_end_is_missed_by_who_kept_its_head(entries):
    heads = {"dispatcher-0": Head(4, entries[3]["hash"])}
    assert verify(entries, heads) == []
    assert verify(entries[:3], heads) == ["dispatcher-0 entry 4: is missing"]


def test_chains_share_a_partition_without_mixing():
    first, second = AuditChain("dispatcher-0", 0), AuditChain("treasury-0", 0)
    mixed = [*written(first, "a"), *written(second, "b"), *written(first, "c"), *written(second, "d")]
    assert verify(mixed) == []


@given(st.lists(st.sampled_from(["go on", "restore"]), max_size=8))
def test_a_restored_chain_goes_on_where_it_was(steps):
    chain, found = AuditChain("treasury-1", 1), []
    assert chain.snapshot() is None
    for step in steps:
        if step == "restore" and chain.snapshot():
            row, chain = chain.snapshot(), AuditChain("treasury-1", 1)
            chain.restore(row)
        found += written(chain, "x")
    assert verify(found) == []
    assert chain.head.number == len(found)
