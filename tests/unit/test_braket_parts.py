"""Braket in words of ours: options, errors by table, and the time that a token needs to settle."""

import pytest
from braket_devices import QPU, SIMULATOR
from shard_kit import FakeClock

from shotbus.broker.config import Config, PoolConfig, PriceConfig
from shotbus.roles import adapter_problems
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import error_class_of
from shotbus.workers.adapters.braket_api import keys_of
from shotbus.workers.adapters.braket_aws import client_token
from shotbus.workers.adapters.braket_errors import (
    BEFORE,
    CATEGORIES,
    CODES,
    cancelled,
    failure,
    partial,
    refusal,
)
from shotbus.workers.adapters.braket_errors import STATUSES as HTTP
from shotbus.workers.adapters.braket_settings import read_settings
from shotbus.workers.providers.base import DownError
from shotbus.workers.providers.settling import Settling

AWS = {"device": QPU, "bucket": "results", "credentials": "env:AWS_KEYS"}
#: What the tables say -> the class that the dispatcher acts by.
CLASSES = {
    "SB-1110": "CONSTRAINT",
    "SB-1220": "INVALID",
    "SB-5001": "TRANSIENT",
    "SB-5004": "TIMEOUT",
    "SB-5007": "UNKNOWN_OUTCOME",
    "SB-5008": "BACKEND_DOWN",
    "SB-5009": "THROTTLED",
    "SB-9001": "INTERNAL",
}


# --- options ---


def refused(options):
    with pytest.raises(ShotbusError) as error:
        read_settings(options)
    return {problem.path for problem in error.value.problems}, str(error.value)


def test_a_simulator_of_the_sdk_needs_nothing_and_takes_nothing_of_aws():
    assert read_settings({"device": "braket_sv"}).local
    assert refused({"device": "braket_dm", "bucket": "results", "credentials": "default"})[0] == {
        "$.bucket",
        "$.credentials",
    }
    assert refused({"device": "braket_dm", "max_qubits": "13"})[0] == {"$.max_qubits"}


def test_a_device_at_aws_needs_bucket_region_and_credentials_and_is_told_all_at_once():
    assert refused({"device": SIMULATOR})[0] == {"$.bucket", "$.region", "$.credentials"}
    assert refused({})[0] == {"$.device"}
    assert refused({"device": "arn:aws:s3:::device/x"})[0] == {"$.device"}
    settings = read_settings({**AWS, "prefix": "a/b"})
    assert (settings.region, settings.local, settings.prefix) == ("eu-north-1", False, "a/b")
    assert read_settings({**AWS, "device": SIMULATOR, "region": "us-west-2"}).region == "us-west-2"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("region", "us-east-1"),
        ("region", "here and there"),
        ("bucket", "No Bucket"),
        ("prefix", "/up"),
        ("endpoint", "http://aws.example"),
        ("s3_endpoint", "https://me:s3cr3t@aws.example"),
        ("credentials", "s3cr3t"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place_and_no_secret_repeated(option, value):
    paths, text = refused({**AWS, option: value})
    assert paths == {f"$.{option}"}
    assert "s3cr3t" not in text


def test_boto3_searches_for_credentials_itself_only_where_that_is_asked_for():
    assert read_settings({**AWS, "credentials": "default"}).credentials == ""
    assert keys_of("") == {}
    keys = keys_of('{"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": null}')
    assert keys == {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.mark.parametrize("secret", ["s3cr3t", "[]", "{}", '{"AccessKeyId": 1, "SecretAccessKey": "s3cr3t"}'])
def test_a_credential_of_another_form_is_told_without_being_repeated(secret):
    with pytest.raises(DownError) as error:
        keys_of(secret)
    assert "s3cr3t" not in str(error.value)


def test_a_pool_that_costs_has_to_be_hardware_or_have_a_price():
    options = {**AWS, "device": SIMULATOR, "region": "us-east-1"}
    for pool, wrong in (
        (PoolConfig(adapter="braket", options=options), True),
        (PoolConfig(adapter="braket", options=options, price=PriceConfig(per_task=0.1)), False),
        (PoolConfig(adapter="braket", options=options, kind="hardware"), False),
        (PoolConfig(adapter="braket", options={"device": "braket_sv"}), False),
        (PoolConfig(adapter="braket", options=AWS, price=PriceConfig(per_task=0.1)), True),
    ):
        problems = adapter_problems(Config(pools={"p": pool}), "p")
        assert [problem.path for problem in problems] == (["$.pools.p.kind"] if wrong else [])


def test_a_token_that_braket_takes_is_itself_and_a_longer_one_a_digest_of_it():
    assert client_token("0" * 32 + ".0") == "0" * 32 + ".0"
    assert len(client_token("x" * 65)) == 64
    assert client_token("x" * 65) != client_token("x" * 66)


def test_a_token_is_settled_so_long_after_it_was_first_not_seen():
    clock = FakeClock()
    settling = Settling(120.0, clock)
    assert not settling.is_over("a")
    clock.now += 119
    assert not settling.is_over("a")
    assert not settling.is_over("b")
    clock.now += 2
    assert settling.is_over("a")
    assert not settling.is_over("b")


# --- errors ---


def client_error(code, status, message="", **headers):
    from botocore.exceptions import ClientError

    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "CreateQuantumTask"
    )


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_error_code_of_aws_decides_whatever_the_status_is(code):
    told = refusal(client_error(code, 500, "AKIDEXAMPLE"))
    assert told.problem.code == CODES[code]
    assert error_class_of([told.problem]) == CLASSES[CODES[code]]
    assert told.sent
    assert CODES[code] == "SB-1220" or "AKID" not in str(told.problem)


@pytest.mark.parametrize("status", sorted(HTTP))
def test_a_status_that_says_not_accepted_decides_where_the_code_is_unknown(status):
    assert refusal(client_error("NewException", status)).problem.code == HTTP[status]


@pytest.mark.parametrize("status", [0, 200, 302, 408, 409, 425, 500, 502, 503, 504])
def test_whatever_else_is_answered_proves_nothing(status):
    assert error_class_of([refusal(client_error("", status)).problem]) == "UNKNOWN_OUTCOME"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("[line 3] unknown gate", "SB-1220"),
        ("The task exceeds the spending limit of the device", "SB-5008"),
        ("The bucket does not exist", "SB-5008"),
        ("Shots must be at most 1000", "SB-1110"),
        ("The client token was used with other parameters", "SB-5007"),
    ],
)
def test_a_validation_is_about_what_its_message_says(message, code):
    assert refusal(client_error("ValidationException", 400, message)).problem.code == code


def test_what_boto3_raises_before_it_sends_anything_is_known_by_its_name():
    for name, code in BEFORE.items():
        told = refusal(type(name, (Exception,), {})("secret"))
        assert (told.problem.code, told.sent) == (code, False)
    for name in ("ReadTimeoutError", "ConnectionClosedError", "SSLError"):
        told = refusal(type(name, (Exception,), {})("secret"))
        assert (told.problem.code, told.sent) == ("SB-5007", True)
        assert "secret" not in str(told.problem)


def test_the_time_that_throttling_asks_for_is_read():
    assert refusal(client_error("ThrottlingException", 429, **{"retry-after": "7"})).retry_after == "7"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("", "SB-5001"),
        ("An internal error occurred", "SB-5001"),
        ("Simulation exceeded the time limit", "SB-5004"),
        ("The device was taken offline for maintenance", "SB-5008"),
        ("Access denied to the S3 bucket", "SB-5008"),
        ("Concurrent task quota exceeded", "SB-5009"),
        ("Not supported gate: ccnot", "SB-1220"),
        ("The compiler could not parse the program", "SB-1220"),
    ],
)
def test_a_failed_task_says_why_by_words_of_its_reason(reason, code):
    assert failure(reason).code == code
    assert error_class_of([failure(reason)]) == CLASSES[code]


def test_an_executable_says_why_by_its_category_and_an_end_before_its_time_is_whose_it_is():
    assert [partial({"category": name}).code for name in CATEGORIES] == list(CATEGORIES.values())
    assert partial("anything").code == "SB-5001"
    assert error_class_of([cancelled(by_us=True)]) == "REVOKED"
    assert error_class_of([cancelled(by_us=False)]) == "CANCELLED_BY_PROVIDER"
