"""URLs to bus and store: ``sqlite:///DIR`` and ``kafka://host:port?store=redis://…``, or ``store=memory``.

As SQLAlchemy writes them: three slashes and a relative path, four for an absolute one. Opens nothing;
the returned bus and store still have to be started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from shotbus.broker.bus.base import Bus
from shotbus.broker.config import Config
from shotbus.broker.config_loader import reveal
from shotbus.broker.store.base import Store
from shotbus.broker.topics import Topics
from shotbus.broker.urls import public_url, query_of
from shotbus.schemas.errors import ShotbusError, fail

KAFKA_PARTITIONS = 4
#: In place of a store's URL: each process remembers for itself alone.
OWN_MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. ``directory`` is set for the embedded bus, ``bootstrap`` for Kafka."""

    scheme: Literal["sqlite", "kafka"]
    directory: Path | None = None
    bootstrap: str = ""
    store: str = field(default="", repr=False)  # may carry a password

    @property
    def embedded(self) -> bool:
        """Tell whether everything lives in a data directory of this host."""
        return self.scheme == "sqlite"

    @property
    def untouched(self) -> bool:
        """Tell whether a data directory holds nothing yet: opening its bus or store would make them."""
        return self.directory is not None and not (self.directory / "bus" / "log.db").exists()


def parse_url(url: str) -> Address:
    """Parse a URL. Raises ShotbusError (SB-2002) that says what forms there are."""
    try:
        parts = urlsplit(url.partition("?")[0])
    except ValueError:  # its message quotes the URL
        raise _wrong_url(url) from None
    if parts.scheme == "sqlite" and not parts.netloc:
        return Address("sqlite", directory=Path(parts.path.removeprefix("/") or ".shotbus").absolute())
    if parts.scheme == "kafka" and parts.netloc:
        return Address("kafka", bootstrap=_bootstrap(parts.netloc), store=_store_of(url))
    raise _wrong_url(url)


def _wrong_url(url: str) -> ShotbusError:
    forms = "sqlite:///DIR or kafka://host:port?store=redis://host:port"
    return fail("SB-2002", "$.broker.url", limit=forms, actual=public_url(url))


def _bootstrap(netloc: str) -> str:
    if "@" in netloc:
        hint = "set kafka.sasl_username and kafka.sasl_password, or percent-encode what is in store="
        raise fail("SB-2002", "$.broker.url", limit="host:port", actual="a login", hint=hint)
    return netloc


def _store_of(url: str) -> str:
    key, store = query_of(url)
    if key not in ("", "store"):
        raise fail("SB-2002", "$.broker.url", limit="store=URL after the question mark", actual="another key")
    return store


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
            sasl_password=reveal(kafka.sasl_password, "$.kafka.sasl_password") or None,
            replication_factor=kafka.replication_factor,
            instance=config.broker.instance,
        )
    except ValueError as error:
        raise fail("SB-2002", "$.kafka", detail=str(error)) from error
    return KafkaBus(settings)


def open_store(address: Address, config: Config) -> Store:
    """Build the store of an address; start it yourself.

    Raises ShotbusError (SB-2002) for a Kafka URL that names none: processes that each had one of their own
    would disagree about what there is.
    """
    if address.directory is not None:
        from shotbus.broker.store.sqlite import SqliteStore

        return SqliteStore(address.directory / "store.sqlite")
    if not address.store:
        hint = "add ?store=redis://host:port, or ?store=memory to do without lists and result cache"
        raise fail("SB-2002", "$.broker.url", limit="a store", actual="none", hint=hint)
    if address.store == OWN_MEMORY:
        from shotbus.broker.store.memory import MemoryStore

        return MemoryStore()
    from shotbus.broker.store.redis import RedisSettings, RedisStore

    redis = config.redis
    try:
        settings = RedisSettings(
            url=address.store,
            prefix=config.broker.prefix.strip(".") or "shotbus",
            username=redis.username or None,
            password=reveal(redis.password, "$.redis.password") or None,
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
