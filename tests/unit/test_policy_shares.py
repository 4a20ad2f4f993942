"""Canary, shadow, data classes and what changed between two versions."""

import pytest
from policy_kit import config_of, decide, job, looked_at, rule

from shotbus.broker.config import Config
from shotbus.broker.policy.diff import diff
from shotbus.broker.policy.facts import PoolView
from shotbus.broker.policy.policy import Policy

CANARY = 'then = {{ pools = ["cheap"], canary = {{ pool = "good", percent = {percent}, key = "{key}" }} }}'


def jobs(count, **fields):
    return [job(job_id=f"{number:032x}", **fields) for number in range(count)]


def test_a_session_or_a_tenant_is_wholly_in_or_out_of_a_canary():
    by_session = rule(CANARY.format(percent=50, key="session"))
    by_tenant = rule(CANARY.format(percent=50, key="tenant"))
    for name in ("a", "b", "c", "d"):
        assert len({decide(by_session, one).pool for one in jobs(20, session=name)}) == 1
        assert len({decide(by_tenant, one).pool for one in jobs(20, tenant=name)}) == 1
    assert len({decide(by_session, one).pool for one in jobs(40)}) == 2


def test_a_canary_that_cannot_take_work_leaves_the_job_where_it_was():
    decision = decide(rule(CANARY.format(percent=100, key="job")), views={"good": PoolView(state="unserved")})
    assert (decision.pool, decision.canary) == ("cheap", False)
    assert looked_at(decision, "canary")[0]["rejected"] == ["state: unserved, limit ready"]


def test_a_shadow_copy_does_not_change_where_the_job_goes():
    policy = rule('then = { pools = ["cheap"], shadow = { pool = "good", percent = 100 } }')
    decision = decide(policy)
    assert (decision.pool, decision.shadow) == ("cheap", "good")


BEHIND = """
[[routing.rules]]
name = "guard"
when = {{ classes = ["*"] }}
then = {{ pools = ["good"], require = ["{demand}"] }}
"""


@pytest.mark.parametrize("share", ["canary", "shadow"])
def test_no_share_goes_where_another_rule_demands_what_the_job_has_not_met(share):
    then = f'pools = ["cheap"], {share} = {{ pool = "good", percent = 100 }}'
    policy = rule(f"then = {{ {then} }}" + BEHIND.format(demand="green_run"))
    decision = decide(policy)
    assert (decision.pool, decision.canary, decision.shadow) == ("cheap", False, "")
    assert looked_at(decision, share)[0]["rejected"] == ["demanded: not met, limit green_run"]
    met = decide(policy, job(satisfied=("green_run",)))
    assert "good" in (met.pool, met.shadow)
    same = rule(f'then = {{ {then}, require = ["green_run"] }}' + BEHIND.format(demand="green_run"))
    assert "good" in (decide(same).pool, decide(same).shadow)


def test_private_work_goes_only_where_its_class_is_named():
    policy = rule('then = { pools = ["cheap", "secret"] }')
    assert decide(policy, job(data_class="private")).pool == "secret"
    assert decide(policy, job(data_class="public")).pool == "cheap"
    refused = decide(policy, job(data_class="medical"))
    assert [one.code for one in refused.problems] == ["SB-1153", "SB-1153"]
    named = decide(policy, job(data_class="private", backend="cheap"))
    assert (named.problems[0].code, named.problems[0].limit) == ("SB-1153", "cheap: public data only")


def test_private_work_is_refused_by_a_default_pool_that_may_not_see_it():
    decision = decide(Policy.compile(Config()), job(data_class="private"))
    assert (decision.refused, decision.problems[0].code) == (True, "SB-1153")


def test_what_may_see_data_is_asked_about_in_one_place():
    policy = rule("then = {}")
    assert policy.admits("secret", "private")
    assert not policy.admits("cheap", "private")
    assert policy.admits("cheap", "")
    assert not policy.admits("nowhere", "")


RULES = """
[[routing.rules]]
name = "a"
then = { pools = ["cheap"] }
[[routing.rules]]
name = "b"
when = { classes = ["bulk"] }
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", '[routing]\ndefault = "good"', ['routing.default: "aer" -> "good"']),
        (RULES, RULES.replace("cheap", "good"), ['rule \'a\': then.pools: ["cheap"] -> ["good"]']),
        (RULES, "", ["rule 'a' is gone", "rule 'b' is gone"]),
        ("[flags]\nx = 5", "[flags]\nx = 50", ["flags.x: 5.0 -> 50.0"]),
        ("", "[pools.good.price]\nper_shot = 0.5", None),
        ("[windows.n]\nminutes = 5", "", ["windows.n is gone"]),
    ],
)
def test_a_change_is_told_in_words_and_makes_a_new_version(old, new, words):
    if words is None:
        before, after = Config(), config_of("[pools.aer.price]\nper_shot = 0.5", pools=False)
        words = ["pools.aer.price.per_shot: 0.0 -> 0.5"]
    else:
        before, after = config_of(old), config_of(new)
    assert diff(before, after) == words
    assert Policy.compile(before).version != Policy.compile(after).version


def test_a_new_rule_is_told_with_its_place_and_what_it_says_and_an_order_that_changed_too():
    first, second = RULES.split('[[routing.rules]]\nname = "b"')
    second = '[[routing.rules]]\nname = "b"' + second
    assert diff(config_of(first), config_of(RULES)) == [
        'rule \'b\' is new, after \'a\': {"when": {"classes": ["bulk"]}}'
    ]
    assert diff(config_of(RULES), config_of(second + first)) == ["rules are in another order: b, a"]


def test_what_decides_nothing_changes_no_version():
    other = config_of("[limits]\nmax_tags = 5\n[log]\nlevel = 'debug'", pools=False)
    assert diff(Config(), other) == []
    assert Policy.compile(Config()).version == Policy.compile(other).version
