"""What is remembered of finished jobs: found again, bounded, and the same after a restore."""

import struct

import pytest
from dispatcher_kit import job_id
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher.done import _PRIME, ENTRIES_A_PAGE, DoneEntry, DoneLog, is_done_key
from shotbus.schemas.outcomes import OUTCOMES

NOW_MS = 1_700_000_000_000
ADA = b"ada"


def log_of(count, *, max_pages=8_192, retention_s=60, now_ms=NOW_MS):
    log, rows = DoneLog(retention_s=retention_s, max_pages=max_pages), {}
    for number in range(count):
        payload = number.to_bytes(8, "little")
        write(rows, log, log.add(job_id(number), payload, "succeeded", now_ms + number, owner=ADA))
    return log, rows


def write(rows, log, keys):
    for key in keys:
        rows[key] = log.snapshot(key)


def restored(rows, **options):
    log = DoneLog(**{"retention_s": 60, "max_pages": 8_192} | options)
    for key, row in rows.items():
        if row is not None:
            log.restore(key, row)
    return log


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_found_again(outcome):
    log = DoneLog(retention_s=60, max_pages=8)
    log.add(job_id(7), b"12345678", outcome, NOW_MS, owner=ADA)
    assert log.find(job_id(7)) == DoneEntry(b"12345678", outcome, NOW_MS, NOW_MS // 1_000 + 60, ADA)


@pytest.mark.parametrize("name", ["", "no job id", "z" * 32, "é" * 32])
def test_a_name_that_is_no_job_id_is_not_found(name):
    assert log_of(3)[0].find(name) is None


def test_ids_that_count_upwards_in_any_digit_are_told_apart():
    log = DoneLog(retention_s=60, max_pages=8)
    ids = [f"{1 << bit:032x}" for bit in range(128)]
    for number in ids[::2]:
        log.add(number, bytes(8), "failed", NOW_MS, owner=ADA)
    assert [number for number in ids if log.find(number)] == ids[::2]


def test_entries_from_before_there_were_owners_are_found_and_are_nobodys():
    log = DoneLog(retention_s=60, max_pages=8)
    log.restore(log.key(0), struct.pack("<QQQIB3x", int(job_id(7), 16) % _PRIME, 1, NOW_MS, 2**31, 0))
    assert log.find(job_id(7)) == DoneEntry((1).to_bytes(8, "little"), OUTCOMES[0], NOW_MS, 2**31, bytes(3))


def test_only_the_page_that_grew_is_written():
    log, rows = log_of(ENTRIES_A_PAGE + 1)
    assert list(rows) == [log.key(0), log.key(1)]
    assert log.add(job_id(9_999), bytes(8), "failed", NOW_MS, owner=ADA) == [log.key(1)]
    assert all(is_done_key(key) and len(row) <= 4_096 for key, row in rows.items())


@pytest.mark.parametrize("count", [0, 1, ENTRIES_A_PAGE - 1, ENTRIES_A_PAGE, ENTRIES_A_PAGE + 1, 300])
def test_a_restored_log_finds_and_writes_the_same(count):
    log, rows = log_of(count)
    twin = restored(rows)
    assert [twin.find(job_id(n)) for n in range(count + 1)] == [log.find(job_id(n)) for n in range(count + 1)]
    more = (job_id(9_999), bytes(8), "failed", NOW_MS)
    assert twin.add(*more, owner=ADA) == log.add(*more, owner=ADA)


@given(st.permutations([0, 1, 2]))
def test_pages_may_be_restored_in_any_order(order):
    log, rows = log_of(300)
    keys = list(rows)
    twin = restored({keys[n]: rows[keys[n]] for n in order})
    assert [twin.find(job_id(n)) for n in range(300)] == [log.find(job_id(n)) for n in range(300)]
    assert twin._open == log._open


def test_old_pages_are_forgotten_whole_and_their_rows_deleted():
    log, rows = log_of(2 * ENTRIES_A_PAGE)
    later = NOW_MS + 61_000
    dropped = log.forget(later)
    assert dropped == [log.key(0), log.key(1)]
    assert [log.snapshot(key) for key in dropped] == [None, None]
    assert len(log) == 0
    assert log.find(job_id(5)) is None


def test_a_page_is_kept_until_its_youngest_entry_is_old():
    log, _ = log_of(ENTRIES_A_PAGE)
    assert log.forget(NOW_MS + 59_000) == []
    assert log.find(job_id(0)) is not None


def test_the_number_of_pages_is_bounded():
    log, rows = log_of(10 * ENTRIES_A_PAGE, max_pages=3)
    assert len([row for row in rows.values() if row is not None]) == 3
    assert len(log) == 3 * ENTRIES_A_PAGE
    assert log.find(job_id(10 * ENTRIES_A_PAGE - 1)) is not None


def test_an_emptied_log_starts_again_after_a_restore():
    log, rows = log_of(ENTRIES_A_PAGE)
    write(rows, log, log.forget(NOW_MS + 61_000))
    twin = restored(rows)
    twin.add(job_id(1), bytes(8), "failed", NOW_MS, owner=ADA)
    assert twin.find(job_id(1)) is not None


def test_a_page_may_come_back_several_times_and_go_again():
    log, _ = log_of(200)
    twin = DoneLog(retention_s=60, max_pages=8_192)
    page, full = log.snapshot(log.key(1)), log.snapshot(log.key(0))
    for data in (page[:32], page, full):
        twin.restore(log.key(0) if data is full else log.key(1), data)
    assert [number for number in range(200) if twin.find(job_id(number)) is None] == []
    twin.discard(log.key(0))
    twin.discard(log.key(7))
    assert [number for number in range(200) if twin.find(job_id(number))] == list(range(128, 200))
