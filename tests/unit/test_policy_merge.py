"""A file over the policy in force: what it does not mention stays, what goes must be said, mistakes have places."""

import pytest
from dispatcher_kit import config

from shotbus.broker.policy.merge import PolicyChange
from shotbus.broker.policy.reload import policy_document
from shotbus.schemas.errors import ShotbusError


def rule(name, pool="noop", **when):
    return {"name": name, "when": when, "then": {"pools": [pool]}}


IN_FORCE = PolicyChange(
    {
        "routing": {"min_history": 7, "rules": [rule("a"), rule("b", window="night"), rule("c")]},
        "windows": {"night": {"cron": "0 3 * * *", "minutes": 30}},
        "families": {"vqe": {"versions": ["1"], "qubits": "..8"}},
        "flags": {"new": 10},
        "latency": {"quick": {"total": 5.0}},
        "pools": {
            "aer": {"price": {"per_task": 2.0, "per_shot": 0.1}, "access": {"data_classes": ["internal"]}}
        },
    }
).over(config())


def over(document, *remove, replace=False):
    sent = PolicyChange(document, remove, replace).as_arguments()
    return PolicyChange.of(sent).over(IN_FORCE)


def order(*names, **more):
    return [
        one.name for one in over({"routing": {"rules": [rule(name) for name in names]}}, **more).routing.rules
    ]


def problems(document, *remove):
    with pytest.raises(ShotbusError) as error:
        over(document, *remove)
    return [(one.path, one.actual) for one in error.value.problems]


def test_nothing_said_is_nothing_changed():
    assert over({}) == IN_FORCE
    assert (
        over({"routing": {}, "windows": {}, "flags": {}, "pools": {"aer": {"price": {}}, "noop": {}}})
        == IN_FORCE
    )
    assert over(policy_document(IN_FORCE)) == IN_FORCE


def test_tables_go_key_by_key():
    found = over(
        {
            "windows": {"night": {"minutes": 60}, "noon": {}},
            "families": {"vqe": {"qubits": "..9"}},
            "flags": {"newer": True},
            "pools": {"aer": {"price": {"per_task": 3.0}}, "noop": {"access": {"roles": ["op"]}}},
        }
    )
    assert (found.windows["night"].cron, found.windows["night"].minutes) == ("0 3 * * *", 60)
    assert list(found.windows) == ["night", "noon"]
    assert (found.families["vqe"].versions, str(found.families["vqe"].qubits)) == (("1",), "..9")
    assert found.flags == {"new": 10.0, "newer": 100.0}
    price, access = found.pools["aer"].price, found.pools["aer"].access
    assert (price.per_task, price.per_shot, access.data_classes) == (3.0, 0.1, ("internal",))
    assert found.pools["noop"].access.roles == ("op",)
    assert found.routing == IN_FORCE.routing


@pytest.mark.parametrize(
    ("told", "merged"),
    [
        (["n"], "nabc"),
        (["b", "n"], "abnc"),
        (["n", "m", "c"], "nmabc"),
        (["c", "a"], "cba"),
        (["a", "n", "m", "b", "c"], "anmbc"),
        (["n", "c", "m", "b"], "nacmb"),
        ([], ""),
    ],
)
def test_rules_go_by_their_names_and_keep_the_order_that_was_said(told, merged):
    assert order(*told) == list(merged)


def test_a_rule_of_the_same_name_goes_in_its_place_whole():
    found = over({"routing": {"rules": [rule("b", "aer", classes=["bulk"])]}}).routing
    assert [one.name for one in found.rules] == ["a", "b", "c"]
    assert (found.rules[1].when.window, found.rules[1].when.classes) == ("", ("bulk",))
    assert found.min_history == 7


def test_what_is_removed_goes_before_the_document_counts():
    found = over({"windows": {"night": {}}}, "windows.night", "rules.b", "pools.aer.price", "flags.new")
    assert found.windows["night"].cron == "0 0 * * *"
    assert [one.name for one in found.routing.rules] == ["a", "c"]
    assert (found.pools["aer"].price.per_task, found.flags) == (0.0, {})
    assert found.pools["aer"].access == IN_FORCE.pools["aer"].access


def test_a_whole_document_leaves_nothing_of_what_it_does_not_mention():
    found = over({"flags": {"newer": 1}}, replace=True)
    assert found.flags == {"newer": 1.0}
    assert (found.windows, found.families, found.latency, found.routing.rules) == ({}, {}, {}, ())
    assert found.pools == config().pools
    assert found.limits == IN_FORCE.limits


def test_a_name_that_cannot_be_removed_is_refused():
    assert problems({}, "windows.noon", "rules.z", "pools.aer.slots", "pools.qpu.price", "noon") == [
        ("--remove", path)
        for path in ("windows.noon", "rules.z", "pools.aer.slots", "pools.qpu.price", "noon")
    ]
    found = problems({}, "windows.night")
    assert found == [('$.routing.rules["b"].when.window', "night")]


def test_mistakes_stand_where_the_document_has_them():
    document = {
        "windwos": {},
        "pools": {"aer": {"pirce": 1}, "qpu": {}},
        "routing": {"rules": [rule("z", "x")]},
    }
    assert problems(document) == [
        ("$.windwos", "windwos"),
        ("$.pools.qpu", "qpu"),
        ("$.pools.aer.pirce", "pirce"),
        ("$.routing.rules[0].then.pools", "x"),
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"windows": 3},
        {"pools": 3},
        {"pools": {"aer": 3}},
        {"pools": {"aer": {"price": 3}}},
        {"routing": {"rules": 3}},
        {"routing": {"rules": {}}},
        {"routing": {"rules": [3]}},
        {"routing": {"rules": [{"name": 3}]}},
        {"routing": {"rules": [rule("n"), rule("n")]}},
        {"flags": {"new": None}},
    ],
    ids=str,
)
@pytest.mark.parametrize("replace", [False, True])
def test_what_has_the_wrong_form_is_refused(document, replace):
    with pytest.raises(ShotbusError):
        over(document, replace=replace)


@pytest.mark.parametrize(
    "arguments", [{}, {"policy": "{"}, {"policy": "[]"}, {"policy": "{}", "remove": "3"}], ids=str
)
def test_a_record_that_holds_no_policy_is_refused(arguments):
    with pytest.raises(ShotbusError) as error:
        PolicyChange.of(arguments)
    assert [one.code for one in error.value.problems] == ["SB-1108"]
