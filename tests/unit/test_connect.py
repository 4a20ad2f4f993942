"""URLs to bus and store, and which of them an option chooses."""

import dataclasses
import traceback
from pathlib import Path

import pytest
from edge_kit import codes, refusal

from shotbus.broker.bus.sqlite import SqliteBus
from shotbus.broker.config import BrokerConfig, Config, KafkaConfig, RedisConfig, Secret
from shotbus.broker.connect import (
    KAFKA_PARTITIONS,
    effective_url,
    open_bus,
    open_store,
    parse_url,
    topics_for,
)
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.store.sqlite import SqliteStore
from shotbus.broker.urls import public_url
from shotbus.schemas.errors import ShotbusError


def test_three_slashes_are_relative_and_four_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_url("sqlite:///data/x").directory == tmp_path / "data" / "x"
    assert parse_url("sqlite:////var/x").directory == Path("/var/x")
    assert parse_url("sqlite:///").directory == tmp_path / ".shotbus"
    assert parse_url("sqlite:///x").embedded


def test_a_kafka_url_names_brokers_and_store():
    address = parse_url("kafka://a:1,b:2?store=redis://c:3")
    assert (address.bootstrap, address.store, address.embedded) == ("a:1,b:2", "redis://c:3", False)
    assert parse_url("kafka://a:1").store == ""


@pytest.mark.parametrize(
    "url", ["", "x", "kafka://", "kafka:///x", "sqlite://host/x", "memory://", "file:///etc", "http://a"]
)
def test_other_urls_are_refused_with_the_forms_there_are(url):
    (problem,) = refusal(parse_url, url)
    assert (problem.code, problem.path) == ("SB-2002", "$.broker.url")
    assert "sqlite:///DIR" in problem.limit


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("kafka://a:1?store=redis://u:p%40%2F+w@c:3/1?a=b&c=d", "redis://u:p%40%2F+w@c:3/1?a=b&c=d"),
        ("kafka://a:1?store=redis%3A%2F%2Fu%3Ap%2540w%40c%3A3", "redis://u:p%40w@c:3"),
    ],
)
def test_a_stores_url_is_taken_as_it_is_or_percent_encoded(url, store):
    assert parse_url(url).store == store


SECRET_URLS = [
    "kafka://a:1?store=redis://u:hunter2@c:3/0",
    "kafka://a:1?store=redis://:hunter2@c:3",
    "kafka://a:1?store=redis%3A%2F%2Fu%3Ahunter2%40c%3A3",
    "kafka://a:1?store=redis://c:3?password=hunter2",
    "kafka://a:1?store=redis://c:3#hunter2",
    "kafka://a:1?store=redis://u:hunter2/x@c:3",
    "kafka://a:1?store=redis://u:x?hunter2@c:3",
    "kafka://a:1?store=redis://u:[hunter2@c:3",
    "kafka://a:1?redis://u:hunter2@c:3",
    "kafka://a:1?stroe=redis://u:hunter2@c:3",
    "kafka://u:hunter2@a:1",
    "kafka://[u:hunter2@a:1",
    "sqlite://u:hunter2@c/x",
    "redis://u:hunter2@c:3",
    "u:hunter2@c:3",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_password_in_a_url_is_never_told(url):
    assert "hunter2" not in public_url(url)
    told = ""
    try:
        address = parse_url(url)
        told += repr(address)
        told += repr(open_store(address, Config()))
    except ShotbusError as error:
        told += repr(error.problems) + "".join(traceback.format_exception(error)).replace(url, "")
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("kafka://a:1,b:2?store=redis://u:p@c:3/1", "kafka://a:1,b:2?store=redis://***@c:3/1"),
        ("kafka://a:1?store=memory", "kafka://a:1?store=memory"),
        ("kafka://a:1", "kafka://a:1"),
        ("sqlite:////home/me@there/x", "sqlite:////home/me@there/x"),
    ],
)
def test_what_is_no_password_is_shown(url, shown):
    assert public_url(url) == shown


def test_kafka_has_at_least_four_partitions():
    config = Config(broker=BrokerConfig(partitions=2))
    assert topics_for(parse_url("sqlite:///x"), config).partitions == 2
    assert topics_for(parse_url("kafka://a:1"), config).partitions == KAFKA_PARTITIONS
    assert topics_for(parse_url("kafka://a:1"), Config(broker=BrokerConfig(partitions=9))).partitions == 9


def test_an_address_opens_its_bus_and_store(tmp_path):
    address = parse_url(f"sqlite:///{tmp_path}")
    assert isinstance(open_bus(address, Config(), client_id="t"), SqliteBus)
    assert isinstance(open_store(address, Config()), SqliteStore)


def test_a_kafka_url_without_a_store_is_refused_unless_it_says_that_none_is_wanted():
    assert isinstance(open_store(parse_url("kafka://a:1?store=memory"), Config()), MemoryStore)
    for url in ("kafka://a:1", "kafka://a:1?store="):
        (problem,) = refusal(open_store, parse_url(url), Config())
        assert (problem.code, problem.path) == ("SB-2002", "$.broker.url")
        assert "?store=redis://host:port" in problem.hint
        assert "?store=memory" in problem.hint


@pytest.mark.parametrize(
    "kafka",
    [
        KafkaConfig(
            sasl_mechanism="SCRAM-SHA-512",
            security_protocol="SASL_SSL",
            sasl_password=Secret("env:NONE_SUCH"),
        ),
        KafkaConfig(security_protocol="NONSENSE"),
    ],
    ids=["a password that is nowhere", "an unknown protocol"],
)
def test_wrong_security_of_kafka_is_refused_before_anything_connects(kafka):
    config = dataclasses.replace(Config(), kafka=kafka)
    assert codes(open_bus, parse_url("kafka://a:1"), config, client_id="t") == ["SB-2002"]


def test_wrong_security_of_redis_is_refused_before_anything_connects():
    config = dataclasses.replace(Config(), redis=RedisConfig(password=Secret("env:NOT_SET_ANYWHERE")))
    assert codes(open_store, parse_url("kafka://a:1?store=redis://b:2"), config) == ["SB-2002"]
    assert codes(open_store, parse_url("kafka://a:1?store=http://b:2"), Config()) == ["SB-2002"]


def test_options_go_over_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config()
    assert effective_url(config, url=None, data=None) == config.broker.url
    assert effective_url(config, url="kafka://a:1", data=None) == "kafka://a:1"
    assert parse_url(effective_url(config, url=None, data="d")).directory == tmp_path / "d"
    assert codes(effective_url, config, url="x", data="y") == ["SB-2002"]
