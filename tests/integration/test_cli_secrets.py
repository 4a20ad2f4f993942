"""No secret is printed or stored by a command, and nobody but the owner can read a data directory."""

import os
import stat
import subprocess
import sys
import uuid

import pytest
from cli_kit import invoke
from embedded_kit import BELL
from redis import Redis

PASSWORD = "hunter2"


@pytest.fixture
def everyone_may_read():
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder):
    """The permissions of everything in a folder that is not for its owner alone."""
    found = {path: path.lstat().st_mode for path in [folder, *folder.rglob("*")]}
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(mode))
        for path, mode in found.items()
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }


def test_a_plain_password_of_the_environment_is_refused_by_every_command(tmp_path):
    for words in (["doctor"], ["list", "--data", "D"], ["up", "--data", "D"]):
        found, out, err = invoke(tmp_path, *words, environ={"SHOTBUS__KAFKA__SASL_PASSWORD": PASSWORD})
        assert found == 2
        assert "$.kafka.sasl_password" in err
        assert PASSWORD not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_plain_password_of_a_file_is_refused(tmp_path):
    (tmp_path / "shotbus.toml").write_text(f"[redis]\npassword = '{PASSWORD}'\n")
    found, out, err = invoke(tmp_path, "doctor", "--json")
    assert (found, out) == (2, "")
    assert "$.redis.password" in err
    assert PASSWORD not in err


def test_a_data_directory_is_for_its_owner_alone_while_a_broker_runs(tmp_path, everyone_may_read):
    tmp_path.chmod(0o755)
    data = tmp_path / "above" / "data"
    command = [sys.executable, "-m", "shotbus", "up", "--data", str(data), "--pool", "noop", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with running:
        assert b"ready" in running.stdout.readline()
        (tmp_path / "bell.qasm").write_text(BELL)
        words = ["submit", "bell.qasm", "--backend", "noop", "--wait", "--data", data]
        assert invoke(tmp_path, *words)[0] == 0
        assert {"bus/log.db", "bus/log.db-wal", "store.sqlite"} <= names(data)
        assert modes(tmp_path / "above") == {}
        running.terminate()
    assert modes(data) == {}


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_a_client_writes_for_its_broker_is_for_the_owner_alone(tmp_path, everyone_may_read):
    (tmp_path / "D").mkdir(mode=0o700)
    (tmp_path / "D" / "up.toml").touch(mode=0o644)  # by an older version
    assert invoke(tmp_path, "list", "--data", "D")[0] == 0
    assert {"up.toml", "up.log", "up.lock"} <= names(tmp_path / "D")
    assert modes(tmp_path / "D") == {}


def test_the_password_of_another_buss_store_is_not_written_into_a_data_directory(tmp_path):
    url = f"kafka://k:1?store=redis://u:{PASSWORD}@r:2"
    assert invoke(tmp_path, "list", "--data", "D", environ={"SHOTBUS__BROKER__URL": url})[0] == 0
    for path in (path for path in (tmp_path / "D").rglob("*") if path.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["doctor", "--json"], ["list"], ["dispatcher"], ["topics", "plan"], ["state", "rebuild"]],
    ids=" ".join,
)
@pytest.mark.parametrize("bus", ["kafka://127.0.0.1:9", "kafka://u@127.0.0.1:9", "kafka://["])
def test_the_stores_password_is_not_printed_when_nothing_answers(tmp_path, bus, words):
    url = f"{bus}?store=redis://u:{PASSWORD}@127.0.0.1:9"
    found, out, err = invoke(tmp_path, *words, "--url", url)
    assert found in (2, 3)
    assert PASSWORD not in out + err


@pytest.fixture
def guarded(kafka_address, redis_url):
    """A cluster's URL with a login of the store in it."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    with Redis.from_url(redis_url) as redis:
        redis.acl_setuser(
            user, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], commands=["+@all"]
        )
        place = redis_url.removeprefix("redis://")
        yield f"kafka://{kafka_address}?store=redis://{user}:{PASSWORD}@{place}"
        redis.acl_deluser(user)


@pytest.mark.kafka
@pytest.mark.redis
def test_the_stores_password_is_not_printed_where_everything_answers(guarded, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOTBUS__BROKER__PREFIX", f"secret-{uuid.uuid4().hex[:8]}.")
    log = tmp_path / "log"
    for style in ([], ["--json"]):
        words = [sys.executable, "-m", "shotbus", "reducer", *style, "--url", guarded]
        with log.open("ab") as stream:
            role = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stream, text=True)
        with role:
            ready = role.stdout.readline()
            role.terminate()
        assert "store=redis://***@" in ready
        assert PASSWORD not in ready + log.read_text()
    found, out, err = invoke(tmp_path, "doctor", environ={"SHOTBUS__BROKER__URL": guarded})
    assert found == 0
    assert PASSWORD not in out + err
