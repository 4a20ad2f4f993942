"""URLs to bus and store: ``sqlite:///DIR``, ``kafka://host:port?store=redis://…``, ``memory://``.

As SQLAlchemy writes them: three slashes and a relative path, four for an absolute one. Opens nothing;
the returned bus and store still have to be started.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

from shotbus.broker.bus.base import Bus
from shotbus.broker.config import Config
from shotbus.broker.config_loader import reveal
from shotbus.broker.store.base import Store
from shotbus.broker.topics import Topics
from shotbus.schemas.errors import fail

KAFKA_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. ``directory`` is set for the embedded bus, ``bootstrap`` for Kafka."""

    scheme: Literal["sqlite", "kafka"]
    directory: Path | None = None
    bootstrap: str = ""
    store: str = ""

    @property
    def embedded(self) -> bool:
        """Tell whether everything lives in a data directory of this host."""
        return self.scheme == "sqlite"


def parse_url(url: str) -> Address:
    """Parse a URL. Raises ShotbusError (SB-2002) that says what forms there are."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc:
        return Address("sqlite", directory=Path(parts.path.removeprefix("/") or ".shotbus").absolute())
    if parts.scheme == "kafka" and parts.netloc:
        store = parse_qs(parts.query).get("store", [""])[0]
        return Address("kafka", bootstrap=parts.netloc, store=store)
    forms = "sqlite:///DIR or kafka://host:port?store=redis://host:port"
    raise fail("SB-2002", "$.broker.url", limit=forms, actual=parts.scheme or url)


def topics_for(address: Address, config: Config) -> Topics:
    """Return the topics of a prefix on this kind of bus."""
    broker = config.broker
    partitions = broker.partitions if address.embedded else max(broker.partitions, KAFKA_PARTITIONS)
    return Topics(
        prefix=broker.prefix,
        partitions=partitions,
        work_partitions=broker.work_partitions,
        retention_ms=int(broker.retention_days * 86_400_000),
        classes=tuple(config.classes),
    )


def open_bus(address: Address, config: Config, *, client_id: str) -> Bus:
    """Build the bus of an address; start it yourself."""
    if address.directory is not None:
        from shotbus.broker.bus.sqlite import SqliteBus

        mode: Literal["FULL", "NORMAL"] = "NORMAL" if config.broker.synchronous == "NORMAL" else "FULL"
        return SqliteBus(address.directory / "bus", synchronous=mode)
    from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings

    kafka = config.kafka
    # The settings check these words themselves, at run time.
    protocol, mechanism = cast("Any", kafka.security_protocol), cast("Any", kafka.sasl_mechanism or None)
    try:
        settings = KafkaSettings(
            bootstrap=address.bootstrap,
            client_id=client_id,
            security_protocol=protocol,
            ssl_cafile=kafka.ssl_cafile or None,
            ssl_certfile=kafka.ssl_certfile or None,
            ssl_keyfile=kafka.ssl_keyfile or None,
            sasl_mechanism=mechanism,
            sasl_username=kafka.sasl_username or None,
            sasl_password=reveal(kafka.sasl_password) or None,
            replication_factor=kafka.replication_factor,
        )
    except ValueError as error:
        raise fail("SB-2002", "$.kafka", detail=str(error)) from error
    return KafkaBus(settings)


def open_store(address: Address, config: Config) -> Store:
    """Build the store of an address; start it yourself."""
    if address.directory is not None:
        from shotbus.broker.store.sqlite import SqliteStore

        return SqliteStore(address.directory / "store.sqlite")
    if not address.store:
        from shotbus.broker.store.memory import MemoryStore

        return MemoryStore()
    from shotbus.broker.store.redis import RedisSettings, RedisStore

    redis = config.redis
    try:
        settings = RedisSettings(
            url=address.store,
            prefix=config.broker.prefix.strip(".") or "shotbus",
            username=redis.username or None,
            password=reveal(redis.password) or None,
            ca_file=redis.tls_ca_file or None,
            cert_file=redis.tls_cert_file or None,
            key_file=redis.tls_key_file or None,
        )
    except ValueError as error:
        raise fail("SB-2002", "$.broker.url", detail=str(error)) from error
    return RedisStore(settings)


def effective_url(config: Config, *, url: str | None, data: str | None) -> str:
    """Return the URL that options choose: ``--url``, else ``--data``, else the configuration."""
    if url and data:
        raise fail("SB-2002", "--url", hint="give --url or --data, not both")
    return url or (f"sqlite:///{Path(data).absolute()}" if data else config.broker.url)
