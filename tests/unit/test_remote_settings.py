"""What a pool's options may say about a remote provider."""

import pytest

from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import load
from shotbus.workers.adapters.options import referenced
from shotbus.workers.adapters.remote_http import read_document, retry_after_ms
from shotbus.workers.adapters.remote_settings import read_settings

GOOD = {"url": "https://qpu.example/api/", "device": "d1", "credentials": "env:QPU_TOKEN"}


def refused(**options):
    with pytest.raises(ShotbusError) as error:
        read_settings({**GOOD, **options})
    return [(problem.code, problem.path, str(problem)) for problem in error.value.problems]


def test_good_options_are_taken_and_the_credential_stays_a_reference():
    settings = read_settings({**GOOD, "wait_seconds": "5"})
    assert (settings.url, settings.device, settings.wait_seconds) == ("https://qpu.example/api", "d1", 5.0)
    assert settings.credentials == "env:QPU_TOKEN"
    assert referenced(GOOD) == ["QPU_TOKEN"]


def test_what_is_missing_is_told_all_at_once():
    with pytest.raises(ShotbusError) as error:
        load("remote", {}, place="$.pools.q.options")
    paths = {problem.path for problem in error.value.problems}
    assert paths == {"$.pools.q.options.url", "$.pools.q.options.device"}


def test_a_credential_by_value_is_refused_and_not_repeated():
    ((code, path, text),) = refused(credentials="s3cr3t")
    assert (code, path) == ("SB-2002", "$.credentials")
    assert "s3cr3t" not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://qpu.example",
        "ftp://qpu.example",
        "qpu.example",
        "https://",
        "https://[::1",
        "https://me:s3cr3t@qpu.example",
        "https://qpu.example?token=s3cr3t",
        "http://127.0.0.1.example",
    ],
)
def test_an_address_that_is_none_or_would_show_the_credential_is_refused_unrepeated(url):
    ((code, path, text),) = refused(url=url)
    assert (code, path) == ("SB-2002", "$.url")
    assert "s3cr3t" not in text


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9"])
def test_this_host_may_be_asked_in_the_clear(url):
    assert read_settings({**GOOD, "url": url}).url == url


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("2", 2_000),
        ("0.5", 500),
        ("-3", 0),
        ("", 0),
        ("nan", 0),
        ("inf", 0),
        ("soon", 0),
        ("9" * 30, 3_600_000),
    ],
)
def test_retry_after_is_read_in_seconds_and_bounded(header, expected):
    assert retry_after_ms(header, 0.0) == expected


def test_retry_after_may_be_a_date():
    assert retry_after_ms("Thu, 01 Jan 1970 00:01:00 GMT", 50.0) == 10_000
    assert retry_after_ms("Thu, 01 Jan 1970 00:01:00 GMT", 70.0) == 0


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5_000]
)
def test_what_is_no_object_of_plain_json_is_no_document(raw):
    assert read_document(raw) is None
