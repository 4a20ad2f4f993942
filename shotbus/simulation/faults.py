"""What can go wrong in a simulated world, as a table: each kind strikes, lasts and heals by itself. Pure.

A fault that touched nobody proves nothing: each kind counts its bites, and a thousand seeds in which one
never bit are a failed run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode
from shotbus.simulation.clients import Clients
from shotbus.simulation.cluster import SimulatedCluster
from shotbus.simulation.network import Impairment, Link
from shotbus.simulation.process import Host
from shotbus.simulation.provider import Provider
from shotbus.simulation.store import Mood, MoodyStore

_REPEATED = 20
_LOOKS, _LOOK_SECONDS = 100, 0.05


@dataclass(frozen=True, slots=True)
class Stage:
    """What faults can reach; ``victims`` are the hosts they strike, ``jump_seconds`` is for their clocks."""

    random: Random
    hosts: Mapping[str, Host]
    pools: Mapping[str, tuple[str, ...]]
    client_link: Link
    clients: Clients
    cluster: SimulatedCluster
    topics: Topics
    store: MoodyStore
    provider: Provider
    bites: Counter[str]
    tell: Callable[[str, str], None]
    jump_seconds: float
    victims: tuple[str, ...] = ()

    def pick(self) -> Host | None:
        """Return a host whose process serves, None when there is none."""
        names = self.victims or tuple(self.hosts)
        hosts = [self.hosts[name] for name in names]
        serving = [host for host in hosts if host.process and not host.busy]
        return self.random.choice(serving) if serving else None

    def seconds(self, most: float = 10.0) -> float:
        """Draw how long something lasts."""
        return self.random.uniform(0.5, most)


async def _end(stage: Stage, kind: str) -> None:
    host = stage.pick()
    if host is None:
        return
    stage.bites[kind] += 1
    stage.tell(host.name, kind)
    host.busy = True
    await (host.kill() if kind == "kill" else host.stop())
    await asyncio.sleep(stage.random.uniform(0, 5))
    host.busy = False
    await host.begin()


async def kill(stage: Stage) -> None:
    """Kill a process, which comes back."""
    await _end(stage, "kill")


async def stop(stage: Stage) -> None:
    """Stop a process gracefully; it comes back."""
    await _end(stage, "stop")


async def expire(stage: Stage) -> None:
    """Have the groups declare a process dead that lives."""
    host = stage.pick()
    if host is not None and host.process is not None:
        stage.bites["expire"] += 1
        stage.tell(host.name, "is declared dead although it lives")
        host.process.expire()


async def outage(stage: Stage) -> None:
    """Kill all workers of a pool; they come back after a while."""
    pool = stage.random.choice(sorted(stage.pools))
    hosts = [stage.hosts[name] for name in stage.pools[pool]]
    hosts = [host for host in hosts if host.process and not host.busy]
    seconds = stage.seconds()
    stage.tell(pool, f"is out for {seconds:.1f} s")
    for host in hosts:
        stage.bites["outage"] += 1
        host.busy = True
        await host.kill()
    await asyncio.sleep(seconds)
    for host in hosts:
        host.busy = False
        await host.begin()


async def _impair(stage: Stage, one: Impairment) -> None:
    """Impair a process's link, now and then the clients'."""
    seconds = stage.seconds()
    host = stage.pick()
    if host is None or (stage.random.random() < 0.15 and one.kind != "pause"):
        stage.tell("clients", f"{one.kind} for {seconds:.1f} s")
        stage.client_link.impair(one)
        await asyncio.sleep(seconds)
        stage.client_link.heal(one)
        return
    stage.tell(host.name, f"{one.kind} for {seconds:.1f} s")
    await host.impaired(one, seconds)


async def slow(stage: Stage) -> None:
    """Everything between a process and the bus takes up to a second longer."""
    await _impair(stage, Impairment("slow", delay=stage.random.uniform(0.05, 1.0)))


async def cut(stage: Stage) -> None:
    """Cut a process off: it and the bus hear nothing of each other."""
    await _impair(stage, Impairment("cut", there=False, back=False))


async def cut_there(stage: Stage) -> None:
    """Cut the way there: what a process says does not arrive."""
    await _impair(stage, Impairment("cut_there", there=False))


async def cut_back(stage: Stage) -> None:
    """Cut the way back: what a process says arrives, but it never learns that."""
    await _impair(stage, Impairment("cut_back", back=False))


async def pause(stage: Stage) -> None:
    """Freeze a process, perhaps for longer than its lease; then it goes on."""
    await _impair(stage, Impairment("pause", frozen=True))


async def flap(stage: Stage) -> None:
    """Let a link come and go."""
    host = stage.pick()
    if host is None:
        return
    stage.tell(host.name, "its link flaps")
    for _ in range(stage.random.randrange(3, 8)):
        await host.impaired(Impairment("flap", there=False), stage.random.uniform(0.1, 1.0))
        await asyncio.sleep(stage.random.uniform(0.1, 1.0))


async def slow_bus(stage: Stage) -> None:
    """Slow the bus itself down, for everybody."""
    one = Impairment("slow_bus", delay=stage.random.uniform(0.02, 0.3))
    links = [stage.client_link, *(host.link for host in stage.hosts.values())]
    seconds = stage.seconds(5.0)
    stage.tell("bus", f"is slow for {seconds:.1f} s")
    for link in links:
        link.impair(one)
    await asyncio.sleep(seconds)
    for link in links:
        link.heal(one)


async def repeat(stage: Stage) -> None:
    """Publish the last records of a partition once more, as a producer does that got no answer."""
    logical = [*(f"requests.{name}" for name in stage.topics.classes), "outcomes", "control"]
    topic = stage.random.choice([*logical, *(f"work.{pool}" for pool in sorted(stage.pools))])
    name = stage.topics.name(topic)
    partition = stage.random.randrange(stage.cluster.spec(name).partitions)
    log = stage.cluster.log(TopicPartition(name, partition))
    found = [record for _, record in log.read(log.begin, 1 << 30)][-_REPEATED:]
    if topic == "control":  # a person's pause that came again after the resume would be another pause
        found = [one for one in found if decode(one.value)[1]["command"] == "cancel"]
    stage.bites["repeat"] += len(found)
    stage.tell(topic, f"{len(found)} records come again on partition {partition}")
    again = [Outgoing(name, partition, one.key, one.value, one.headers) for one in found]
    stage.cluster.append(again, None)


async def rewind(stage: Stage) -> None:
    """Set the groups' positions back: their members read again what they have read."""
    positions = stage.cluster.positions
    for place, position in positions.items():
        begin = stage.cluster.log(place[1]).begin
        if position > begin:
            stage.bites["rewind"] += 1
            positions[place] = max(begin, position - _REPEATED)
    stage.tell("bus", "every group's positions are set back")


async def clock(stage: Stage) -> None:
    """Set a host's wall clock wrong for a while: it jumps, and jumps back."""
    host = stage.pick()
    if host is None:
        return
    wrong = stage.random.choice((-1, 1)) * stage.random.uniform(0.5, stage.jump_seconds)
    stage.tell(host.name, f"its clock jumps by {wrong:+.1f} s")
    before = host.clock.looks
    host.clock.wrong_ms += int(wrong * 1000)
    await asyncio.sleep(stage.seconds())
    host.clock.wrong_ms -= int(wrong * 1000)
    stage.bites["clock"] += host.clock.looks - before


async def flood(stage: Stage) -> None:
    """Let one tenant submit many jobs at once."""
    stage.bites["flood"] += 1
    stage.tell("clients", "mallory floods")
    await stage.clients.flood(stage.random.randrange(10, 40))


async def drain(stage: Stage) -> None:
    """Drain a pool and resume it, as an operator does."""
    pool, seconds = stage.random.choice(sorted(stage.pools)), stage.seconds()
    stage.bites["drain"] += 1
    stage.tell(pool, f"is drained for {seconds:.1f} s")
    await stage.clients.command(stage.random.choice(("pause", "drain")), pool)
    await asyncio.sleep(seconds)
    await stage.clients.command("resume", pool)


async def empty(stage: Stage) -> None:
    """Empty the store."""
    stage.bites["empty"] += 1
    stage.tell("store", "is emptied")
    await stage.store.clear()


async def _mood(stage: Stage, mood: Mood, what: str) -> None:
    seconds = stage.seconds()
    stage.tell("store", f"{what} for {seconds:.1f} s")
    await stage.store.suffer(mood, seconds)


async def slow_store(stage: Stage) -> None:
    """Make the store take up to a second longer."""
    await _mood(stage, Mood(delay=stage.random.uniform(0.1, 1.0)), "is slow")


async def full_store(stage: Stage) -> None:
    """Fill the store's memory: reads work, writes do not."""
    await _mood(stage, Mood(full=True), "is out of memory")


async def dead_store(stage: Stage) -> None:
    """Make the store answer nothing."""
    await _mood(stage, Mood(dead=True), "does not answer")


async def brownout(stage: Stage) -> None:
    """Have the provider throttle everybody for a while."""
    provider, seconds = stage.provider, stage.seconds()
    stage.tell("provider", f"throttles everybody for {seconds:.1f} s")
    provider.brownouts += 1
    await asyncio.sleep(seconds)
    provider.brownouts -= 1


async def call_off(stage: Stage) -> None:
    """Let a tenant cancel a job that its provider has, as soon as there is one."""
    for _ in range(_LOOKS):
        if found := stage.provider.at_hand():
            one = stage.random.choice(found)
            stage.bites["call_off"] += 1
            await stage.clients.cancel(one.job_id, one.tenant)
            return
        await asyncio.sleep(_LOOK_SECONDS)


#: kind -> (how often it is drawn, what it does)
FAULTS: dict[str, tuple[int, Callable[[Stage], Awaitable[None]]]] = {
    "kill": (6, kill),
    "stop": (3, stop),
    "expire": (2, expire),
    "outage": (2, outage),
    "slow": (2, slow),
    "slow_bus": (1, slow_bus),
    "cut": (2, cut),
    "cut_there": (2, cut_there),
    "cut_back": (2, cut_back),
    "pause": (2, pause),
    "flap": (1, flap),
    "repeat": (2, repeat),
    "rewind": (1, rewind),
    "clock": (2, clock),
    "flood": (1, flood),
    "drain": (1, drain),
    "empty": (1, empty),
    "slow_store": (1, slow_store),
    "full_store": (1, full_store),
    "dead_store": (1, dead_store),
    "brownout": (1, brownout),
    "call_off": (2, call_off),
}
#: What the world does by itself besides: see :class:`Temper` and :class:`Manners`.
EVERYDAY: tuple[str, ...] = (
    "poison",
    "child_dies",
    "child_hangs",
    "attempt_fails",
    "backend_rejects",
    "throttled",
    "no_answer",
    "spoilt",
    "look_up",
)
