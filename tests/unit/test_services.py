"""The local services runner and the compose file, as far as they can be told without starting anything big."""

import json
import os
import pathlib
import re
import string
import subprocess
import sys

import pytest
import yaml

from shotbus.broker.config import Config
from shotbus.deploy.services import (
    ServiceError,
    ServiceMissingError,
    Services,
    compose,
    kafka,
    process,
    programs,
    start_redis,
    stop,
)
from shotbus.deploy.services.__main__ import EXIT_FAILED, EXIT_MISSING, EXIT_OK, default_directory, main
from shotbus.runfile import load_run

DEPLOY = pathlib.Path(compose.FILE).parents[1]
COMPOSE = yaml.safe_load(compose.FILE.read_text())
ROLES = {"dispatcher": 2, "worker-aer": 2, "worker-classical": 1, "reducer": 2}
# Where the containers and the one local process must differ: addresses, listeners, paths.
OF_THE_PLACE = {
    "process.roles",
    "node.id",
    "controller.quorum.voters",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.listener.names",
    "log.dirs",
}
NOWHERE = {"PATH": "/nonexistent"}


def parse(text):
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def template():
    return parse((DEPLOY / "kafka" / "server.properties").read_text())


def test_compose_broker_has_the_settings_of_the_local_broker():
    environment = COMPOSE["services"]["kafka"]["environment"]
    for name, value in template().items():
        variable = "KAFKA_" + name.replace(".", "_").upper()
        assert variable in environment, name
        if name not in OF_THE_PLACE:
            assert environment[variable] == value, name


def test_compose_broker_has_no_setting_that_the_local_broker_lacks():
    known = {"KAFKA_" + name.replace(".", "_").upper() for name in template()}
    assert set(COMPOSE["services"]["kafka"]["environment"]) - known == {"KAFKA_HEAP_OPTS"}


def test_compose_broker_is_the_version_of_the_local_jars():
    assert COMPOSE["services"]["kafka"]["image"] == "apache/kafka:4.3.1"
    assert "<version>4.3.1</version>" in (DEPLOY / "kafka" / "pom.xml").read_text()


def test_compose_publishes_its_ports_on_the_loopback_interface_only():
    published = {
        name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service
    }
    assert published == {
        "kafka": ["127.0.0.1:${SHOTBUS_KAFKA_PORT:-9092}:9092"],
        "redis": ["127.0.0.1:${SHOTBUS_REDIS_PORT:-6379}:6379"],
    }


def test_compose_advertises_the_port_that_it_publishes():
    listeners = COMPOSE["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert "PLAINTEXT://127.0.0.1:${SHOTBUS_KAFKA_PORT:-9092}" in listeners.split(",")


def test_compose_services_all_have_a_health_check_and_are_restarted():
    for name, service in COMPOSE["services"].items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["restart"] == "unless-stopped", name


@pytest.mark.parametrize(("role", "replicas"), ROLES.items())
def test_compose_roles_run_replicas_of_the_image_after_kafka_and_redis_are_healthy(role, replicas):
    service = COMPOSE["services"][role]
    assert service["command"][0] == role.partition("-")[0]
    assert service["command"][-1] == "kafka://kafka:19092?store=redis://redis:6379"
    assert service["image"] == "${SHOTBUS_IMAGE:-shotbus:latest}"
    assert re.fullmatch(rf"\$\{{SHOTBUS_\w+:-{replicas}\}}", service["deploy"]["replicas"])
    assert {name: on["condition"] for name, on in service["depends_on"].items()} == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
    }


def test_compose_has_no_service_but_kafka_redis_and_the_roles():
    assert set(COMPOSE["services"]) == {"kafka", "redis", *ROLES}


def test_compose_serves_every_pool_that_the_h2_job_uses():
    h2 = load_run(DEPLOY.parent / "examples" / "h2_dissociation.toml").plan()
    default = Config().routing.default
    needed = {job.backend or default for sweep in h2.sweeps for job in sweep.jobs}
    commands = [service.get("command", [""]) for service in COMPOSE["services"].values()]
    served = {words[words.index("--pool") + 1] for words in commands if words[0] == "worker"}
    assert needed == {"aer", "classical"}
    assert needed <= served


def test_compose_builds_the_dockerfile_that_exists():
    build = COMPOSE["services"]["worker-aer"]["build"]
    context = (compose.FILE.parent / build["context"]).resolve()
    assert (context / build["dockerfile"]).read_text().splitlines()[-1] == 'ENTRYPOINT ["shotbus"]'
    assert (context / "pyproject.toml").exists()


def test_server_properties_are_filled_in_completely(tmp_path):
    text = kafka.properties(1111, 2222, tmp_path, protocol="SASL_SSL", extra={"ssl.key.password": "x"})
    values = parse(text)
    assert "$" not in text.replace("a\n# dollar sign", "")
    assert values["listeners"] == "SASL_SSL://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert values["log.dirs"] == str(tmp_path)
    assert values["ssl.key.password"] == "x"
    assert set(string.Template(text).get_identifiers()) == set()


def test_compose_command_names_a_project_of_its_own_for_each_directory(tmp_path):
    one, two = compose.command(tmp_path / "one", "up"), compose.command(tmp_path / "two", "up")
    assert one[:2] == ["docker", "compose"]
    assert one[one.index("-p") + 1] != two[two.index("-p") + 1]
    assert compose.environment("kafka", 19) == {"SHOTBUS_KAFKA_PORT": "19"}


def test_process_is_recognised_by_its_birth_and_not_by_its_number(tmp_path):
    pid = process.spawn(["sleep", "60"], tmp_path, "sleeper")
    assert process.running(tmp_path, "sleeper") == pid
    kept = process.pid_file(tmp_path, "sleeper")
    own = kept.read_text()
    kept.write_text(json.dumps({"pid": pid, "born": "another time"}))
    assert process.running(tmp_path, "sleeper") is None
    assert not stop(tmp_path, "sleeper")
    os.kill(pid, 0)
    kept.write_text(own)
    assert stop(tmp_path, "sleeper")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_process_that_exits_at_once_is_an_error_with_the_end_of_its_log(tmp_path):
    process.spawn(["sh", "-c", "echo the disk is on fire; exit 7"], tmp_path, "unlucky")
    with pytest.raises(ServiceError, match="unlucky exited(.|\n)*the disk is on fire"):
        process.wait_until(lambda: False, tmp_path, "unlucky", 10)


def test_stop_without_anything_started_does_nothing(tmp_path):
    assert not stop(tmp_path, "kafka")
    assert Services(tmp_path).down() == []


def test_missing_program_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        ServiceMissingError, match="java is missing: install a Java 17.*apt-get install openjdk-17"
    ):
        programs.find(programs.JAVA)


def test_missing_program_is_installed_by_root_on_debian(monkeypatch, tmp_path):
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n/bin/cp /bin/true {tmp_path}/redis-server\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs.pathlib.Path, "exists", lambda self: True)
    monkeypatch.setattr(programs.os, "geteuid", lambda: 0)
    assert programs.find(programs.REDIS) == str(tmp_path / "redis-server")
    assert (tmp_path / "calls").read_text().splitlines() == [
        "update -q",
        "install -q -y --no-install-recommends redis-server",
    ]


def test_services_directory_is_the_checkout_or_the_one_named(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.delenv("SHOTBUS_SERVICES_DIR", raising=False)
    assert default_directory(tmp_path / "a" / "b") == tmp_path / ".services"
    monkeypatch.setenv("SHOTBUS_SERVICES_DIR", "/somewhere")
    assert default_directory(tmp_path) == pathlib.Path("/somewhere")


def test_command_exits_with_3_and_one_line_when_a_program_is_missing(tmp_path):
    environment = {"PATH": "/nonexistent", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "shotbus.deploy.services", "up", "--dir", str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == EXIT_MISSING
    assert len(done.stderr.splitlines()) == 1
    assert "java is missing" in done.stderr


def test_command_reports_a_given_address_that_does_not_answer(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SHOTBUS_TEST_KAFKA", f"127.0.0.1:{process.free_port()}")
    assert main(["up", "--dir", str(tmp_path)]) == EXIT_FAILED
    assert "SHOTBUS_TEST_KAFKA" in capsys.readouterr().err


def test_status_and_down_speak_json(monkeypatch, tmp_path, capsys):
    for name in ("SHOTBUS_TEST_KAFKA", "SHOTBUS_TEST_REDIS"):
        monkeypatch.delenv(name, raising=False)
    assert main(["status", "--dir", str(tmp_path), "--json"]) == EXIT_FAILED
    assert json.loads(capsys.readouterr().out) == {"url": None}
    assert main(["down", "--dir", str(tmp_path), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"stopped": []}


@pytest.mark.redis
def test_redis_is_started_once_found_again_and_ended(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOTBUS_TEST_REDIS", raising=False)
    services = Services(tmp_path)
    first = services.up("redis")
    assert services.up("redis") == first
    assert Services(tmp_path).status() == {"redis": first}
    assert services.down() == ["redis"]
    assert services.status() == {}


@pytest.mark.redis
def test_redis_that_died_is_started_anew(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOTBUS_TEST_REDIS", raising=False)
    services = Services(tmp_path)
    first = services.up("redis")
    stop(tmp_path / "redis", "redis")
    second = services.up("redis")
    assert second.how == first.how == "local"
    assert services.down() == ["redis"]


@pytest.mark.redis
def test_redis_on_a_taken_port_is_an_error_that_shows_why(tmp_path, redis_url):
    taken = int(redis_url.rpartition(":")[2])
    with pytest.raises(ServiceError, match="(?i)address already in use"):
        start_redis(tmp_path, port=taken)
