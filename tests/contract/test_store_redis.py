"""What only the Redis store has to bear: its server dies, hangs, asks for a password or for TLS."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time

import pytest

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.redis import RedisSettings, RedisStore

pytestmark = pytest.mark.redis


class OwnRedis:
    """A Redis of this test alone, to be killed, stopped and started again on the same port."""

    def __init__(self, folder, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        port = "--tls-port" if "--tls-cert-file" in options else "--port"
        self.command = ["redis-server", port, str(self.port), "--bind", "127.0.0.1", "--save", "", *options]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_redis(tmp_path):
    server = OwnRedis(tmp_path)
    yield server
    server.kill()


async def refused(action):
    """Return the seconds after which the action failed with StoreError."""
    begin = time.monotonic()
    with pytest.raises(StoreError):
        await action
    return time.monotonic() - begin


async def test_a_killed_redis_is_a_quick_error_and_works_again_after_its_restart(own_redis):
    store = RedisStore(RedisSettings(own_redis.url))
    await store.start()
    await asyncio.gather(*[store.put_many({f"k{n}": b"v"}) for n in range(20)])
    own_redis.kill()
    assert await refused(store.get_many(["k1"])) < 1
    assert await refused(store.put_many({"k1": b"v"})) < 1
    assert await refused(store.index_add("i", {"a": 1.0}, keep=3)) < 1
    assert await refused(store.clear()) < 1
    own_redis.start()
    answers = await asyncio.gather(*[store.get_many([f"k{n}"]) for n in range(20)])
    assert answers == [[None]] * 20
    await store.put_many({"k1": b"new"})
    assert await store.get_many(["k1"]) == [b"new"]
    await store.close()


async def test_a_redis_restarted_between_two_calls_is_not_noticed(own_redis):
    store = RedisStore(RedisSettings(own_redis.url))
    await store.start()
    own_redis.kill()
    own_redis.start()
    await store.put_many({"a": b"1"})
    assert await store.get_many(["a"]) == [b"1"]
    await store.close()


async def test_a_hanging_redis_is_an_error_within_the_timeouts(own_redis):
    store = RedisStore(RedisSettings(own_redis.url, connect_timeout=0.2, command_timeout=0.2))
    await store.start()
    await store.put_many({"a": b"1", "b": b"2"})
    own_redis.process.send_signal(signal.SIGSTOP)
    waits = await asyncio.gather(*[refused(store.get_many(["a"])) for _ in range(40)])
    assert max(waits) < 1
    own_redis.process.send_signal(signal.SIGCONT)
    assert await store.get_many(["b", "a"]) == [b"2", b"1"]
    await store.close()


async def test_a_redis_out_of_memory_is_a_store_error(tmp_path):
    server = OwnRedis(tmp_path, "--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
    store = RedisStore(RedisSettings(server.url))
    await store.start()
    with pytest.raises(StoreError, match="check its memory limit"):
        await store.put_many({f"k{number}": bytes(100_000) for number in range(100)})
    await store.clear()
    await store.put_many({"a": b"1"})
    assert await store.get_many(["a"]) == [b"1"]
    await store.close()
    server.kill()


async def test_start_without_a_server_says_what_to_check():
    store = RedisStore(RedisSettings("redis://:hunter2@127.0.0.1:1/0"))
    with pytest.raises(StoreError, match="check that it runs") as caught:
        await store.start()
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_named_and_never_echoed(tmp_path):
    server = OwnRedis(tmp_path, "--requirepass", "correct")
    for password in (None, "hunter2"):
        with pytest.raises(StoreError, match="check username, password") as caught:
            await RedisStore(RedisSettings(server.url, password=password)).start()
        assert "hunter2" not in str(caught.value)
    store = RedisStore(RedisSettings(server.url, username="default", password="correct"))
    await store.start()
    await store.close()
    server.kill()


async def test_clear_touches_only_its_own_prefix(redis_url):
    prefixes = ("clear", "clear.more", "clear-k", "other")
    stores = {prefix: RedisStore(RedisSettings(redis_url, prefix=prefix)) for prefix in prefixes}
    for store in stores.values():
        await store.start()
        await store.put_many({"k:x": b"mine", "clear:k:x": b"mine"}, ttl=60)
        await store.index_add("i", {"m": 1.0}, keep=1)
    await stores["clear"].clear()
    assert await stores["clear"].get_many(["k:x"]) == [None]
    for prefix in prefixes[1:]:
        assert await stores[prefix].get_many(["k:x", "clear:k:x"]) == [b"mine", b"mine"]
        assert await stores[prefix].index_range("i", offset=0, limit=1) == [("m", 1.0)]
    for store in stores.values():
        await store.clear()
        await store.close()


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder,
        "req",
        "-x509",
        *new_key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=ca",
        "-days",
        "2",
    )
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)


async def test_tls_with_client_certificates_and_nothing_less(tmp_path):
    make_certificates(tmp_path)
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
    server = OwnRedis(tmp_path, "--port", "0", *files)
    url = server.url.replace("redis:", "rediss:")
    ours = {
        name: str(tmp_path / f)
        for name, f in (("ca_file", "ca.pem"), ("cert_file", "client.pem"), ("key_file", "client.key"))
    }
    store = RedisStore(RedisSettings(url, **ours))
    await store.start()
    await store.put_many({"a": b"1"})
    assert await store.get_many(["a"]) == [b"1"]
    await store.close()
    for settings in (
        RedisSettings(url),
        RedisSettings(url, ca_file=ours["ca_file"]),
        RedisSettings(server.url),
    ):
        with pytest.raises(StoreError):
            await RedisStore(settings).start()
    server.kill()


def test_settings_show_no_secret():
    settings = RedisSettings("redis://user:hunter2@host:6379/0?password=hunter3", password="hunter4")
    assert "hunter" not in repr(settings) + str(settings) + settings.place
    assert "host:6379" in repr(settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": "a:b"},
        {"prefix": "*"},
        {"prefix": ""},
        {"url": "http://host"},
        {"url": "redis://host", "ca_file": "ca.pem"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ValueError):
        RedisSettings(**wrong)
