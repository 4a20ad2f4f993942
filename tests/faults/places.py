"""Where the example is, and what a test may kill: services of its own, children of a process."""

import contextlib
import os
import pathlib
import signal

from shotbus.deploy.services import start_kafka, start_redis, stop
from shotbus.deploy.services.process import running

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "h2_dissociation.toml"


def children_of(pid):
    """Return the ids of a process's children."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


class OwnServices:
    """A Kafka and a Redis as local processes. What is killed comes back on its port and its directory."""

    def __init__(self, folder, jars):
        self._folder, self._jars = folder, jars
        kafka = start_kafka(folder / "kafka", jars).address
        redis = start_redis(folder / "redis")
        self.url = f"kafka://{kafka}?store={redis}"
        self._ports = {"kafka": int(kafka.rpartition(":")[2]), "redis": int(redis.rpartition(":")[2])}

    def kill(self, kind):
        """End it as a power cut would."""
        os.kill(running(self._folder / kind, kind), signal.SIGKILL)
        # Waits for its end and forgets its id.
        stop(self._folder / kind, kind)

    def start(self, kind):
        if kind == "kafka":
            start_kafka(self._folder / kind, self._jars, port=self._ports[kind])
        else:
            start_redis(self._folder / kind, port=self._ports[kind])

    def stop(self):
        for kind in self._ports:
            stop(self._folder / kind, kind)
