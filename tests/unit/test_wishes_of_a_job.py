"""What a caller wishes for besides a run: it reaches the request, counts as another payload where it must, and fits."""

import pytest
from dispatcher_kit import request
from embedded_kit import BELL

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_request
from shotbus.producers.options import wishes_of
from shotbus.producers.request import build_request, question_of
from shotbus.producers.wishes import Wishes, check_keys, check_wishes
from shotbus.schemas.codec import decode_untrusted, encode
from shotbus.schemas.ids import affine_route, job_id, route_of
from shotbus.schemas.payload import payload_hash

WISHES = {
    "fallback": ["cache:60", "noop"],
    "top_up": True,
    "unique_key": "k",
    "unique_policy": "reject",
    "window": "night",
    "data_class": "private",
    "value_per_second": 0.5,
    "confidence": 0.25,
    "speculate": "compare",
    "max_cost": 3.0,
    "roles": ["operator"],
}


def wish(**changes):
    return Wishes(principal="me", **changes)


def built(wishes):
    question = question_of(BELL, None, shots=9, observables=None, precision=None)
    origin = {"code_commit": "", "sdk_versions": {}}
    return build_request(question, wishes, config=Config(), origin=origin, entropy=bytes(12), now_us=1)


def test_every_wish_reaches_the_request():
    wishes, problems = wishes_of(dict(WISHES))
    assert problems == check_wishes(wishes) == []
    fields = decode_untrusted(encode("circuit_request", built(wishes)), "circuit_request")
    assert {name: fields[name] for name in WISHES} == WISHES


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"top_up": True}, True),
        ({"tolerance": 0.1}, True),
        ({"tolerance": 0.0}, True),
        ({"fallback": ["noop"]}, True),
        ({"speculate": "blend"}, True),
        ({"unique_key": "k"}, False),
        ({"window": "night"}, False),
        ({"max_cost": 1.0}, False),
    ],
    ids=str,
)
def test_what_may_change_the_answer_makes_another_payload(changes, other):
    assert (payload_hash(request(1, **changes)) != payload_hash(request(1))) is other


def test_wishes_do_not_change_the_hash_of_a_request_without_any():
    names = ("fallback", "top_up", "speculate", "tolerance")
    before = {name: value for name, value in request(1).items() if name not in names}
    assert payload_hash(before) == payload_hash(request(1))


def test_jobs_with_one_unique_key_meet_on_one_shard_and_others_are_refused():
    ids = [job_id("ada", unique_key="k", entropy=bytes([n]) * 12) for n in range(9)]
    assert {route_of(one) for one in ids} == {affine_route("ada", "k")}
    assert len(set(ids)) == 9
    astray = request(1, unique_key="k", job_id=job_id("ada", entropy=bytes(12)))
    codes = [one.code for one in check_request(astray, Config(), now_ms=0)]
    assert codes == ["SB-1109"]
    assert check_request(astray | {"job_id": ids[0]}, Config(), now_ms=0) == []
    keyed = job_id("ada", unique_key="k", idempotency_key="once")
    assert check_request(astray | {"job_id": keyed, "idempotency_key": "once"}, Config(), now_ms=0) == []


def test_in_a_session_jobs_stay_with_their_session():
    assert route_of(job_id("ada", session="s", unique_key="k", entropy=bytes(12))) == affine_route("ada", "s")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"top_up": 1}, "$.top_up"),
        ({"fallback": "cache:60"}, "$.fallback"),
        ({"fallback": [60]}, "$.fallback"),
        ({"roles": None}, "$.roles"),
        ({"tolerance": "small"}, "$.tolerance"),
        ({"max_cost": float("nan")}, "$.max_cost"),
        ({"unique_key": b"k"}, "$.unique_key"),
    ],
    ids=str,
)
def test_a_wish_of_the_wrong_kind_is_told(changes, path):
    assert [problem.path for problem in check_wishes(wish(**changes))] == [path]


def test_a_sweep_has_no_key_of_its_jobs():
    told = check_keys(wish(unique_key="k", idempotency_key="i"))
    assert [problem.path for problem in told] == ["$.idempotency_key", "$.unique_key"]
