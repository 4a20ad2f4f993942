"""The arithmetic of consumer groups: balanced, sticky, and reached without two owners at any time."""

from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus.groups import GroupView, balance


@st.composite
def views(draw):
    partitions = draw(st.integers(0, 12))
    members = tuple(sorted(draw(st.sets(st.integers(1, 20), max_size=6))))
    strangers = st.sampled_from([*members, 99])
    owners = draw(st.dictionaries(st.integers(0, 14), strangers, max_size=12))
    return GroupView(partitions, members, owners)


@given(views())
def test_every_partition_has_one_member_and_shares_differ_by_one(view):
    shares = balance(view)
    assert tuple(shares) == view.members
    if view.members:
        assert sorted(p for share in shares.values() for p in share) == list(range(view.partitions))
        sizes = [len(share) for share in shares.values()]
        assert max(sizes) - min(sizes) <= 1


@given(views())
def test_nobody_loses_more_than_the_balance_demands(view):
    for member, share in balance(view).items():
        held = {p for p, owner in view.owners.items() if owner == member and p < view.partitions}
        assert len(held & share) == min(len(held), len(share))


@given(views(), st.randoms(use_true_random=False))
def test_any_order_of_steps_leads_to_the_target_without_a_second_owner(view, chance):
    owners = {p: owner for p, owner in view.owners.items() if owner in view.members}
    for _ in range(8):
        for member in chance.sample(view.members, len(view.members)):
            share = balance(view._replace(owners=owners))[member]
            owners = {p: owner for p, owner in owners.items() if owner != member or p in share}
            owners |= {p: member for p in share if p not in owners}
    settled = balance(view._replace(owners=owners))
    assert {p: member for member, share in settled.items() for p in share} == owners


def test_a_joining_member_takes_one_partition_of_each_and_no_more():
    before = {0: 1, 1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
    shares = balance(GroupView(6, (1, 2, 3), before))
    assert shares == {1: frozenset({0, 1}), 2: frozenset({3, 4}), 3: frozenset({2, 5})}
