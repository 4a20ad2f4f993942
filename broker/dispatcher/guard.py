"""What is known of the pools, as one shard sees them: health, breakers, watermarks, waits. Pure.

Everything that routing, admission and dispatch ask about a pool is asked here, and everything that teaches it
(bundles that end, queues that drain, workers that advertise) is told here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.breaker import BreakerView, Report
from shotbus.broker.dispatcher.breakers import Breakers, CommonBreakers
from shotbus.broker.dispatcher.bundles import NOTHING_ALOFT, Aloft
from shotbus.broker.dispatcher.eta import Eta, Etas, Forecasts
from shotbus.broker.dispatcher.health import PoolHealth, PoolState, Standing, view
from shotbus.broker.dispatcher.retry_budget import RetryBudget
from shotbus.broker.dispatcher.shedding import Shed, Shedder
from shotbus.broker.dispatcher.speeds import Speeds
from shotbus.broker.machine import Now
from shotbus.broker.policy.facts import PoolView
from shotbus.broker.policy.windows import Window
from shotbus.schemas.codec import decode, encode

_PREFIX = b"breaker/"
_WORDS = {
    PoolState.PAUSED: "paused",
    PoolState.CLOSED: "paused",
    PoolState.DOWN: "breaker_open",
    PoolState.DRAINING: "draining",
    PoolState.EMPTY: "unserved",
    PoolState.UNHEALTHY: "unserved",
}
#: Taking no work, and nobody wishes it so.
_STALLED = frozenset({PoolState.DOWN, PoolState.EMPTY, PoolState.UNHEALTHY, PoolState.DRAINING})
#: Views are made anew at most this often, seconds of time seen: what they say moves slowly.
_VIEW_SECONDS = 0.25
# A prediction takes as long as half an admission: samples suffice to know how good they are.
_SAMPLE_SECONDS = 0.2


Crowd = Callable[[str, float], float]


def _own(_: str, seconds: float) -> float:
    return seconds


class News(NamedTuple):
    """What was decided about a pool by nobody in person: in words, and with what it was decided from."""

    pool: str
    cause: str
    terms: Mapping[str, Any]


def is_guard_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Guard:
    """The pools of one shard.

    Args:
        config: of the pools, and what is shed when.
        windows: named windows, for opening hours.
        shards: how many share the pools' waiting work.
        speeds: what a point takes there.

    """

    def __init__(
        self, config: Config, windows: Mapping[str, Window], shards: int, speeds: Speeds | None = None
    ) -> None:
        self._config, self._windows, self._shards = config, windows, shards
        self._speeds = speeds or Speeds({})
        self._crowd: Crowd = _own
        #: By pool, what workers had of this shard at the last look; and who tells it, at a time seen.
        self.aloft: Mapping[str, Aloft] = {}
        self.aloft_by: Callable[[float], Mapping[str, Aloft]] = lambda _: {}
        self._aloft_of: Callable[[str], Aloft] = self._own_aloft
        self.breakers = Breakers({name: pool.breaker for name, pool in config.pools.items()})
        self.shedder = Shedder(config.pools, config.shedding, shards)
        self.etas = Etas()
        self.forecasts = Forecasts(self.etas)
        self.retries = RetryBudget(config.retry.budget, config.retry.budget_burst)
        self._health: dict[str, PoolHealth] = {}
        #: By pool that takes no work though nobody wishes it so: since when, time seen.
        self._stalled: dict[str, float] = {}
        self._due = 0.0
        self._samples: dict[str, float] = {}
        self._rows: dict[str, bytes] = {}
        self._news: list[News] = []
        #: Pools whose repeats have to let fresh work go first.
        self._held_back: dict[str, None] = {}

    def share(
        self,
        breakers: CommonBreakers | None,
        shedder: Shedder,
        crowd: Crowd,
        aloft: Callable[[str], Aloft],
    ) -> None:
        """Know pools together with others from now on.

        Args:
            breakers: theirs; None is own ones again.
            shedder: theirs.
            crowd: returns what waits in the mean of all of them, of a pool of which so much waits here.
            aloft: returns what workers of a pool have of all of them.

        """
        self.breakers.use(breakers)
        self.shedder, self._crowd, self._aloft_of = shedder, crowd, aloft

    def alone(self) -> None:
        """Know pools by own sight again."""
        self.share(
            None, Shedder(self._config.pools, self._config.shedding, self._shards), _own, self._own_aloft
        )

    def _own_aloft(self, pool: str) -> Aloft:
        return self.aloft.get(pool, NOTHING_ALOFT)

    def reconfigure(self, config: Config, windows: Mapping[str, Window]) -> None:
        """Take other opening hours."""
        self._config, self._windows, self._due = config, windows, 0.0

    # --- what is told ---

    def ended(self, pool: str, bundle_id: str, reports: Iterable[Report], now: Now) -> list[bytes]:
        """Learn how a bundle's attempts ended; returns the ledger keys that changed."""
        if not self.breakers.observe(pool, bundle_id, reports, now.seen):
            return []
        self._moved(pool, now)
        return [_key(pool)]

    def advance(self, now: Now) -> list[bytes]:
        """Let time pass; returns the ledger keys that changed, also those of gates that others have moved."""
        self.forecasts.advance(now.seen)
        for pool in self.breakers.advance(now.seen):
            self._moved(pool, now)
        return [_key(pool) for pool in self.breakers.take_moved()]

    def _moved(self, pool: str, now: Now) -> None:
        """Tell that a breaker's gate has changed."""
        gate, reason, retry = self._breaker(pool, now)
        terms = {"reason": reason, "retry_seconds": round(retry, 3)} if reason else {}
        self._news.append(News(pool, f"breaker: {gate.value}", terms))

    def may_repeat(self, pool: str, error_class: str, *, fresh_waits: bool) -> bool:
        """Tell whether a repeat may take its turn: a storm of them must leave room for fresh work."""
        may = self.retries.take(pool, error_class, fresh_waits=fresh_waits)
        if may == (pool in self._held_back):
            if may:
                del self._held_back[pool]
            else:
                self._held_back[pool] = None
            word = "go on" if may else "held back, fresh work goes first"
            self._news.append(News(pool, f"repeats: {word}", {"error_class": error_class}))
        return may

    def tell(self, pool: str, cause: str, **terms: Any) -> None:
        """Make news of what was decided elsewhere."""
        self._news.append(News(pool, cause, terms))

    def take_news(self) -> list[News]:
        """Return what was decided about pools since the last call."""
        if not self._news:
            return []
        news, self._news = self._news, []
        return news

    def look(
        self,
        adverts: Sequence[Mapping[str, Any]],
        waiting: Mapping[str, float],
        paused: Iterable[str],
        now: Now,
    ) -> Mapping[str, PoolView] | None:
        """Look at the pools again, if it is time; returns them as routing sees them.

        Args:
            adverts: of the workers that are alive.
            waiting: backend seconds that wait, by pool, by what a point takes now.
            paused: pools that get no work by somebody's wish.
            now: both clocks.

        """
        if now.seen < self._due and self._health:
            return None
        self._due = now.seen + _VIEW_SECONDS
        self.aloft = self.aloft_by(now.seen)
        halted = frozenset(paused)
        for pool, seconds in waiting.items():
            crowd = self._crowd(pool, seconds)
            whole = round(self.shedder.whole(crowd), 3)
            for mark in self.shedder.update(pool, crowd):
                name, word = mark.removeprefix("-"), "off" if mark.startswith("-") else "on"
                self._news.append(News(pool, f"{name}: {word}", {"waiting_seconds": whole}))
            standing = Standing(
                pool in halted, self.opens(pool, now), self.shedder.engaged(pool), self._breaker(pool, now)
            )
            self._see(pool, view(pool, adverts, standing=standing, now_ms=now.wall_ms), now)
        return {pool: self._view(pool, seconds, now) for pool, seconds in waiting.items()}

    def _see(self, pool: str, health: PoolHealth, now: Now) -> None:
        """Take what is known of a pool now; what it is called is news, but for the first time."""
        before = self._health.get(pool)
        self._health[pool] = health
        if health.state in _STALLED:
            self._stalled.setdefault(pool, now.seen)
        elif health.state is not PoolState.PROBING:
            # One that is only being tried has not recovered: the next failure goes on from here.
            self._stalled.pop(pool, None)
        if not health.flows and (before is None or before.flows):
            self.forecasts.halted(pool)
        if before is not None and before.state is not health.state:
            terms = {"reason": health.reason, "workers": health.workers, "slots": health.slots}
            self._news.append(News(pool, f"pool: {health.state.value}", terms))

    def _breaker(self, pool: str, now: Now) -> BreakerView:
        return self.breakers.view(pool, now.seen)

    def _view(self, pool: str, seconds: float, now: Now) -> PoolView:
        health = self._health[pool]
        wait = self.eta(pool, seconds, 0.0, now)
        there = max(0.0, health.provider_queue_seconds)
        speed = self._speeds.of(pool)
        return PoolView(
            state=_WORDS.get(health.state, "ready"),
            wait=(wait.low + there, wait.mid + there, wait.high + there) if health.workers else None,
            seconds_per_point=speed.mean if speed else None,
            least_seconds_per_point=speed.least if speed else None,
            works=self._speeds.works(pool),
            calibration_age_seconds=health.calibration_age if health.calibration_age >= 0 else None,
            fidelity=health.fidelity,
            t1_us=health.t1_us,
            t2_us=health.t2_us,
        )

    # --- what is asked ---

    def health(self, pool: str) -> PoolHealth | None:
        """Return what is known of a pool; None before anything is."""
        return self._health.get(pool)

    def stalled(self, pool: str, now: Now) -> float | None:
        """Return for how long, seconds, a pool has taken no work though nobody wishes it so.

        None for one that takes work now, be it only to be tried.
        """
        health, since = self._health.get(pool), self._stalled.get(pool)
        return None if since is None or health is None or health.flows else max(0.0, now.seen - since)

    def opens(self, pool: str, now: Now) -> bool:
        """Tell whether a pool is within its opening hours."""
        settings = self._config.pools.get(pool)
        hours = self._windows.get(settings.access.hours) if settings and settings.access.hours else None
        return hours is None or hours.is_open(now.wall_ms)

    def room(self, pool: str, now: Now) -> int | None:
        """Return how many bundles may go to a pool now, None without a limit."""
        return self.breakers.room(pool, now.seen) if self.opens(pool, now) else 0

    def shed(self, pool: str, priority: str) -> Shed | None:
        """Return what happens to a job that arrives, None to take it."""
        return self.shedder.decide(pool, priority)

    def eta(self, pool: str, ahead: float, service: float, now: Now) -> Eta:
        """Return when a job with so much work ahead of it has its result, seconds from now.

        ``ahead`` and ``service`` are seconds by what a point takes now. What workers have comes before it,
        where there is more of that than slots.
        """
        health = self._health.get(pool)
        slots = max(1, health.slots if health else 1)
        begun, unit = self._aloft_of(pool).per_slot(slots), self._unit(pool)
        return self.etas.predict(pool, ahead / unit, service, now.seen, capacity=slots / unit, begun=begun)

    def drained(self, pool: str, worth: float, now: Now, *, more: bool) -> None:
        """Note work that left a pool's queue, in seconds by what a point takes now; whether more waits."""
        self.etas.drained(pool, worth / self._unit(pool), now.seen, more=more)

    def _unit(self, pool: str) -> float:
        """Return the seconds of a mean point, in which the pace of a pool's queue is counted.

        What a point takes may be another when jobs have left than when they came.
        """
        known = self._speeds.of(pool)
        return 1.0 if known is None else known.mean

    def is_measured(self, pool: str) -> bool:
        """Tell whether anything is known of how long jobs take on a pool, but what is configured."""
        return self._speeds.is_measured(pool)

    def samples(self, pool: str, now: Now) -> bool:
        """Tell whether it is time to predict the wait of a pool's job and to see what becomes of that."""
        if now.seen < self._samples.get(pool, 0.0):
            return False
        self._samples[pool] = now.seen + _SAMPLE_SECONDS
        return True

    def next_due(self, now: Now) -> float | None:
        """Return the seconds until a pause of a breaker is over."""
        return self.breakers.next_due(now.seen)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        row = self.breakers.snapshot(key.removeprefix(_PREFIX).decode())
        return None if row is None else encode("ledger_page", {"kind": "meta", "data": row})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        pool = key.removeprefix(_PREFIX).decode()
        if row is None:
            self._rows.pop(pool, None)
        else:
            self._rows[pool] = decode(row, "ledger_page")[1]["data"]

    def restored(self, now: Now) -> None:
        """All rows are back: every open breaker stays open for a full pause."""
        for pool, row in sorted(self._rows.items()):
            self.breakers.restore(pool, row, now.seen)
        self._rows.clear()


def _key(pool: str) -> bytes:
    return _PREFIX + pool.encode()
