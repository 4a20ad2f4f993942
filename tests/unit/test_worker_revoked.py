"""Revocations in a worker: remembered for a while, taken out of bundles, told to who runs the bundle."""

from hypothesis import given
from hypothesis import strategies as st

from shotbus.workers.revoked import Revoked

SECONDS = 10.0


def bundle(name="b", jobs=("1", "2"), purpose="run"):
    return {"bundle_id": name, "purpose": purpose, "items": [{"job_id": one} for one in jobs]}


def parted(revoked, one):
    return tuple([item["job_id"] for item in part] for part in revoked.part(one))


def test_what_was_revoked_before_its_bundle_came_is_taken_out_of_it():
    revoked = Revoked(SECONDS)
    revoked.learn("b", ["2"], 0.0)
    assert parted(revoked, bundle()) == (["1"], ["2"])
    assert parted(revoked, bundle("other")) == (["1", "2"], [])


def test_revocations_of_one_bundle_add_up_and_a_repeated_one_changes_nothing():
    revoked = Revoked(SECONDS)
    for jobs in (["2"], ["2"], ["1"], []):
        revoked.learn("b", jobs, 0.0)
    assert parted(revoked, bundle()) == ([], ["1", "2"])


def test_a_look_up_is_wanted_whatever_was_revoked():
    revoked, calls = Revoked(SECONDS), []
    looking = bundle(purpose="look_up")
    with revoked.watching(looking, lambda: calls.append(1)):
        revoked.learn("b", ["1", "2"], 0.0)
    assert parted(revoked, looking) == (["1", "2"], [])
    assert calls == []


def test_a_run_is_told_once_when_its_last_job_is_revoked_and_not_before():
    revoked, calls = Revoked(SECONDS), []
    with revoked.watching(bundle(), lambda: calls.append(1)):
        revoked.learn("b", ["1"], 0.0)
        revoked.learn("other", ["1", "2"], 0.0)
        assert calls == []
        revoked.learn("b", ["2"], 0.0)
        revoked.learn("b", ["2"], 0.0)
    revoked.learn("b", ["2"], 0.0)
    assert calls == [1]


def test_a_run_of_what_was_left_of_a_bundle_is_told_when_that_is_revoked():
    revoked, calls = Revoked(SECONDS), []
    revoked.learn("b", ["1"], 0.0)
    with revoked.watching(bundle(jobs=("2",)), lambda: calls.append(1)):
        revoked.learn("b", ["2"], 1.0)
    assert calls == [1]


def test_who_wants_to_know_each_revocation_is_told_it_and_of_a_look_up_nothing():
    revoked, told = Revoked(SECONDS), []
    with revoked.telling(bundle(), told.append), revoked.telling(bundle("l", purpose="cancel"), told.append):
        for name in ("b", "other", "l"):
            revoked.learn(name, ["2"], 0.0)
        revoked.learn("b", ["1", "2"], 0.0)
    revoked.learn("b", ["1"], 0.0)
    assert told == [["2"], ["1", "2"]]


def test_after_a_while_a_revocation_is_forgotten():
    revoked = Revoked(SECONDS)
    revoked.learn("b", ["1"], 0.0)
    revoked.learn("c", ["1"], SECONDS - 1)
    assert len(revoked) == 2
    revoked.learn("d", ["1"], SECONDS)
    assert len(revoked) == 2
    assert parted(revoked, bundle()) == (["1", "2"], [])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("12"), st.integers(0, 4)), max_size=60))
def test_what_is_remembered_is_bounded_and_never_forgotten_early_while_there_is_room(steps):
    revoked, now, heard = Revoked(SECONDS, most=6), 0.0, {}
    for name, job, wait in steps:
        now += wait
        revoked.learn(name, [job], now)
        heard[name] = now
        assert len(revoked) <= 6
        assert job in parted(revoked, bundle(name))[1]
        for known, at in heard.items():
            assert bool(parted(revoked, bundle(known))[1]) == (at + SECONDS > now)


def test_the_bundle_that_was_heard_of_longest_ago_makes_room():
    revoked = Revoked(SECONDS, most=2)
    for name in ("a", "b", "a", "c"):
        revoked.learn(name, ["1"], 0.0)
    assert [bool(parted(revoked, bundle(name))[1]) for name in "abc"] == [True, False, True]
