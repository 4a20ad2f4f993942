"""The job book: a parked job comes back bit for bit, and the counts are those of a scan, whatever happened."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shotbus.broker.dispatcher.job import Job, Reference, Seat
from shotbus.broker.dispatcher.jobbook import JobBook
from shotbus.broker.dispatcher.packedjobs import PACKED
from shotbus.broker.dispatcher.rows import decode_row, encode_row, row_fields
from shotbus.broker.dispatcher.states import Phase

IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
SHORT = st.sampled_from(["", "ada", "a" * 64, "größe", "\0"]) | st.text(max_size=12)
LONGS = st.sampled_from([0, 1, 2**31, 2**32, 2**63 - 1, -1, -(2**63)]) | st.integers(0, 2**50)
INTS = st.sampled_from([0, 1, 65_535, 65_536, 2**31 - 1, -1]) | st.integers(-(2**31), 2**31 - 1)
TRACES = (
    st.sampled_from(
        ["", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "00-" + "A" * 32 + "-" + "b" * 16 + "-01"]
    )
    | st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
    | st.text(max_size=64)
)
EXTRAS = st.none() | st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=9), min_size=1)
TEXTS = ("tenant", "priority", "intent", "family", "sweep_id", "session_id", "circuit_id", "experiment")
SMALL = ("points", "shard_index")
LARGE = ("shots", "submitted_us", "deadline_ms", "not_before_ms", "prepare_us", "think_us")
SET_LARGE = (
    "seed",
    "accepted_us",
    "admit_us",
    "queued_us",
    "queue_us",
    "traits",
    "predicted_us",
)
SET_SMALL = ("attempt", "failures", "deaths", "bytes_in")


@st.composite
def jobs(draw):
    fields = {name: draw(SHORT) for name in TEXTS}
    fields |= {name: draw(INTS) for name in SMALL} | {name: draw(LONGS) for name in LARGE}
    fields |= {"job_id": draw(IDS), "payload_hash": draw(st.binary(max_size=33))}
    reference = Reference(draw(SHORT), draw(st.integers(0, 9)), draw(st.integers(0, 2**63 - 1)))
    job = Job(fields, reference, draw(SHORT))
    for name in SET_LARGE:
        setattr(job, name, draw(LONGS))
    for name in SET_SMALL:
        setattr(job, name, draw(INTS))
    job.cost = draw(st.floats(allow_nan=False))
    job.chain, job.rule = tuple(draw(st.lists(SHORT, max_size=3))), draw(SHORT)
    job.traceparent, job.bundle_id = draw(TRACES), draw(SHORT)
    job.cache_key = draw(SHORT | IDS | IDS.map(str.upper))
    job.extras, job.phase = draw(EXTRAS), draw(st.sampled_from(list(Phase)))
    job.persisted = draw(st.booleans())
    return job


def everything(job):
    return {name: getattr(job, name) for name in Job.__slots__ if name != "key"}


def test_the_tables_cover_every_attribute_of_a_job():
    assert set(Job.__slots__) - PACKED == {"key"}
    assert set(Job.__slots__) >= PACKED


@given(jobs())
def test_a_parked_job_comes_back_bit_for_bit(job):
    before = everything(job)
    book = JobBook()
    key = book.add(job)
    glances = [book.glance(key)]
    book.park(job)
    glances.append(book.glance(key))
    assert glances[0] == glances[1]
    assert (glances[1].due_ms, glances[1].order) == (job.due_ms, job.order)
    assert everything(book.get(job.job_id)) == before
    assert everything(book.at(key)) == before


@given(jobs())
def test_a_row_of_the_ledger_is_packed_as_the_job_that_it_is(job):
    row = encode_row(job, Seat())
    book = JobBook()
    key = book.put_row(row_fields(row))
    assert (book.hot, book.glance(key).job_id) == (0, job.job_id)
    assert everything(book.get(job.job_id)) == everything(decode_row(row)[0])


@given(jobs(), jobs())
def test_nothing_is_left_of_jobs_that_were_parked_changed_and_removed(one, other):
    book = JobBook()
    one.job_id, other.job_id = "0" * 32, "f" * 32
    for job in (one, other):
        book.add(job)
        book.park(job)
    again = book.get(one.job_id)
    again.traceparent, again.pool, again.extras = other.traceparent, "elsewhere", None
    book.park(again)
    for job_id in (one.job_id, other.job_id):
        book.remove(book.get(job_id))
    rows = book._rows
    left = [
        len(held) for held in (rows, rows._shared, rows._traces, rows._cache_keys, rows._tails, book._index)
    ]
    assert left == [0] * 6
    assert (book.oldest_us(), book.low_offsets(), book.tenants()) == (None, {}, [])


@pytest.mark.parametrize("name", ["", "x", "A" * 32, "0" * 31, " " + "0" * 31, "ü" * 32])
def test_what_is_no_job_id_is_not_here(name):
    assert JobBook().get(name) is None
    assert name not in JobBook()


PLAIN = {
    **dict.fromkeys(("payload_hash",), b"\1" * 16),
    **dict.fromkeys(("intent", "family", "session_id", "circuit_id", "experiment"), ""),
    **dict.fromkeys((*SMALL, *LARGE), 1),
}
NAMES = st.integers(0, 12).map(lambda number: f"{number * 7919:08x}" + "0" * 24)


class Book(RuleBasedStateMachine):
    """Everything that may be done to a book, beside a plain dict of what each job was."""

    @initialize()
    def begin(self):
        self.book, self.jobs, self.keys, self.time = JobBook(), {}, {}, 0

    def made(self, job_id, tenant, priority, sweep):
        self.time += 40_000
        fields = PLAIN | {"job_id": job_id, "tenant": tenant, "priority": priority, "sweep_id": sweep}
        job = Job(fields, Reference(f"requests.{priority}", 0, self.time // 100), "aer")
        job.accepted_us, job.phase = self.time, Phase.WAITING
        return job

    @rule(
        name=NAMES,
        tenant=st.sampled_from("ab"),
        priority=st.sampled_from("xy"),
        sweep=st.sampled_from(["", "s", "t"]),
    )
    def add(self, name, tenant, priority, sweep):
        if name not in self.jobs:
            job = self.made(name, tenant, priority, sweep)
            self.keys[name], self.jobs[name] = self.book.add(job), everything(job)

    @rule(name=NAMES, tenant=st.sampled_from("ab"), sweep=st.sampled_from(["", "s", "t"]))
    def put_row(self, name, tenant, sweep):
        job = self.made(name, tenant, "x", sweep)
        fields = row_fields(encode_row(job, Seat()))
        self.keys[name], self.jobs[name] = self.book.put_row(fields), everything(job) | {"persisted": True}

    @rule(name=NAMES)
    def park(self, name):
        if name in self.jobs:
            self.book.park(self.book.get(name))

    @rule(name=NAMES)
    def change(self, name):
        if name in self.jobs:
            job = self.book.at(self.keys[name])
            self.book.change_class(job, "y" if job.priority == "x" else "x")
            job.attempt += 1
            self.jobs[name] = everything(job)

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.jobs:
            self.book.remove(self.book.get(name))
            del self.jobs[name], self.keys[name]

    @rule(name=NAMES)
    def discard(self, name):
        assert self.book.discard(name) == (name in self.jobs)
        self.jobs.pop(name, None)
        self.keys.pop(name, None)

    @invariant()
    def the_counts_are_those_of_a_scan(self):
        book, jobs = self.book, self.jobs.values()
        assert (len(book), sorted(book)) == (len(self.jobs), sorted(self.keys.values()))
        assert dict(book.tenants()) == Counter((job["tenant"], job["priority"]) for job in jobs)
        for tenant in "ab":
            assert book.of_tenant(tenant) == sum(job["tenant"] == tenant for job in jobs)
        for sweep in "st":
            mine = [name for name, job in self.jobs.items() if job["sweep_id"] == sweep]
            assert book.in_sweep(sweep) == len(mine)
            admitted = sorted(mine, key=lambda name: self.jobs[name]["accepted_us"])
            assert book.of_sweep(sweep) == [self.keys[name] for name in admitted]

    @invariant()
    def the_least_are_those_of_a_scan(self):
        jobs = self.jobs.values()
        oldest = min((job["accepted_us"] for job in jobs), default=None)
        assert self.book.oldest_us() == (None if oldest is None else oldest & ~0xFFFF)
        lows = {}
        for job in jobs:
            lows.setdefault(job["reference"][:2], []).append(job["reference"].offset)
        assert self.book.low_offsets() == {place: min(offsets) & ~1_023 for place, offsets in lows.items()}

    @invariant()
    def every_job_is_what_it_was(self):
        for name, was in self.jobs.items():
            assert self.book.key_of(name) == self.keys[name]
            glance = self.book.glance(self.keys[name])
            assert all(getattr(glance, field) == was[field] for field in glance._fields[1:])

    def teardown(self):
        for name, was in self.jobs.items():
            assert everything(self.book.get(name)) == was


TestBook = Book.TestCase
