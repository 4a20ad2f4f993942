"""What routing looks at now, for whoever asks what a decision would be. Asks a shard, starts nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from shotbus.broker.bus.base import BusError
from shotbus.broker.config import Config
from shotbus.broker.connect import Address, open_bus, parse_url, topics_for
from shotbus.broker.policy.facts import PoolView
from shotbus.broker.policy.inforce import InForce, in_force
from shotbus.broker.store.base import StoreError
from shotbus.broker.urls import public_url
from shotbus.cli.common import Options, log_to_stderr, run_async
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import job_id

T = TypeVar("T")
_LOOK_SECONDS = 3.0
_ANSWER_SECONDS = 5.0
_SILENT_SECONDS = 5.0
Advert = Mapping[str, Any]


class Source(NamedTuple):
    """What a request is decided with, in words where that comes from, and whether a broker was asked."""

    force: InForce
    words: str
    live: bool


class About(NamedTuple):
    """Of which request is asked: its session or unique key has a shard of its own, its family histories."""

    tenant: str
    session: str
    family: str
    unique_key: str = ""


def source_of(options: Options, about: About, *, offline: bool) -> Source:
    """Return what the broker would decide a request with; without one that runs, what the file says."""
    if offline:
        return _from_file(options, "as asked")
    answer, silent = asked_live(options, lambda: _ask(options, about))
    if answer is None:
        return _from_file(options, silent)
    force, shard = answer
    where = public_url(options.url)
    return Source(force, f"from {where}, what shard {shard} decides with now", live=True)


def asked_live(options: Options, question: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T | None, str]:
    """Return what a broker that runs answers, or why none could be asked; nothing is started for it."""
    address = parse_url(options.url)
    if address.untouched:
        return None, f"nothing runs in {address.directory}"
    log_to_stderr()
    where = public_url(options.url)
    try:
        if run_async(_has_dispatcher(address, options.config)):
            return run_async(question()), ""
    except (BusError, StoreError, ShotbusError, TimeoutError, OSError) as error:
        return None, f"{where} cannot be asked: {error or 'no answer'}"
    return None, f"no dispatcher runs on {where}"


def named(options: Options) -> str:
    """Return what the local configuration comes from, in words."""
    file = options.file or Path("shotbus.toml")
    return str(file) if file.exists() else "the defaults"


def _from_file(options: Options, why: str) -> Source:
    idle = dict.fromkeys(options.config.pools, PoolView(wait=(0.0, 0.0, 0.0)))
    words = f"from {named(options)}; no broker was asked ({why}): every pool is taken to be ready and idle"
    return Source(InForce(options.config, idle, {}, {}), words, live=False)


async def _has_dispatcher(address: Address, config: Config) -> bool:
    """Tell whether a dispatcher has advertised itself a moment ago."""
    import asyncio

    from shotbus.broker.pools import PoolsTail

    heard: dict[bytes, float] = {}

    def learn(key: bytes, fields: Advert | None, at: float) -> None:
        heard.pop(key, None)
        if fields is not None and fields["role"] == "dispatcher":
            heard[key] = at

    bus = open_bus(address, config, client_id="shotbus-policy")
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await bus.start()
            await PoolsTail(bus, topics_for(address, config), learn).catch_up()
    finally:
        await bus.close()
    now = time.monotonic()
    return any(now - at < _SILENT_SECONDS for at in heard.values())


async def _ask(options: Options, about: About) -> tuple[InForce, int]:
    """Ask the shard that the request would go to; without a session or a key any one would do."""
    from shotbus.cli.jobs import connect
    from shotbus.producers.asking import Wish, ask
    from shotbus.schemas.ids import partition_of

    arguments = {"session": about.session, "family": about.family, "unique_key": about.unique_key}
    wish = Wish("locate", "policy", "policy", about.tenant, "", arguments)
    async with connect(options) as client:
        shard = 0
        if about.session or about.unique_key:
            key = {"session": about.session, "unique_key": about.unique_key}
            name = job_id(about.tenant, **key, entropy=bytes(12))
            shard = partition_of(name, client.session.topics.partitions)
        ((answer,),) = await ask(client.session, [wish], [shard], timeout=_ANSWER_SECONDS)
    if not answer["told"]:
        # A dispatcher of an earlier version takes the question for one about a sweep.
        raise TimeoutError("its dispatcher does not know the question")
    return in_force(answer["told"]), shard
