"""The production store: one Redis (or Valkey) for all hosts. Does network I/O.

Keys are ``<prefix>:k:<key>`` (values) and ``<prefix>:i:<index>`` (sorted sets), so that a value and an
index of one name do not collide, and clearing one prefix cannot touch another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.rules import check_index_add, check_page, effective_ttl
from shotbus.broker.urls import without_login

# Redis serves one command at a time: a chunk bounds how long others wait, and our own event loop too.
_CHUNK = 500
_MAX_TTL_MS = 10 * 365 * 86_400_000
_T = TypeVar("_T")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, repr=False)
class RedisSettings:
    """Where the Redis is and how to reach it; ``repr`` shows no secret.

    ``url`` is ``redis://``, ``rediss://`` (TLS) or ``unix://``. ``ca_file``, ``cert_file`` and
    ``key_file`` are PEM paths. Timeouts are seconds: ``connect_timeout`` for a connection,
    ``command_timeout`` for a whole call. Raises ValueError for a bad prefix, another scheme, or TLS
    files without TLS.
    """

    url: str = "redis://127.0.0.1:6379/0"
    prefix: str = "shotbus"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    connect_timeout: float = 1.0
    command_timeout: float = 1.0
    max_connections: int = 16

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError("prefix must be 1 to 64 letters, digits, dots, dashes or underscores")
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            # The original quotes what it took for the port, which may be half a password.
            raise ValueError("url is malformed: percent-encode its user name and password") from None
        scheme = parts.scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        if scheme != "rediss" and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("TLS files are given but the url is not rediss://: nothing would be encrypted")

    @property
    def place(self) -> str:
        """The URL without user, password and query, for messages."""
        return without_login(self.url)

    def __repr__(self) -> str:
        secret = None if self.password is None else "***"
        return (
            f"RedisSettings(url={self.place!r}, prefix={self.prefix!r}, username={self.username!r},"
            f" password={secret!r}, ca_file={self.ca_file!r}, cert_file={self.cert_file!r},"
            f" key_file={self.key_file!r}, connect_timeout={self.connect_timeout},"
            f" command_timeout={self.command_timeout}, max_connections={self.max_connections})"
        )


class RedisStore:
    """A store in Redis; whatever goes wrong with Redis is a :class:`StoreError` and heals by itself."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._client: Redis | None = None

    async def start(self) -> None:
        if self._client is not None:
            return
        self._client = Redis.from_pool(_pool(self._settings))
        try:
            async with self._using() as client:
                await client.get(self._key("ping"))
        except StoreError:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # A connection that is already gone cannot be closed politely.
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for chunk in _chunks(keys):
            async with self._using() as client:
                found: Any = await client.mget([self._key(key) for key in chunk])
            values += found
        return values

    async def put_many(self, items: Mapping[str, bytes], *, ttl: float | None = None) -> None:
        seconds = effective_ttl(ttl)
        if seconds == 0.0:
            await self.delete_many(list(items))
            return
        # Rounded up: an item that lives 0.2 ms must not become PX 0, which Redis refuses.
        px = None if seconds is None else min(math.ceil(min(seconds, _MAX_TTL_MS) * 1000), _MAX_TTL_MS)
        for chunk in _chunks(items.items()):
            async with self._using() as client, client.pipeline(transaction=False) as pipe:
                for key, value in chunk:
                    pipe.set(self._key(key), bytes(value), px=px)
                await pipe.execute()

    async def delete_many(self, keys: Sequence[str]) -> None:
        for chunk in _chunks(keys):
            async with self._using() as client:
                await client.unlink(*[self._key(key) for key in chunk])

    async def index_add(self, index: str, members: Mapping[str, float], *, keep: int) -> None:
        check_index_add(members.values(), keep)
        name = self._index(index)
        # One transaction: no reader ever sees more than ``keep`` members.
        async with self._using() as client, client.pipeline(transaction=True) as pipe:
            for chunk in _chunks(members.items()):
                pipe.zadd(name, dict(chunk))
            pipe.zremrangebyrank(name, 0, -(keep + 1))
            await pipe.execute()

    async def index_range(self, index: str, *, offset: int, limit: int) -> list[tuple[str, float]]:
        check_page(offset, limit)
        if limit == 0:
            return []
        async with self._using() as client:
            rows: Any = await client.zrevrange(
                self._index(index), offset, offset + limit - 1, withscores=True
            )
        return [(member.decode(), float(score)) for member, score in rows]

    async def clear(self) -> None:
        for pattern in (self._key("*"), self._index("*")):
            cursor = 0
            while True:
                async with self._using() as client:
                    cursor, keys = await client.scan(cursor, match=pattern, count=1000)
                    if keys:
                        await client.unlink(*keys)
                if cursor == 0:
                    break

    def _key(self, key: str) -> str:
        return f"{self._settings.prefix}:k:{key}"

    def _index(self, index: str) -> str:
        return f"{self._settings.prefix}:i:{index}"

    @contextlib.asynccontextmanager
    async def _using(self) -> AsyncIterator[Redis]:
        """Lend the client for one round trip; turn every failure, slowness included, into StoreError."""
        if self._client is None:
            raise StoreError("the Redis store is not started")
        limit = self._settings.connect_timeout + self._settings.command_timeout
        try:
            async with asyncio.timeout(limit):
                yield self._client
        except TimeoutError as error:
            raise StoreError(f"Redis at {self._settings.place} did not answer within {limit} s") from error
        except (RedisError, OSError) as error:
            raise StoreError(_advice(self._settings, error)) from error


def _advice(settings: RedisSettings, error: Exception) -> str:
    """Say what to check. The error's own text is left out where it could quote the credentials."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return f"Redis at {settings.place} refused the login: check username, password and ACL"
    if isinstance(error, ResponseError):
        return f"Redis at {settings.place} refused a command ({error}): check its memory limit and ACL"
    return f"Redis at {settings.place} failed ({error}): check that it runs and that the url and TLS fit"


def _pool(settings: RedisSettings) -> BlockingConnectionPool:
    options: dict[str, Any] = {
        **parse_url(settings.url),
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.command_timeout,
        # One retry at once: after a restart of Redis every pooled connection is a dead one.
        "retry": Retry(NoBackoff(), 1),
        # RESP 2 is understood by every server and proxy; nothing here needs more.
        "protocol": 2,
    }
    if settings.username is not None:
        options["username"] = settings.username
    if settings.password is not None:
        options["password"] = settings.password
    if settings.url.startswith("rediss:"):
        files = {"ca_certs": settings.ca_file, "certfile": settings.cert_file, "keyfile": settings.key_file}
        options |= {f"ssl_{name}": path for name, path in files.items() if path is not None}
    return BlockingConnectionPool(
        max_connections=settings.max_connections, timeout=settings.command_timeout, **options
    )


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk
