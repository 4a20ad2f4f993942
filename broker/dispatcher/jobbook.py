"""All live jobs of a shard: objects for those that do something, packed rows for those that wait. Pure.

A job has a *key* from :meth:`JobBook.add` to :meth:`JobBook.remove`: a small integer by which queue, timers
and limits speak of it without holding it. Who removes a job takes it out of those first: keys come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.job import Job, Reference
from shotbus.broker.dispatcher.packedjobs import Glance, PackedJobs, glance_of, raw_id
from shotbus.broker.dispatcher.placeindex import PlaceIndex
from shotbus.broker.dispatcher.slab import BLOCK
from shotbus.broker.dispatcher.tallies import Least, Members, Tally

# Resolution of the oldest job (65 ms) and of the oldest request still referenced (1,024 offsets).
_AGE_BITS = 16
_OFFSET_BITS = 10


class _Counted(NamedTuple):
    """What is counted of a job."""

    tenant: str
    priority: str
    sweep_id: str
    accepted_us: int
    reference: Reference


class JobBook:
    """The live jobs of one shard.

    ``tenant``, ``sweep_id``, ``reference`` and ``accepted_us`` of a job must stay as they are, ``priority``
    is changed by :meth:`change_class`: they are counted here.
    """

    def __init__(self) -> None:
        self._rows = PackedJobs()
        #: Jobs that are objects, by key, and their keys by id.
        self._hot: dict[int, Job] = {}
        self._hot_keys: dict[str, int] = {}
        #: Keys by raw id of the jobs that have a row.
        self._index = PlaceIndex()
        self._sweeps = Members()
        self._tenants: Tally[tuple[str, str]] = Tally()
        self._lows: dict[tuple[str, int], Least] = {}
        self._ages: dict[str, Least] = {}
        #: When the newest of all jobs so far was accepted, wall microseconds.
        self.newest_us = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, job_id: str) -> bool:
        return self.key_of(job_id) is not None

    @property
    def hot(self) -> int:
        """How many jobs are objects."""
        return len(self._hot)

    # --- one job ---

    def add(self, job: Job) -> int:
        """Take a job in, as the object it is, and return its key. Its id must be new."""
        key = job.key = self._rows.take()
        self._hot[key] = job
        self._hot_keys[job.job_id] = key
        self._count(key, job)
        return key

    def put_row(self, fields: Mapping[str, Any]) -> int:
        """Take a job in from its decoded ledger row, packed, and return its key.

        A job with that id is replaced: of several rows of a ledger the last one counts. Raises ValueError for
        an id that admission would not have let in.
        """
        job_id = fields["job_id"]
        raw = raw_id(job_id)
        if job_id in self._hot_keys or self._key_at(raw) is not None:
            self.discard(job_id)
        key = self._rows.take()
        try:
            self._rows.write_row(key, raw, fields)
        except ValueError:
            self._rows.give(key)
            raise
        self._index.add(raw, key)
        place = Reference(fields["request_topic"], fields["request_partition"], fields["request_offset"])
        who = (fields["tenant"], fields["priority"], fields["sweep_id"])
        self._count(key, _Counted(*who, fields["accepted_us"], place))
        return key

    def key_of(self, job_id: str) -> int | None:
        """Return a job's key, None for one that is not here (or no job's id at all)."""
        key = self._hot_keys.get(job_id)
        if key is not None:
            return key
        if not self._index:
            return None
        try:
            raw = raw_id(job_id)
        except ValueError:
            return None
        return self._key_at(raw)

    def _key_at(self, raw: bytes) -> int | None:
        for key in self._index.at(raw):
            if self._rows.is_of(key, raw):
                return key
        return None

    def get(self, job_id: str) -> Job | None:
        """Return a job as an object, which it stays until it is parked; None when it is not here."""
        key = self._hot_keys.get(job_id)
        if key is not None:
            return self._hot[key]
        key = self.key_of(job_id)
        return None if key is None else self.at(key)

    def look(self, job_id: str) -> Job | None:
        """Return a job to look at, None when it is not here; changing it may change nothing."""
        key = self.key_of(job_id)
        return None if key is None else self.peek(key)

    def at(self, key: int) -> Job:
        """Return the job with a key as an object, which it stays until it is parked."""
        job = self._hot.get(key)
        if job is None:
            job = self._hot[key] = self._rows.read(key)
            self._hot_keys[job.job_id] = key
        return job

    def park(self, job: Job) -> None:
        """Pack a job that only waits. The object is dead from now on: who needs the job asks again."""
        key = self._hot_keys[job.job_id]
        if not self._rows.is_written(key):
            self._index.add(raw_id(job.job_id), key)
        self._rows.write(key, job)
        del self._hot_keys[job.job_id], self._hot[key]

    def remove(self, job: Job) -> None:
        """Let a job go; its queue, timer and limits must have let go of its key. Raises KeyError."""
        self._drop(self._hot_keys[job.job_id], job)

    def discard(self, job_id: str) -> bool:
        """Let a job go by its id, if it is here."""
        key = self.key_of(job_id)
        if key is None:
            return False
        self._drop(key, self._hot.get(key) or self._rows.glance(key))
        return True

    def change_class(self, job: Job, priority: str) -> None:
        """Give a job another class; it is in no queue at this moment."""
        self._ages[job.priority].discard(job.accepted_us)
        self._tenants.discard((job.tenant, job.priority))
        job.priority = priority
        self._tenants.add((job.tenant, job.priority))
        self._age(priority).add(job.accepted_us)

    # --- without making objects ---

    def glance(self, key: int) -> Glance:
        """Return what is needed most of a job; it stays packed."""
        job = self._hot.get(key)
        return self._rows.glance(key) if job is None else glance_of(key, job)

    def cache_key(self, key: int) -> str:
        """Return under which key a job's result is cached, empty for none; it stays packed."""
        job = self._hot.get(key)
        return self._rows.cache_key(key) if job is None else job.cache_key

    def has_chain(self, key: int) -> bool:
        """Tell whether a job has steps of a fallback chain left; it stays packed."""
        job = self._hot.get(key)
        return bool(self._rows.text(key, "chain") if job is None else job.chain)

    def is_rare(self, key: int) -> bool:
        """Tell whether a job may have extras."""
        job = self._hot.get(key)
        return self._rows.has_tail(key) if job is None else bool(job.extras)

    def peek(self, key: int) -> Job:
        """Return a job to look at; changing it may change nothing."""
        return self._hot.get(key) or self._rows.read(key)

    def text(self, key: int, name: str) -> str:
        """Return one text attribute of a job (tenant, session_id, …); it stays packed."""
        job = self._hot.get(key)
        return self._rows.text(key, name) if job is None else str(getattr(job, name))

    def __iter__(self) -> Iterator[int]:
        """Yield the keys of all jobs, after a restore in the order of the ledger."""
        yield from self._rows
        yield from (key for key in self._hot if not self._rows.is_written(key))

    @property
    def blocks(self) -> int:
        """How many blocks of keys there are, see :meth:`in_block`."""
        return self._rows.blocks

    def in_block(self, number: int) -> list[int]:
        """Return the keys of a block's jobs, so that a walk may pause: no job changes its block."""
        span = range(number * BLOCK, (number + 1) * BLOCK)
        hot = [key for key in span if key in self._hot and not self._rows.is_written(key)]
        return self._rows.in_block(number) + hot

    def objects(self) -> list[Job]:
        """Return the jobs that are objects."""
        return list(self._hot.values())

    def of_sweep(self, sweep_id: str) -> list[int]:
        """Return the keys of a sweep's jobs in order of admission; costs nothing when it has none."""
        keys = self._sweeps.of(sweep_id)
        return sorted(keys, key=lambda key: self.glance(key).order)

    # --- counts ---

    def of_tenant_in(self, sweep_id: str, tenant: str) -> int:
        """Return how many jobs of a sweep are a tenant's."""
        return sum(self.text(key, "tenant") == tenant for key in self._sweeps.of(sweep_id))

    def in_sweep(self, sweep_id: str) -> int:
        """Return how many jobs of a sweep are live."""
        return self._sweeps.count(sweep_id)

    def of_tenant(self, tenant: str, priority: str | None = None) -> int:
        """Return how many jobs of a tenant are live, in one class or in all."""
        classes = self._ages if priority is None else (priority,)
        return sum(self._tenants[tenant, name] for name in classes)

    def tenants(self) -> list[tuple[tuple[str, str], int]]:
        """Return the live jobs by tenant and class."""
        return self._tenants.items()

    def oldest_us(self, priority: str | None = None) -> int | None:
        """Return when the oldest live job was accepted, wall time, up to 65,536 microseconds too early."""
        ages = [self._ages[priority]] if priority in self._ages else []
        found = (age.least() for age in (self._ages.values() if priority is None else ages))
        return min((least for least in found if least is not None), default=None)

    def low_offsets(self) -> dict[tuple[str, int], int]:
        """Return an offset below which no live job refers to, by topic and partition; at most 1,023 low."""
        lows = ((place, low.least()) for place, low in self._lows.items())
        return {place: least for place, least in lows if least is not None}

    def _count(self, key: int, job: Job | _Counted) -> None:
        self.newest_us = max(self.newest_us, job.accepted_us)
        if job.sweep_id:
            self._sweeps.add(job.sweep_id, key)
        self._tenants.add((job.tenant, job.priority))
        self._age(job.priority).add(job.accepted_us)
        place = job.reference[:2]
        low = self._lows.get(place)
        if low is None:
            low = self._lows[place] = Least(_OFFSET_BITS)
        low.add(job.reference.offset)

    def _age(self, priority: str) -> Least:
        age = self._ages.get(priority)
        if age is None:
            age = self._ages[priority] = Least(_AGE_BITS)
        return age

    def _drop(self, key: int, job: Job | Glance) -> None:
        if self._rows.is_written(key):
            self._index.remove(raw_id(job.job_id), key)
        if self._hot.pop(key, None) is not None:
            del self._hot_keys[job.job_id]
        if job.sweep_id:
            self._sweeps.discard(job.sweep_id, key)
        self._tenants.discard((job.tenant, job.priority))
        self._ages[job.priority].discard(job.accepted_us)
        self._lows[job.reference[:2]].discard(job.reference.offset)
        self._rows.give(key)
