"""What a dispatcher asks the store for: only what can answer, in one call, and nothing when the store is dead."""

from dataclasses import replace

import pytest
from dispatcher_kit import START_MS, config, job_id, request, request_bytes, submitted
from reuse_kit import AT_US, record, sampled

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.dispatcher.keys import Targets, cache_key, history_key, placed_key
from shotbus.broker.dispatcher.lookups import Lookups, recalls_of
from shotbus.broker.dispatcher.messages import Forward, ForwardedItem, Recall
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step
from shotbus.broker.store.base import StoreError
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics

TARGETS = Targets(config(), lambda pool: "monday" if pool == "noop" else "")
PLAIN = request(1)


class Store(MemoryStore):
    """Counts its calls; may be dead."""

    calls, dead = 0, False

    async def get_many(self, keys):
        self.calls += 1
        if self.dead:
            raise StoreError("dead")
        return await super().get_many(keys)


@pytest.fixture
async def store():
    made = Store()
    await made.start()
    return made


def lookups(store, *, always=False):
    return Lookups(store, Metrics(role="test", version="0"), TARGETS, lambda: always)


async def attached(store, fields, *, always=False, **event):
    (told,) = await lookups(store, always=always).attach([submitted(fields, **event)])
    return told


async def test_a_request_that_nothing_can_answer_costs_no_call_and_has_no_keys(store):
    told = await attached(store, PLAIN)
    assert (store.calls, told.cache_key, told.history_key) == (0, "", "")


@pytest.mark.parametrize(
    "changes",
    [{"top_up": True}, {"tolerance": 0.1, "mode": "estimate"}, {"fallback": ["noop", "cache:9"]}],
    ids=str,
)
async def test_whoever_may_ask_for_earlier_results_has_a_history(store, changes):
    fields = request(1, **changes)
    told = await attached(store, fields)
    assert told.history_key == placed_key(fields, TARGETS.of("aer"))
    # What only a failure needs is not looked for before one.
    assert store.calls == ("fallback" not in changes)


async def test_the_policy_and_the_configuration_give_histories_too(store):
    event = submitted(PLAIN)
    chain = Decision("r", "v", "aer", fallback=(Step("cache", seconds=5.0),))
    told = await lookups(store).attach([replace(event, decision=chain)])
    assert told[0].history_key
    assert (await attached(store, PLAIN, always=True)).history_key
    assert store.calls == 0


async def test_everything_that_is_stored_is_fetched_in_one_call(store):
    seeded, topping = request(1, seed=3), request(2, top_up=True)
    names = {
        f"cache:{cache_key(seeded, TARGETS.of('noop'))}": record("a"),
        f"history:{placed_key(topping, TARGETS.of('aer'))}": record("b"),
    }
    await store.put_many(names)
    events = [submitted(seeded, pool="noop"), submitted(topping), submitted(request(3))]
    first, second, third = await lookups(store).attach(events)
    assert (first.cached["job_id"], first.calibration, second.earlier["job_id"]) == ("a", "monday", "b")
    assert third is events[2]
    assert store.calls == 1


async def test_a_cached_result_that_is_too_old_or_unreadable_is_none(store):
    fields = request(1, seed=3, max_result_age_ms=START_MS - AT_US // 1000 + 1)
    key = f"cache:{cache_key(fields, TARGETS.of('aer'))}"
    await store.put_many({key: record("a")})
    assert (await attached(store, fields)).cached["job_id"] == "a"
    await store.put_many({key: record("a", finished_us=AT_US - 2_000)})
    assert (await attached(store, fields)).cached is None
    await store.put_many({key: b"junk"})
    assert (await attached(store, fields)).cached is None


def forward(*numbers):
    place = Reference("requests", 0, 0)
    items = [ForwardedItem(job_id(n), 1, 7, "", place, top_up=job_id(900 + n), shots=5) for n in numbers]
    return Forward("b", "aer", 0, 0, 0, 0, tuple(items))


async def test_what_counts_travels_with_the_bundle_as_far_as_it_has_room(store):
    small, large = record("a", payload=sampled({0: 5})), record("b", provenance=b" " * 250_000)
    await store.put_many(
        {f"result:{job_id(900 + n)}": one for n, one in ((1, small), (2, large), (3, large))}
    )
    priors = await lookups(store).priors([forward(1, 2, 3, 4), forward(3)])
    assert priors == {job_id(1): small, job_id(2): large, job_id(3): large}
    assert job_id(3) not in await lookups(store).priors([forward(1, 2, 3, 4)])


async def test_with_a_dead_store_everything_runs(store):
    store.dead = True
    told = await attached(store, request(1, seed=3, top_up=False))
    assert (told.cached, bool(told.cache_key)) == (None, True)
    assert await lookups(store).priors([forward(1)]) == {}


def test_a_recall_asks_for_what_the_request_asks():
    place = Reference("requests", 0, 4)
    body = Record("requests", 0, 4, b"", request_bytes(1, seed=9), (), 0)
    names = recalls_of([Recall(job_id(1), place, 60.0), forward(1)], {place: body})
    assert names == {job_id(1): f"history:{history_key(PLAIN)}"}
