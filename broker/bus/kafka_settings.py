"""How to reach Kafka, and every client option that must not keep its default. I/O: certificates."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

from shotbus.broker.bus.base import BusError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
READ_COMMITTED = 1
ALL_REPLICAS = -1
# One batch, before compression. A topic's max.message.bytes is its record limit plus this much, so that
# no batch that the limit allows is refused, and the limit can be read back from the topic.
BATCH_BYTES = 262_144
RETRY_SECONDS = 0.1
CALL_SECONDS = 15.0
DELIVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A cluster's address and credentials.

    ``bootstrap`` is ``host:port[,host:port…]``. ``replication_factor`` -1 takes the broker's default.
    ``session_timeout_ms`` is how long a silent process keeps its partitions; ``transaction_timeout_ms``
    how long an abandoned transaction can hold up readers, and the time limit of one commit. ``instance``
    names this process for good (KIP-345): restarted within the session timeout, it gets the partitions back
    that it held, at once. A name is one living process's.
    Raises ValueError for combinations that cannot work.
    """

    bootstrap: str
    client_id: str = "shotbus"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    replication_factor: int = -1
    session_timeout_ms: int = 6_000
    transaction_timeout_ms: int = 10_000
    instance: str = ""

    def __post_init__(self) -> None:
        if self.security_protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            msg = f"unknown security_protocol {self.security_protocol!r}"
            raise ValueError(msg)
        if self.sasl:
            self._check_sasl()
        elif self.sasl_mechanism or self.sasl_password:
            raise ValueError("sasl_* needs security_protocol SASL_SSL or SASL_PLAINTEXT")

    def _check_sasl(self) -> None:
        if self.sasl_mechanism not in SASL_MECHANISMS:
            msg = f"sasl_mechanism must be one of {', '.join(SASL_MECHANISMS)}"
            raise ValueError(msg)
        if not self.sasl_username or not self.sasl_password:
            raise ValueError("SASL needs sasl_username and sasl_password")

    @property
    def sasl(self) -> bool:
        """Whether connections authenticate by SASL."""
        return self.security_protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def identity(self) -> str:
        """Return who connects and how, in words that may be logged: never the password."""
        if self.sasl:
            return f"user {self.sasl_username!r} ({self.sasl_mechanism}, {self.security_protocol})"
        return self.security_protocol


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Build the TLS context, or None for plain text. Raises :class:`BusError` for unusable files."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:
        files = (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile)
        msg = f"cannot use the TLS files {[file for file in files if file]}: {error}"
        raise BusError(msg) from error
    return context


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every connection of every aiokafka object gets."""
    options: dict[str, Any] = {
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
        "ssl_context": ssl_context(settings),
        "request_timeout_ms": int(CALL_SECONDS * 1000),
    }
    if settings.sasl:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password
    return options


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options of a client: a connection pool with metadata."""
    return connection_options(settings) | {
        "bootstrap_servers": settings.bootstrap,
        "retry_backoff_ms": int(RETRY_SECONDS * 1000),
        "metadata_max_age_ms": 60_000,
    }


def membership_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options of a consumer that holds a place in a group and reads nothing.

    The library's defaults commit by themselves, read uncommitted data and skip over gaps. The consumer
    never fetches, so its reset policy cannot skip a record; "none" would make it fail for want of a
    position that it does not need.
    """
    return client_options(settings) | {
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "latest",
        "session_timeout_ms": settings.session_timeout_ms,
        "rebalance_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": min(500, settings.session_timeout_ms // 3),
        "max_poll_interval_ms": 60_000,
    }
