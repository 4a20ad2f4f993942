"""Kafka behind TLS and passwords: everything works for the right ones, and a wrong one is said clearly."""

import logging
import subprocess
import uuid

import pytest

from shotbus.broker.bus.base import BusError, FencedError, Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings
from shotbus.deploy.services import start_kafka, stop

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("sockets_closed")]

PASSWORD = "correct horse battery staple"
WRONG = "incorrect-donkey-secret"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def make_certificates(folder):
    """A private CA, and the broker's key store signed by it for 127.0.0.1."""
    key, request, cert = folder / "broker.key", folder / "broker.csr", folder / "broker.crt"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shotbus test CA",
        "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"))  # fmt: skip
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
        "-keyout", str(key), "-out", str(request))  # fmt: skip
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    run("openssl", "x509", "-req", "-in", str(request), "-CA", str(folder / "ca.crt"), "-CAkey",
        str(folder / "ca.key"), "-CAcreateserial", "-days", "2", "-extfile", str(names), "-out", str(cert))  # fmt: skip
    run("openssl", "pkcs12", "-export", "-in", str(cert), "-inkey", str(key), "-name", "broker",
        "-passout", "pass:changeit", "-out", str(folder / "broker.p12"))  # fmt: skip
    return folder / "broker.p12", folder / "ca.crt"


@pytest.fixture(scope="module")
def secured(tmp_path_factory, kafka_jars):
    """Settings of a broker with SASL_SSL and SCRAM-SHA-512, for user alice."""
    folder = tmp_path_factory.mktemp("secured")
    store, authority = make_certificates(folder)
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    extra = {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f'{scram} username="alice" password="{PASSWORD}";',
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{plain} user_bob="{PASSWORD}";',
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
        "ssl.key.password": "changeit",
        # The broker tries its own certificate against its trust store at start.
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
    }
    broker = start_kafka(
        folder / "kafka", kafka_jars, protocol="SASL_SSL", extra=extra, users={"alice": PASSWORD}
    )
    yield broker.address, str(authority)
    stop(broker.directory, "kafka")


def settings(secured, **changes):
    address, authority = secured
    values = {
        "bootstrap": address,
        "security_protocol": "SASL_SSL",
        "ssl_cafile": authority,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "alice",
        "sasl_password": PASSWORD,
    }
    return KafkaSettings(**values | changes)


@pytest.fixture(params=[("SCRAM-SHA-512", "alice"), ("PLAIN", "bob")], ids=["scram", "plain"])
async def bus(request, secured):
    mechanism, user = request.param
    bus = KafkaBus(settings(secured, sasl_mechanism=mechanism, sasl_username=user))
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
async def topic(bus):
    name = f"secure.{uuid.uuid4().hex}"
    await bus.create_topics([TopicSpec(name, 2)])
    return name


async def test_publish_transaction_and_read_work_through_tls_and_sasl(bus, topic):
    await bus.publish([Outgoing(topic, 0, b"k", b"published")])
    older = await bus.fence(f"{topic}.shard")
    await older.commit([Outgoing(topic, 0, b"k", b"committed")])
    newer = await bus.fence(f"{topic}.shard")
    with pytest.raises(FencedError):
        await older.commit([Outgoing(topic, 0, b"k", b"from a zombie")])
    await newer.commit([Outgoing(topic, 0, b"k", b"last")])
    partition = TopicPartition(topic, 0)
    reader, end = bus.reader({partition: 0}), (await bus.ends([partition]))[partition]
    values = []
    while reader.position(partition) < end:
        values += [record.value for record in await reader.poll(max_records=10, timeout=5)]
    assert values == [b"published", b"committed", b"last"]


async def test_group_membership_works_through_tls_and_sasl(bus, topic):
    seen = []

    async def assigned(partitions):
        seen.append(partitions)

    async def revoked(partitions):
        seen.append(partitions)

    membership = await bus.join(f"{topic}.group", topic, on_assigned=assigned, on_revoked=revoked)
    await membership.commit({TopicPartition(topic, 1): 7})
    assert await membership.committed([TopicPartition(topic, 1)]) == {TopicPartition(topic, 1): 7}
    await membership.leave()
    assert seen == [frozenset({0, 1}), frozenset({0, 1})]


@pytest.mark.parametrize(("mechanism", "user"), [("SCRAM-SHA-512", "alice"), ("PLAIN", "bob")])
async def test_wrong_password_is_a_clear_error_that_never_shows_it(secured, mechanism, user, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    wrong = settings(secured, sasl_mechanism=mechanism, sasl_username=user, sasl_password=WRONG)
    bus = KafkaBus(wrong)
    with pytest.raises(BusError, match=f"refused user '{user}'.*check the user name and password") as raised:
        await bus.start()
    await bus.close()
    shown = "\n".join([str(raised.value), repr(wrong), caplog.text, *capfd.readouterr()])
    assert WRONG not in shown
    assert "PASSWORD" not in repr(wrong).upper().replace("SASL_USERNAME", "")


async def test_right_password_is_not_logged_either(secured, caplog):
    caplog.set_level(logging.DEBUG)
    bus = KafkaBus(settings(secured, sasl_mechanism="PLAIN", sasl_username="bob"))
    await bus.start()
    await bus.close()
    assert "Authenticated as bob" in caplog.text
    assert PASSWORD not in caplog.text


async def test_unknown_authority_is_a_clear_error(secured):
    bus = KafkaBus(settings(secured, ssl_cafile=None))
    with pytest.raises(BusError, match="check address, protocol and TLS files.*certificate verify failed"):
        await bus.start()


async def test_unusable_certificate_file_is_named(secured):
    bus = KafkaBus(settings(secured, ssl_cafile="/nonexistent/ca.crt"))
    with pytest.raises(BusError, match="/nonexistent/ca.crt"):
        await bus.start()
