"""One suite for every store: memory, SQLite and a real Redis."""

import asyncio
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

import pytest

from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.store.redis import RedisSettings, RedisStore
from shotbus.broker.store.sqlite import SqliteStore

KINDS = ("memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis))


class Clock:
    """Time that the test moves; a real Redis has its own, so there the test waits instead."""

    def __init__(self, real: bool):
        self.real = real
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    async def pass_until(self, seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
        """Let at least ``seconds`` pass, then wait for the condition."""
        self.now += seconds
        deadline = time.monotonic() + seconds + 5
        while not await condition():
            assert self.real, "the injected clock has moved, yet it did not happen"
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.005)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def clock(kind):
    return Clock(real=kind == "redis")


@pytest.fixture
async def store(kind, clock, request, tmp_path):
    made: Store
    if kind == "memory":
        made = MemoryStore(clock)
    elif kind == "sqlite":
        made = SqliteStore(tmp_path / "sub" / "store.db", clock=clock)
    else:
        prefix = f"t-{uuid.uuid4().hex}"
        # Patient: here a loaded machine must not look like a dead Redis.
        made = RedisStore(RedisSettings(request.getfixturevalue("redis_url"), prefix, command_timeout=15))
    await made.start()
    yield made
    await made.clear()
    await made.close()


async def test_values_come_back_in_the_order_of_the_keys(store):
    await store.put_many({"job:1": b"one", "job:2": b"two"})
    assert await store.get_many(["job:2", "missing", "job:1", "job:2"]) == [b"two", None, b"one", b"two"]


async def test_a_later_value_replaces_an_earlier_one(store):
    await store.put_many({"a": b"1"})
    await store.put_many({"a": b"2"})
    assert await store.get_many(["a"]) == [b"2"]


async def test_calls_with_nothing_in_them_do_nothing(store):
    await store.put_many({})
    await store.delete_many([])
    await store.index_add("i", {}, keep=3)
    assert await store.get_many([]) == []
    assert await store.index_range("i", offset=0, limit=10) == []


async def test_values_are_arbitrary_bytes(store):
    values = {"empty": b"", "zeros": b"\0\0", "all": bytes(range(256)), "big": os.urandom(3_000_000)}
    await store.put_many(values)
    assert await store.get_many(list(values)) == list(values.values())


async def test_a_store_keeps_what_was_put_not_the_callers_buffer(store):
    buffer = bytearray(b"before")
    await store.put_many({"a": buffer})
    buffer[:] = b"after!"
    assert await store.get_many(["a"]) == [b"before"]


async def test_items_disappear_after_their_ttl_and_others_stay(store, clock):
    await store.put_many({"short": b"1"}, ttl=0.15)
    await store.put_many({"long": b"2"}, ttl=60)
    await store.put_many({"ever": b"3"})
    assert await store.get_many(["short", "long", "ever"]) == [b"1", b"2", b"3"]

    async def gone():
        return await store.get_many(["short"]) == [None]

    await clock.pass_until(0.15, gone)
    assert await store.get_many(["short", "long", "ever"]) == [None, b"2", b"3"]


async def test_putting_again_replaces_the_ttl_as_well(store, clock):
    await store.put_many({"a": b"1", "b": b"1", "witness": b"1"}, ttl=0.15)
    await store.put_many({"a": b"2"})
    await store.put_many({"b": b"2"}, ttl=60)

    async def gone():
        return await store.get_many(["witness"]) == [None]

    await clock.pass_until(0.15, gone)
    assert await store.get_many(["a", "b"]) == [b"2", b"2"]


@pytest.mark.parametrize("ttl", [0, -5.0])
async def test_a_ttl_that_has_already_run_out_removes_the_item(store, ttl):
    await store.put_many({"a": b"old"})
    await store.put_many({"a": b"new"}, ttl=ttl)
    assert await store.get_many(["a"]) == [None]


@pytest.mark.parametrize("ttl", [math.inf, 1e300, 1e12])
async def test_an_enormous_ttl_keeps_the_item(store, ttl):
    await store.put_many({"a": b"1"}, ttl=ttl)
    assert await store.get_many(["a"]) == [b"1"]


async def test_a_tiny_ttl_is_not_refused(store, clock):
    await store.put_many({"a": b"1"}, ttl=0.0002)

    async def gone():
        return await store.get_many(["a"]) == [None]

    await clock.pass_until(0.001, gone)


async def test_deleting_removes_only_the_named_keys(store):
    await store.put_many({"a": b"1", "b": b"2", "c": b"3"})
    await store.delete_many(["a", "c", "never there"])
    assert await store.get_many(["a", "b", "c"]) == [None, b"2", None]


async def test_an_index_lists_the_highest_score_first(store):
    await store.index_add("jobs", {"low": -1.5, "high": 9.25, "middle": 3.0}, keep=10)
    assert await store.index_range("jobs", offset=0, limit=10) == [
        ("high", 9.25),
        ("middle", 3.0),
        ("low", -1.5),
    ]


async def test_ties_are_ordered_by_member_descending_in_every_store(store):
    await store.index_add("jobs", dict.fromkeys(["b", "a", "c", "B", "a1"], 1.0), keep=10)
    members = [member for member, _ in await store.index_range("jobs", offset=0, limit=10)]
    assert members == ["c", "b", "a1", "a", "B"]


async def test_adding_a_member_again_moves_it(store):
    await store.index_add("jobs", {"a": 1.0, "b": 2.0}, keep=10)
    await store.index_add("jobs", {"a": 3.0}, keep=10)
    assert await store.index_range("jobs", offset=0, limit=10) == [("a", 3.0), ("b", 2.0)]


async def test_an_index_keeps_only_the_highest(store):
    for number in range(10):
        await store.index_add("jobs", {f"j{number}": float(number)}, keep=3)
    await store.index_add("jobs", {"too low": 0.5}, keep=3)
    assert await store.index_range("jobs", offset=0, limit=10) == [("j9", 9.0), ("j8", 8.0), ("j7", 7.0)]


async def test_among_ties_the_index_keeps_those_that_it_lists_first(store):
    await store.index_add("jobs", dict.fromkeys("abcde", 1.0), keep=2)
    assert await store.index_range("jobs", offset=0, limit=10) == [("e", 1.0), ("d", 1.0)]


async def test_keeping_none_empties_the_index(store):
    await store.index_add("jobs", {"a": 1.0}, keep=5)
    await store.index_add("jobs", {"b": 2.0}, keep=0)
    assert await store.index_range("jobs", offset=0, limit=10) == []


async def test_an_index_is_read_in_pages(store):
    await store.index_add("jobs", {f"j{number:03}": float(number) for number in range(100)}, keep=100)
    first = await store.index_range("jobs", offset=0, limit=7)
    second = await store.index_range("jobs", offset=7, limit=7)
    assert [member for member, _ in first + second] == [f"j{number:03}" for number in range(99, 85, -1)]
    assert await store.index_range("jobs", offset=98, limit=7) == [("j001", 1.0), ("j000", 0.0)]
    assert await store.index_range("jobs", offset=100, limit=7) == []
    assert await store.index_range("jobs", offset=0, limit=0) == []


async def test_scores_keep_their_precision_and_may_be_infinite(store):
    scores = {"inf": math.inf, "time": 1_763_000_000_123.456, "third": 1 / 3, "minus": -math.inf}
    await store.index_add("jobs", scores, keep=10)
    assert dict(await store.index_range("jobs", offset=0, limit=10)) == scores


async def test_a_value_and_an_index_may_have_the_same_name(store):
    await store.put_many({"x": b"value"})
    await store.index_add("x", {"member": 1.0}, keep=5)
    assert await store.get_many(["x"]) == [b"value"]
    assert await store.index_range("x", offset=0, limit=5) == [("member", 1.0)]


async def test_impossible_arguments_are_the_callers_error(store):
    with pytest.raises(ValueError, match="NaN"):
        await store.put_many({"a": b"1"}, ttl=math.nan)
    with pytest.raises(ValueError, match="NaN"):
        await store.index_add("i", {"a": math.nan}, keep=3)
    with pytest.raises(ValueError, match="keep"):
        await store.index_add("i", {"a": 1.0}, keep=-1)
    with pytest.raises(ValueError, match="offset"):
        await store.index_range("i", offset=-1, limit=3)


async def test_clear_leaves_nothing_and_the_store_works_on(store):
    await store.put_many({f"k:{number}": b"v" for number in range(3000)}, ttl=60)
    await store.index_add("i", {"a": 1.0}, keep=3)
    await store.clear()
    assert await store.get_many(["k:0", "k:2999"]) == [None, None]
    assert await store.index_range("i", offset=0, limit=3) == []
    await store.put_many({"k:0": b"again"})
    assert await store.get_many(["k:0"]) == [b"again"]


async def test_ten_thousand_keys_go_in_one_call(store):
    items = {f"circuit:{number}": b"%d" % number for number in range(10_000)}
    await store.put_many(items, ttl=60)
    assert await store.get_many(list(items)) == list(items.values())
    await store.delete_many(list(items)[:9_999])
    assert await store.get_many(list(items)) == [None] * 9_999 + [b"9999"]
    await store.index_add("all", {key: float(number) for number, key in enumerate(items)}, keep=9_000)
    assert len(await store.index_range("all", offset=0, limit=20_000)) == 9_000


async def test_concurrent_callers_do_not_mix_up_their_answers(store):
    async def one(number):
        key = f"k:{number % 50}:{number}"
        await store.put_many({key: b"%d" % number}, ttl=60)
        await store.index_add("i", {key: float(number)}, keep=20)
        return await store.get_many([key, "missing"]) == [b"%d" % number, None]

    assert all(await asyncio.gather(*[one(number) for number in range(300)]))
    top = [score for _, score in await store.index_range("i", offset=0, limit=100)]
    assert top == [float(number) for number in range(299, 279, -1)]


async def test_a_cancelled_call_does_not_disturb_the_next_ones(store):
    await store.put_many({f"k:{number}": b"%d" % number for number in range(500)})
    for number in range(60):
        task = asyncio.create_task(store.get_many([f"k:{other}" for other in range(500)]))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        assert await store.get_many([f"k:{number}"]) == [b"%d" % number]
        await asyncio.gather(task, return_exceptions=True)


async def test_a_store_that_is_not_started_or_closed_says_so_and_can_be_started_again(store):
    await store.put_many({"a": b"1"})
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="not started"):
        await store.get_many(["a"])
    with pytest.raises(StoreError, match="not started"):
        await store.put_many({"a": b"1"})
    await store.start()
    await store.start()
    assert await store.get_many(["a"]) == [b"1"]


_OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from shotbus.broker.store.redis import RedisSettings, RedisStore
from shotbus.broker.store.sqlite import SqliteStore

async def main(kind, place, prefix):
    store = SqliteStore(Path(place)) if kind == "sqlite" else RedisStore(RedisSettings(place, prefix))
    await store.start()
    value, = await store.get_many(["question"])
    for number in range(50):
        await store.put_many({f"answer:{number}": value[::-1]}, ttl=60)
        await store.index_add("answers", {f"answer:{number}": float(number)}, keep=10)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
async def test_other_processes_see_the_same_store(store, kind, request, tmp_path):
    await store.put_many({"question": b"\0abc"})
    place = tmp_path / "sub" / "store.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    prefix = "-" if kind == "sqlite" else store._settings.prefix
    command = [sys.executable, "-c", _OTHER_PROCESS, kind, str(place), prefix]
    others = [subprocess.Popen(command) for _ in range(2)]
    for number in range(50):
        await store.put_many({f"own:{number}": b"own"})
    codes = await asyncio.gather(*[asyncio.to_thread(other.wait, 60) for other in others])
    assert codes == [0, 0]
    assert await store.get_many([f"answer:{number}" for number in range(50)]) == [b"cba\0"] * 50
    assert await store.get_many([f"own:{number}" for number in range(50)]) == [b"own"] * 50
    assert len(await store.index_range("answers", offset=0, limit=100)) == 10
