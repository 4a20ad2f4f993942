"""URLs to bus and store, and which of them an option chooses."""

import dataclasses
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


def test_kafka_has_at_least_four_partitions():
    config = Config(broker=BrokerConfig(partitions=2))
    assert topics_for(parse_url("sqlite:///x"), config).partitions == 2
    assert topics_for(parse_url("kafka://a:1"), config).partitions == KAFKA_PARTITIONS
    assert topics_for(parse_url("kafka://a:1"), Config(broker=BrokerConfig(partitions=9))).partitions == 9


def test_an_address_opens_its_bus_and_store(tmp_path):
    address = parse_url(f"sqlite:///{tmp_path}")
    assert isinstance(open_bus(address, Config(), client_id="t"), SqliteBus)
    assert isinstance(open_store(address, Config()), SqliteStore)
    assert isinstance(open_store(parse_url("kafka://a:1"), Config()), MemoryStore)


@pytest.mark.parametrize(
    "kafka",
    [
        KafkaConfig(
            sasl_mechanism="SCRAM-SHA-512", security_protocol="SASL_SSL", sasl_password=Secret("plain")
        ),
        KafkaConfig(security_protocol="NONSENSE"),
    ],
    ids=["a password in place of a reference", "an unknown protocol"],
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
