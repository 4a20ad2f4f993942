"""The policy under arbitrary rules and jobs: private work stays, first match wins, shares are stable, prices count."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_kit import NOW, config_of, decide, job

from shotbus.broker.config import PriceConfig
from shotbus.broker.policy.config import (
    CHOICES,
    CronWindowConfig,
    PrescreenConfig,
    RuleConfig,
    ShareConfig,
    Span,
    ThenConfig,
    WhenConfig,
)
from shotbus.broker.policy.facts import POOL_STATES, History, PoolView
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.windows import Window

BASE = config_of('[windows.night]\ncron = "0 22 * * *"\nminutes = 120\n')
POOLS = ("aer", "cheap", "good", "secret", "noop")
TENANTS = ("a", "b")
pools = st.sampled_from(POOLS)
shares = st.builds(
    ShareConfig,
    pool=pools,
    percent=st.sampled_from([0.0, 30.0, 100.0]),
    key=st.sampled_from(["job", "tenant"]),
)
steps = st.sampled_from([*POOLS, "cache:60", "defer:night", "demote:bulk", "review", "none"])
thens = st.builds(
    ThenConfig,
    pools=st.lists(pools, max_size=3, unique=True).map(tuple),
    choose=st.sampled_from(CHOICES),
    fallback=st.lists(steps, max_size=4).map(tuple),
    unknown=st.sampled_from(["next", "default", "first"]),
    explore=st.sampled_from([-1.0, 50.0]),
    prescreen=st.sampled_from(
        [
            PrescreenConfig(),
            PrescreenConfig("cheap", "min_ev", Span("..0")),
            PrescreenConfig("secret", "entropy", Span("1..")),
        ]
    ),
    shadow=shares,
    canary=shares,
    window=st.sampled_from(["", "night"]),
    sticky=st.booleans(),
)
whens = st.builds(
    WhenConfig,
    tenants=st.sampled_from([(), ("a",), ("!a",)]),
    intents=st.sampled_from([(), ("test",)]),
    points=st.sampled_from([Span(), Span("..5"), Span("6..")]),
)


def lists_of(then):
    """Some rules, named in order."""
    return st.lists(st.tuples(whens, then), max_size=4).map(
        lambda pairs: tuple(
            RuleConfig(name=f"r{n}", when=when, then=then) for n, (when, then) in enumerate(pairs)
        )
    )


rule_lists = lists_of(thens)
# Rules that private work can get through, so that what goes with a choice is seen too.
open_lists = lists_of(
    thens.map(lambda then: dataclasses.replace(then, pools=(*then.pools, "secret"), choose="first"))
)
jobs = st.builds(
    job,
    job_id=st.integers(0, 2**128 - 1).map("{:032x}".format),
    tenant=st.sampled_from(TENANTS),
    intent=st.sampled_from(["test", "explore"]),
    data_class=st.sampled_from(["", "private", "medical"]),
    points=st.integers(1, 10),
    backend=st.sampled_from(["", "", "", *POOLS]),
    session=st.sampled_from(["", "s"]),
    session_pool=st.sampled_from(["", *POOLS]),
    value=st.sampled_from([None, 10.0]),
    deadline_ms=st.sampled_from([None, None, NOW + 5_000]),
    family=st.sampled_from(["", "f"]),
    fallback=st.lists(steps, max_size=2).map(tuple),
)
views = st.dictionaries(
    pools,
    st.builds(
        PoolView,
        state=st.sampled_from(POOL_STATES),
        wait=st.sampled_from([None, (0.0, 1.0, 2.0), (10.0, 20.0, 30.0)]),
    ),
)
histories = st.dictionaries(
    st.tuples(st.just("f"), pools),
    st.builds(History, improvement=st.floats(-1, 1), comparisons=st.sampled_from([0, 20]), runs=st.just(20)),
)


def policy_of(rules, **more):
    routing = dataclasses.replace(BASE.routing, rules=tuple(rules))
    return Policy.compile(dataclasses.replace(BASE, routing=routing, **more))


def places(decision):
    """Every pool that the job or a copy of it is sent to by this decision."""
    found = [decision.pool, decision.shadow, decision.prescreen.pool if decision.prescreen else ""]
    return [pool for pool in found if pool]


@settings(max_examples=150)
@given(open_lists, jobs, st.sampled_from(["private", "private", "medical"]), views, histories)
def test_private_work_never_leaves_the_pools_that_name_it(rules, asked, data_class, seen, history):
    policy, asked = policy_of(rules), dataclasses.replace(asked, data_class=data_class, deadline_ms=None)
    decision = decide(policy, asked, seen, history=history)
    for _ in range(8):
        if asked.data_class == "private":
            assert set(places(decision)) <= {"secret"}
        elif asked.data_class == "medical":
            assert places(decision) == []
        if decision.refused:
            break
        decision = policy.follow(asked, decision, seen, history=history, now_ms=NOW)
    else:
        raise AssertionError("a chain ends")


@settings(max_examples=100)
@given(rule_lists, jobs, views, histories)
def test_a_decision_is_complete_and_the_same_every_time(rules, asked, seen, history):
    policy, other = policy_of(rules), policy_of(rules)
    decision = decide(policy, asked, seen, history=history)
    assert decision == decide(other, asked, seen, history=history)
    assert policy.signature(asked) == other.signature(asked)
    assert json.loads(json.dumps(decision.trail, allow_nan=False))
    assert (decision.action == "refuse") == bool(decision.problems)
    assert decision.pool or decision.action in ("refuse", "cache", "review")


@settings(max_examples=100)
@given(rule_lists, jobs, views, histories)
def test_the_first_rule_that_matches_decides_and_removing_another_that_did_not_changes_nothing(
    rules, asked, seen, history
):
    decision = decide(policy_of(rules), asked, seen, history=history)
    looked = {step["rule"]: step["matched"] for step in decision.trail if step["step"] == "rule"}
    passed = [step["rule"] for step in decision.trail if step["step"] in ("passed on", "unknown")]
    matched = [name for name in looked if looked[name] and name not in passed]
    assert matched in ([], [decision.rule]) or decision.rule == "(default)"
    for name in [rule.name for rule in rules if not looked.get(rule.name, False)]:
        without = decide(policy_of(rule for rule in rules if rule.name != name), asked, seen, history=history)
        assert dataclasses.replace(without, version="", trail=()) == dataclasses.replace(
            decision, version="", trail=()
        )


@settings(max_examples=100)
@given(rule_lists, jobs, jobs, views, histories)
def test_jobs_with_one_signature_get_one_decision(rules, first, second, seen, history):
    policy = policy_of(rules)
    alike = dataclasses.replace(first, job_id=second.job_id)
    assume(policy.signature(first) is not None and policy.signature(first) == policy.signature(alike))
    assert decide(policy, first, seen, history=history) == decide(policy, alike, seen, history=history)


@settings(max_examples=8)
@given(st.sampled_from([5.0, 10.0, 25.0, 50.0]), st.integers(0, 1_000_000))
def test_a_canary_has_its_share_and_a_larger_share_only_adds_jobs(percent, start):
    def chosen(share):
        then = ThenConfig(pools=("cheap",), canary=ShareConfig("good", share))
        policy = policy_of([RuleConfig(name="r", then=then)])
        ids = (f"{number:032x}" for number in range(start, start + 1_000))
        return {one for one in ids if decide(policy, job(job_id=one)).canary}

    inside = chosen(percent)
    assert abs(len(inside) / 10 - percent) < 5.5
    assert inside == chosen(percent)
    assert inside <= chosen(percent * 2)


@settings(max_examples=100)
@given(
    st.sampled_from(["cheapest", "gain"]),
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
    st.floats(0, 100),
    st.integers(0, 2),
)
def test_a_pool_that_becomes_dearer_is_never_chosen_where_it_was_not(choose, prices, more, which):
    names = ("aer", "cheap", "good")
    policy = policy_of([RuleConfig(name="r", then=ThenConfig(pools=names, choose=choose))])
    history = {("f", name): History(improvement=0.5 + n / 10, comparisons=20) for n, name in enumerate(names)}
    asked = job(family="f", value=200.0)

    def chosen(now):
        seen = {
            name: PoolView(price=PriceConfig(per_task=price)) for name, price in zip(names, now, strict=True)
        }
        return decide(policy, asked, seen, history=history).pool

    dearer = [price + more * (n == which) for n, price in enumerate(prices)]
    if chosen(prices) != names[which]:
        assert chosen(dearer) != names[which]


fields = st.tuples(
    st.sampled_from(["*", "0", "30", "*/20", "5-10"]),
    st.sampled_from(["*", "0", "22", "9-17", "*/6"]),
    st.sampled_from(["*", "1", "15", "28-31"]),
    st.sampled_from(["*", "2", "6-8"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
)


def starts(parts, moment):
    """Whether cron would start something in this minute, by the calendar of the standard library."""
    values = (moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7)

    def holds(text, value, low):
        body, _, step = text.partition("/")
        first, _, last = body.partition("-")
        if body == "*":
            return (value - low) % int(step or 1) == 0
        return int(first) <= value <= int(last or first)

    one = [holds(text, value, low) for text, value, low in zip(parts, values, (0, 0, 1, 1, 0), strict=True)]
    one[4] = one[4] or (parts[4] == "7" and values[4] == 0)
    days = one[2] or one[4] if "*" not in (parts[2], parts[4]) else one[2] and one[4]
    return one[0] and one[1] and one[3] and days


@settings(max_examples=150)
@given(fields, st.integers(1, 600), st.integers(0, 60 * 24 * 365 * 8), st.sampled_from([0, 90, -300]))
def test_windows_agree_with_the_calendar_minute_by_minute(parts, minutes, begin, offset):
    sign, away = "-" if offset < 0 else "+", abs(offset)
    text = f"{sign}{away // 60:02d}:{away % 60:02d}"
    window = Window.compile(CronWindowConfig(cron=" ".join(parts), minutes=minutes, utc_offset=text))
    local = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=begin)
    now_ms = (int(local.timestamp()) - offset * 60) * 1000
    wanted = any(starts(parts, local - timedelta(minutes=back)) for back in range(minutes))
    assert window.is_open(now_ms) == wanted
    opens = window.next_open_ms(now_ms)
    assert window.is_open(opens)
    if opens > now_ms:
        assert not window.is_open(opens - 1)
        ahead = min((opens - now_ms) // 60_000, 3_000)
        assert not any(starts(parts, local + timedelta(minutes=step)) for step in range(ahead))
