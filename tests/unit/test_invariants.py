"""The checker on records made by hand: each rule fails when it should, and nothing is claimed that was not judged."""

from dataclasses import replace

import pytest
from dispatcher_kit import PROVENANCE, START_MS, job_id, outcome, request_bytes
from dispatcher_kit import item as outcome_item

from shotbus.broker.bus.base import Record
from shotbus.broker.deadletters import PREFIX
from shotbus.broker.dispatcher.states import TABLE, WORDS
from shotbus.broker.invariants import (
    CATALOG,
    Bounds,
    Checker,
    History,
    ProviderLedger,
    Submission,
)
from shotbus.schemas.codec import encode

JOB = job_id(1)
QUEUED, FORWARDED, DONE = ("QUEUED", "WAITING_FOR_SLOT"), ("QUEUED", "FORWARDED"), ("DONE", "")
LIFE = (("accept", *QUEUED, 0), ("forward", *FORWARDED, 1), ("succeeded", *DONE, 1))


def event(cause, state, sub_status, attempt, job=JOB, tenant="ada"):
    texts = dict.fromkeys(("pool", "sweep_id", "traceparent", "stage"), "")
    return texts | {
        "job_id": job,
        "cause": cause,
        "state": state,
        "sub_status": sub_status,
        "attempt": attempt,
        "tenant": tenant,
    }


class Feed:
    """A checker and what it is fed with."""

    def __init__(self, **options):
        self.checker = Checker(**{"complete": True} | options)
        self.count = 0

    def take(self, topic, value, headers=(), at_ms=None):
        self.count += 1
        at_ms = START_MS + self.count if at_ms is None else at_ms
        self.checker.take(topic, Record(topic, 0, self.count, b"k", value, tuple(headers), at_ms))
        return self

    def events(self, *steps, sequence=None, **options):
        fields = {"shard": 0, "sequence": sequence or self.count + 1, "at_us": 0}
        return self.take(
            "events", encode("event_batch", {**fields, "events": [event(*one) for one in steps]}), **options
        )

    def result(self, outcome="succeeded", attempt=1, tenant="ada", provenance=PROVENANCE, job=JOB):
        texts = ("sweep_id", "pool", "experiment", "intent", "request_topic")
        numbers = ("points", "shots", "seed", "bytes_in", "request_partition", "request_offset")
        times = ("submitted_us", "accepted_us", "finished_us")
        fields = dict.fromkeys(texts, "") | dict.fromkeys((*numbers, *times), 0)
        fields |= {
            "job_id": job,
            "tenant": tenant,
            "shard_index": -1,
            "outcome": outcome,
            "executed_on": "here",
        }
        fields |= {"attempt": attempt, "circuit_id": "c", "payload": b"", "problems": [], "timings": b""}
        return self.take(
            "results", encode("circuit_result", fields | {"provenance": provenance, "cache_key": ""})
        )

    def rules(self, **options):
        report = self.checker.report(**{"over": True} | options)
        return {one.rule for one in report.violations}


def test_a_whole_life_breaks_nothing():
    assert Feed().events(*LIFE).result().rules() == set()


@pytest.mark.parametrize("complete", [True, False])
def test_every_move_of_the_table_is_allowed_and_follows_its_source(complete):
    for (source, cause), target in TABLE.items():
        steps = [] if source is None else [("?", *WORDS[source], 0)]
        feed = Feed(complete=False)
        feed.events(*steps, (cause.value, *WORDS[target], 1 if cause.value == "forward" else 0))
        assert "states-follow-the-table" not in feed.rules(over=False), (source, cause)
    begun_in_the_middle = Feed(complete=complete).events(LIFE[1]).rules(over=False)
    assert ("states-follow-the-table" in begun_in_the_middle) == complete


@pytest.mark.parametrize(
    ("rule", "feed"),
    [
        ("one-terminal-result", Feed().events(*LIFE).result().result()),
        ("an-end-has-a-result", Feed().events(*LIFE)),
        ("the-result-is-the-end", Feed().events(*LIFE).result("failed")),
        ("a-job-ends", Feed().events(*LIFE[:2])),
        ("a-result-has-an-acceptance", Feed().result()),
        ("events-in-sequence", Feed().events(*LIFE[:2], sequence=7).events(LIFE[2], sequence=7)),
        ("attempts-add-up", Feed().events(LIFE[0], ("forward", *FORWARDED, 2))),
        ("states-follow-the-table", Feed().events(*LIFE, LIFE[1])),
        ("provenance-is-complete", Feed().events(*LIFE).result(provenance=b"")),
        ("provenance-is-complete", Feed().events(*LIFE).result(provenance=PROVENANCE.replace(b"host", b"h"))),
        ("records-are-readable", Feed().take("results", b"nonsense")),
    ],
)
def test_a_broken_promise_of_a_job_is_found(rule, feed):
    assert rule in feed.rules()


@pytest.mark.parametrize("holder", ["first", "second"])
def test_what_another_lease_reported_is_no_result(holder):
    told = outcome_item(JOB, 1) | {"payload": b"", "shots": 0}
    feed = Feed().events(*LIFE).result()
    for lease, kind, items in (("first", "started", ()), (holder, "finished", [told])):
        fields = outcome(kind, "b", lease=lease, items=items) | {"provenance": PROVENANCE}
        feed.take("outcomes", encode("outcome", fields))
    assert feed.rules() == ({"stale-attempts-are-fenced"} if holder == "second" else set())


def test_a_bill_is_paid_once_within_the_budget_and_never_after_a_cancel():
    gone = (LIFE[0], ("cancelled", "CANCELLED", "", 0))
    ledger = ProviderLedger(("paid",), [Submission("t", JOB, attempt, 1.0, "ada", 6.0) for attempt in (1, 2)])
    feed = Feed(bounds=Bounds(budgets={"ada": 10.0})).events(*gone).result("cancelled", 0)
    assert feed.rules(ledger=ledger) == {
        "billed-once",
        "spend-within-the-limit",
        "no-submission-after-cancel",
    }
    known = ProviderLedger(
        ("paid",), [Submission("t", JOB, 1, 1.0), Submission("t", JOB, 2, 2.0, billed=False)]
    )
    assert Feed().events(*LIFE).result().rules(ledger=known) == set()


@pytest.mark.parametrize("error_class", ["UNSTABLE", "LOST", ""])
@pytest.mark.parametrize("tokens", ["tt", "tu"])
def test_another_bill_is_right_only_after_the_providers_word_that_the_first_is_over(error_class, tokens):
    again = ("retry", "QUEUED", "RETRYING", 1), ("due", *QUEUED, 1)
    again = (*again, ("forward", *FORWARDED, 2), ("succeeded", *DONE, 2))
    feed = Feed().events(*LIFE[:2], *again).result(attempt=2)
    first = outcome_item(JOB, 1, error_class or "UNSTABLE") | {"provider_job_id": "p" if error_class else ""}
    for bundle, told in (("a", first), ("b", outcome_item(JOB, 2) | {"payload": b"", "shots": 0})):
        fields = outcome("finished", bundle, items=[told]) | {"provenance": PROVENANCE, "pool": "paid"}
        feed.take("outcomes", encode("outcome", fields))
    bills = [Submission(token, JOB, number, 1.0) for number, token in enumerate(tokens, 1)]
    right = error_class == "UNSTABLE" and tokens == "tu"
    assert feed.rules(ledger=ProviderLedger(("paid",), bills)) == (set() if right else {"billed-once"})


def test_histories_are_held_against_the_answers():
    history = History(complete=True)
    for key, job, fingerprint in (("k", JOB, "one"), ("k", job_id(2), "one"), ("", JOB, "two")):
        history.invoke("submit", job, "bob", 0.0, key=key, fingerprint=fingerprint).ok(1.0)
    history.invoke("submit", job_id(3), "bob", 0.0).unknown(1.0)
    feed = Feed().events(*LIFE[:1], ("cancelled", "CANCELLED", "", 0)).result("cancelled", 0)
    assert feed.rules(history=history) == {
        "one-key-is-one-job",
        "another-payload-is-refused",
        "a-submission-is-answered",
        "answers-go-to-their-tenant",
        "only-its-tenant-cancels",
    }


def test_a_letter_is_what_was_submitted_and_somebody_was_told():
    headers = [(f"{PREFIX}topic", b"shotbus.requests.bulk")]
    history = History()
    history.invoke("submit", JOB, "ada", 0.0, raw=request_bytes(1) + b"\0").ok(1.0)
    feed = Feed().take("dead-letters", request_bytes(1), headers)
    assert {"a-letter-has-an-answer", "a-letter-keeps-the-bytes"} <= feed.rules(history=history)


def test_bounds_of_waiting_and_healing_are_kept():
    bounds = Bounds(wait_seconds=5.0, healed_ms=START_MS, heal_seconds=10.0)
    feed = Feed(bounds=bounds).events(LIFE[0], at_ms=START_MS)
    feed.events(*LIFE[1:], at_ms=START_MS + 20_000).result()
    assert feed.rules() == {"bounded-wait", "healed-in-time"}


def test_what_still_waits_and_has_not_ended_is_judged_by_the_time_of_the_look():
    bounds = Bounds(wait_seconds=5.0, healed_ms=START_MS, heal_seconds=10.0)
    for seconds, rules in ((4, set()), (8, {"bounded-wait"}), (20, {"bounded-wait", "healed-in-time"})):
        now_ms = START_MS + seconds * 1000
        feed = Feed(bounds=replace(bounds, now_ms=now_ms)).events(LIFE[0], at_ms=START_MS)
        assert feed.rules(over=False) == rules
    assert Feed(bounds=bounds).events(LIFE[0], at_ms=START_MS).rules(over=False) == set()


def test_what_was_deleted_by_its_reader_is_told_as_that():
    feed = Feed(trimmed=("outcomes",)).events(*LIFE).result()
    feed.take("outcomes", encode("outcome", outcome("started", "b")))
    told = feed.checker.report(over=False).unjudged["I3"]
    assert told == "no provider's ledger, outcomes are deleted once they were read"


def test_what_was_not_fed_is_not_claimed():
    report = Feed().events(*LIFE).result().checker.report(over=False)
    assert report.judged.keys() == CATALOG.keys()
    assert report.unjudged["I6"] == "no client's history"
    assert report.unjudged["I14"] == "no topic audit"
    assert not {"I2", "I4", "I5"} & report.unjudged.keys()
    assert [name for name, count in report.judged.items() if not count and name not in report.unjudged] == []
