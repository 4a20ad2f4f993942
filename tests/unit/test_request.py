"""Requests: built whole or refused whole, and hashed over what makes the job what it is."""

import dataclasses

import numpy as np
import pytest
from edge_kit import codes, refusal
from embedded_kit import BELL, ROTATED

from shotbus.broker.config import Config, LimitsConfig, PoolConfig
from shotbus.producers.request import (
    DEFAULT_SHOTS,
    Wishes,
    build_request,
    check_envelope,
    is_solving,
    question_of,
)
from shotbus.producers.wishes import INTENTS, check_wishes
from shotbus.schemas.codec import decode_untrusted, encode
from shotbus.schemas.pub import Bindings, PauliSums, ProblemStatement, unpack_bindings
from shotbus.schemas.registry import SchemaKey, raw_schema

NOW_US = 1_700_000_000_000_000
WISHES = Wishes(principal="me")
PROBLEM = ProblemStatement.hamiltonian(PauliSums.from_terms([[("ZZ", 1.0)]]))


def question(circuit=BELL, bindings=None, **asked):
    return question_of(circuit, bindings, **{"shots": None, "observables": None, "precision": None} | asked)


def built(asked=None, wishes=WISHES, config=None):
    return build_request(
        asked or question(),
        wishes,
        config=config or Config(),
        origin={"code_commit": "abc", "sdk_versions": {"qiskit": "2"}},
        entropy=bytes(12),
        now_us=NOW_US,
    )


def wish(**changes):
    return dataclasses.replace(WISHES, **changes)


def test_a_request_is_valid_avro_from_the_outside():
    wishes = wish(
        tags=["a"],
        options={"layout": "v"},
        problem=PROBLEM,
        seed=1,
        value=2.5,
        deadline_ms=NOW_US // 1000 + 9,
    )
    fields = built(question(), wishes)
    assert decode_untrusted(encode("circuit_request", fields), "circuit_request")["tags"] == ["a"]


def test_a_request_carries_all_the_provenance_of_its_caller():
    fields = built(wishes=wish(experiment="e", intent="test", family="f", family_version="2"))
    told = {
        name: fields[name] for name in ("experiment", "intent", "family", "family_version", "code_commit")
    }
    assert told == {
        "experiment": "e",
        "intent": "test",
        "family": "f",
        "family_version": "2",
        "code_commit": "abc",
    }
    assert fields["expected"] == {"registers": [{"name": "c", "width": 2}], "observables": 0, "shape": [1]}


def test_bindings_travel_packed_and_come_back():
    fields = built(question(ROTATED, np.arange(6.0).reshape(3, 2)))
    assert unpack_bindings(fields["bindings"], points=3).matrix.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("asked", "mode", "shots"),
    [
        ({}, "sample", DEFAULT_SHOTS),
        ({"shots": np.int64(7)}, "sample", 7),
        ({"observables": "ZZ"}, "estimate", 0),
        ({"observables": "ZZ", "shots": 9}, "estimate", 9),
        ({"observables": "ZZ", "precision": 0.1}, "estimate", 100),
        ({"observables": "ZZ", "precision": 0}, "estimate", 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", [None, PROBLEM], ids=["alone", "with a problem"])
def test_mode_and_shots_follow_from_what_is_asked(asked, mode, shots, problem):
    fields = built(question(**asked), wish(problem=problem))
    assert (fields["mode"], fields["shots"]) == (mode, shots)


@pytest.mark.parametrize("shots", [None, 9])
def test_a_problem_alone_is_estimated(shots):
    fields = built(question(shots=shots, solving=True), wish(problem=PROBLEM, backend="classical"))
    assert (fields["mode"], fields["shots"], fields["observables"]) == ("estimate", shots or 0, b"")


POOLS = Config().pools | {"exact": PoolConfig(kind="classical"), "solver": PoolConfig(adapter="classical")}


@pytest.mark.parametrize(
    ("problem", "backend", "expected"),
    [
        (PROBLEM, "classical", True),
        (PROBLEM, "exact", True),
        (PROBLEM, "solver", True),
        (PROBLEM, "aer", False),
        (PROBLEM, "noop", False),
        (PROBLEM, "unheard-of", False),
        (PROBLEM, "", False),
        (PROBLEM, 7, False),
        (None, "classical", False),
    ],
    ids=str,
)
def test_a_problem_is_only_to_be_solved_where_a_solver_is_asked_for(problem, backend, expected):
    assert is_solving(problem, backend, Config(pools=POOLS)) is expected


def test_only_a_solver_does_without_bindings_observables_and_measurements():
    bare = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float[64] a;\nqubit[2] q;\nrx(a) q[0];\n'
    assert codes(question, bare) == ["SB-1301", "SB-1218"]
    assert codes(question, bare, solving=True) == []
    assert codes(question, bare, [[1, 2]], observables="Z", solving=True) == ["SB-1304", "SB-1402"]


PAYLOAD = [
    {"asked": {"shots": 5}},
    {"asked": {"observables": "ZZ"}},
    {"asked": {"circuit": BELL + "\n"}},
    {"asked": {"circuit": ROTATED, "bindings": [0, 1]}},
    {"asked": {"circuit": ROTATED, "bindings": [0, 2]}},
    {"wishes": {"seed": 1}},
    {"wishes": {"seed": 2}},
    {"wishes": {"backend": "aer"}},
    {"wishes": {"intent": "test"}},
    {"wishes": {"options": {"layout": "b"}}},
    {"wishes": {"options": {"layout": "c"}}},
    {"wishes": {"problem": PROBLEM}},
]
LABELS = [
    {"priority": "bulk"},
    {"deadline_ms": NOW_US // 1000 + 9},
    {"not_before_ms": 5},
    {"tags": ["x"]},
    {"experiment": "e"},
    {"principal": "you"},
    {"value": 3.0},
    {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"},
]


def hash_of(asked=None, wishes=None):
    return built(question(**(asked or {})), wish(**(wishes or {})))["payload_hash"]


def test_each_part_of_the_payload_changes_its_hash():
    hashes = [hash_of(), *(hash_of(**change) for change in PAYLOAD)]
    assert len(set(hashes)) == len(hashes)
    assert {len(one) for one in hashes} == {16}


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_times_class_and_labels_do_not(labels):
    assert hash_of(wishes=labels) == hash_of()


def test_with_a_key_the_id_is_known_before_any_reply():
    keyed = wish(idempotency_key="k")
    assert built(wishes=keyed)["job_id"] == built(question(shots=5), keyed)["job_id"]


def test_right_bindings_are_not_blamed_for_a_wrong_circuit():
    given = Bindings(("theta",), np.zeros((3, 1)))
    assert codes(question, "OPENQASM 3.0;\nqubit[1] q;\nhh q[0];", given) == ["SB-1208"]


def test_a_wrong_pub_is_said_part_by_part():
    found = codes(question, "OPENQASM 3.0;\nqubit[1] q;\nhh q[0];", [1], shots=-1, observables="Q")
    assert found == ["SB-1208", "SB-1401", "SB-1103"]


def test_wrong_observables_do_not_make_an_exact_job_a_sampling_one():
    assert codes(question, shots=0, observables="QQ") == ["SB-1401"]


def test_everything_but_the_pub_is_checked_without_it():
    wishes = wish(tenant="x" * 300, priority="urgent", seed=-1, deadline_ms=1, intent="fun", tags=7)
    found = {
        one.path: one.code for one in check_envelope(wishes, Config(), shots=10**9, now_ms=NOW_US // 1000)
    }
    assert found == {
        "$.intent": "SB-1108",
        "$.tags": "SB-1108",
        "$.tenant": "SB-1105",
        "$.shots": "SB-1103",
        "$.seed": "SB-1108",
        "$.deadline": "SB-1104",
        "$.priority": "SB-1101",
    }


def test_a_request_that_is_built_says_the_same():
    wishes = wish(priority="urgent", intent="fun")
    assert sorted(one.path for one in refusal(built, wishes=wishes)) == ["$.intent", "$.priority"]


def test_the_limits_are_the_configurations():
    config = Config(limits=LimitsConfig(max_shots=10, max_points=2, max_field=64, max_circuit_bytes=64))
    assert codes(built, question(shots=11), config=config) == ["SB-1103", "SB-1201"]
    assert "SB-1305" in codes(built, question(ROTATED, np.zeros((3, 2))), config=config)


def test_sound_wishes_are_of_the_right_kinds():
    assert check_wishes(WISHES) == []
    assert check_wishes(wish(value=np.float32(1.5), seed=5, tags=("a",), max_result_age_ms=0)) == []


def test_intents_are_those_of_the_schema():
    fields = raw_schema(SchemaKey("circuit_request", 1))["fields"]
    (intent,) = [one["type"]["symbols"] for one in fields if one["name"] == "intent"]
    assert list(INTENTS) == intent
