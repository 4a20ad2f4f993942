"""A limit over all shards: never passed at any interleaving, and whoever waits gets a place."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from places_kit import Shards

TENANTS, POOLS = ("ada", "bob"), ("aer", "qpu")
LIMITS = st.fixed_dictionaries(
    {"backend:qpu": st.integers(1, 5)},
    optional={"tenant": st.integers(1, 9), "tenant:ada": st.integers(1, 3), "backend": st.integers(1, 20)},
)


def play(shards, random, steps):
    """Anything at any time: jobs come and end, shards are slow, die, and are taken by others."""
    for _ in range(steps):
        node = random.choice(shards.nodes)
        what = random.choices(
            ("step", "come", "end", "crash", "lost", "late", "again"), (12, 4, 6, 1, 1, 2, 1)
        )[0]
        if what == "come":
            node.wait(random.choice(TENANTS), random.choice(POOLS), random.randrange(1, 6))
        elif what == "end" and node.with_workers:
            node.end(random.randrange(len(node.with_workers)))
        elif what == "crash":
            node.begin_again()
        elif what == "again":
            node.position = random.randrange(node.position + 1)
        elif what == "late":
            node.seen += random.choice((0.3, 3.0, 40.0))
        else:
            shards.step(node.number, random.randrange(4), commit=what != "lost")
        shards.check()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), LIMITS, st.integers(0, 1_000_000))
def test_no_limit_is_passed_and_no_place_lost_at_any_interleaving(count, limits, seed):
    play(Shards(count, limits), Random(seed), 150)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), LIMITS, st.integers(0, 1_000_000))
def test_all_that_waits_has_gone_in_the_end_and_no_row_is_left(count, limits, seed):
    shards = Shards(count, limits)
    play(shards, Random(seed), 100)
    for _ in range(2_000):
        shards.settle(1)
        for node in shards.nodes:
            node.seen += 0.02
            if node.with_workers:
                node.end()
        if not any(sum(node.waiting.values()) or node.with_workers for node in shards.nodes):
            break
    assert not any(sum(node.waiting.values()) for node in shards.nodes)
    shards.rest()
    assert [node.lasting for node in shards.nodes] == [{}] * count


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 1_000))
def test_whoever_waits_gets_one_of_the_next_places(count, most, seed):
    """While all shards have work without end, each is served before as many others as there are were, twice."""
    shards, random = Shards(count, {"backend:qpu": most}), Random(seed)
    for node in shards.nodes:
        node.wait("ada", "qpu", 10_000)
    shards.settle()
    for _ in range(3):
        begun = [node.waiting["ada", "qpu"] for node in shards.nodes]
        for _ in range(2 * -(-count // most)):
            ends = [node for node in shards.nodes for _ in node.with_workers]
            for node in random.sample(ends, len(ends)):
                node.end()
                shards.step(node.number)
            for node in random.sample(shards.nodes, count) * 4:
                shards.step(node.number)
        left = [node.waiting["ada", "qpu"] for node in shards.nodes]
        assert all(after < before for before, after in zip(begun, left, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.data())
def test_all_places_are_used_where_the_work_is(count, most, data):
    shards = Shards(count, {"tenant": most})
    place = data.draw(st.integers(0, count - 1))
    shards.nodes[place].wait("ada", "qpu", 50)
    shards.settle()
    assert shards.running() == most
    other = data.draw(st.integers(0, count - 1))
    shards.nodes[other].wait("bob", "qpu", 50)
    shards.settle()
    assert shards.running(tenant="bob") == most
