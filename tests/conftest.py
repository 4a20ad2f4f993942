"""Services that the tests share: one Kafka and one Redis a run, started by the first worker that asks.

The controller (or the only process) makes a folder for the run, hands it to the workers through the environment,
and ends at the end whatever was started in it. A service that cannot be had is a failure, never a skip.
"""

import asyncio
import os
import pathlib
import shutil
import tempfile

import pytest

from shotbus.deploy.services import Services
from shotbus.deploy.services.__main__ import default_directory
from shotbus.deploy.services.compose import FILE, environment, project
from shotbus.deploy.services.process import free_port, locked
from shotbus.deploy.services.programs import docker_answers

RUN = "SHOTBUS_TEST_RUN"
PREFIX = "shotbus-tests-"
CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure(config):
    if hasattr(config, "workerinput") or os.environ.get(RUN):
        return
    sweep_dead_runs()
    config.shotbus_run = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    os.environ[RUN] = str(config.shotbus_run)


def pytest_unconfigure(config):
    run = getattr(config, "shotbus_run", None)
    if run is not None:
        end_run(run)
        os.environ.pop(RUN, None)


def sweep_dead_runs():
    """End what runs left behind that were killed before their end."""
    for run in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = int(run.name.removeprefix(PREFIX).partition("-")[0])
        if not pathlib.Path(f"/proc/{owner}").exists() and pathlib.Path("/proc/self").exists():
            end_run(run)


def end_run(run):
    for kind in ("kafka", "redis"):
        if (run / f"{kind}.container").exists():
            containers(run, kind).stop()
    Services(run).down()
    shutil.rmtree(run, ignore_errors=True)


def containers(run, kind):
    """One service of the project's compose file, in containers of this run."""
    from testcontainers.compose import DockerCompose

    os.environ["COMPOSE_PROJECT_NAME"] = f"{project(run)}-{kind}"
    return DockerCompose(FILE.parent, compose_file_name=FILE.name, services=[kind], wait=True)


def in_container(run, kind):
    """Return the address of a containerised service, started once a run."""
    kept = run / f"{kind}.container"
    with locked(run / f"{kind}.container.lock"):
        if not kept.exists():
            port = free_port()
            os.environ.update(environment(kind, port))
            kept.write_text(f"127.0.0.1:{port}")
            containers(run, kind).start()
    return kept.read_text()


def service(kind):
    given = os.environ.get(f"SHOTBUS_TEST_{kind.upper()}")
    run = pathlib.Path(os.environ[RUN])
    if not given and docker_answers():
        return in_container(run, kind)
    # The jars come from the cache of the checkout, so that a run needs no network once they are there.
    return Services(run, cache=jar_cache()).up(kind).address


def jar_cache():
    return default_directory(CHECKOUT)


@pytest.fixture(scope="session")
def kafka_address():
    """host:port of a plain-text Kafka broker."""
    return service("kafka")


@pytest.fixture(scope="session")
def redis_url():
    """URL of a Redis without a password; each test takes keys of its own."""
    return f"redis://{service('redis')}"


@pytest.fixture(scope="session")
def kafka_jars():
    """The folder under which brokers of single tests find their jars."""
    return jar_cache()


@pytest.fixture
async def sockets_closed():
    """Wait until what a test gave up is closed: TLS takes a round trip, and aiokafka does not wait for it.

    A connection that nobody closes fails the test that left it, not the one during which it is collected.
    """
    yield
    # The loop's own map: nothing public tells of connections that no object holds any more.
    held = asyncio.get_running_loop()._selector.get_map()
    async with asyncio.timeout(30):
        while len(held) > 1:
            await asyncio.sleep(0.01)
