"""The index of packed things against a dict, and the log of finished jobs against one that cannot forget."""

from dispatcher_kit import job_id
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher import placeindex
from shotbus.broker.dispatcher.done import ENTRIES_A_PAGE, DoneLog
from shotbus.broker.dispatcher.placeindex import PlaceIndex

NOW_MS = 1_700_000_000_000
BIG = (1 << 44) - 2
STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, 2, 700, BIG])), max_size=300)


def toggle(index, model, step):
    """Enter what is not there, take out what is."""
    key, place = step[0].to_bytes(8, "little"), step[1] + (0 if step[1] == BIG else step[0])
    places = model.setdefault(key, set())
    if place in places:
        index.remove(key, place)
    else:
        index.add(key, place)
    places ^= {place}


@given(STEPS)
def test_an_index_answers_as_a_dict_of_sets_does(steps):
    index, model = PlaceIndex(), {}
    for step in steps:
        toggle(index, model, step)
    assert len(index) == sum(map(len, model.values()))
    assert all(places <= set(index.at(key)) for key, places in model.items())
    assert {place for key in model for place in index.at(key)} <= set().union(*model.values())


@given(STEPS)
def test_keys_that_crowd_into_one_table_are_told_apart_all_the_same(steps):
    index, model, tables = PlaceIndex(), {}, placeindex._TABLES
    index._tables, index._counts = index._tables[:1], index._counts[:1]
    placeindex._TABLES = 1
    try:
        for step in steps:
            toggle(index, model, step)
        found = {key: list(index.at(key)) for key in model}
    finally:
        placeindex._TABLES = tables
    assert all(sorted(found[key]) == sorted(places) for key, places in model.items())


DAYS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), max_size=12)


@given(DAYS)
def test_a_log_of_finished_jobs_finds_what_a_dict_of_its_pages_has(days):
    log, rows, last = DoneLog(retention_s=60, max_pages=4), {}, {}
    count = 0
    for first, jobs in days:
        for number in range(first, first + jobs):
            keys = log.add(job_id(number), count.to_bytes(8, "little"), "failed", NOW_MS, owner=b"ada")
            last[number] = count
            count += 1
            rows |= {key: log.snapshot(key) for key in keys}
    twin = DoneLog(retention_s=60, max_pages=4)
    for key, row in rows.items():
        if row is not None:
            twin.restore(key, row)
    kept = count // ENTRIES_A_PAGE - 4 if count >= 4 * ENTRIES_A_PAGE else 0
    for number, entry in last.items():
        found, again = log.find(job_id(number)), twin.find(job_id(number))
        assert found == again
        assert (found and found.payload) == (
            entry.to_bytes(8, "little") if entry >= kept * ENTRIES_A_PAGE else None
        )
    assert len(log) == len(twin)
