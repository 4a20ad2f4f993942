"""What a soak kills: how it is prepared, killed in the midst of a job, and started again."""

import os
import signal

from .job import SWEEPS
from .places import children_of

POINTS = ("before_started", "after_started", "before_finished", "after_finished")


class Victim:
    """Dies from outside, once so many jobs of a sweep are done."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.moment = ("", 0)

    def __str__(self):
        return f"{self.name} dies at {self.moment}"

    def prepare(self, draw):
        self.moment = (draw.choice(SWEEPS), draw.randint(1, 12))

    def kill(self, job):
        job.wait(*self.moment)
        self.end()

    def check(self, attempts):
        """Show that the kill bit, where the results tell."""


class RoleVictim(Victim):
    def end(self):
        self.cluster.roles[self.name].kill()

    def revive(self):
        self.cluster.start(self.name, self.name.rpartition("-")[0])
        self.cluster.wait(self.name)


class WorkerVictim(Victim):
    """Dies by itself, at a point of the life of one of its bundles."""

    def __init__(self, cluster, name, pool):
        super().__init__(cluster, name)
        self.pool = pool

    def prepare(self, draw):
        self.moment = (draw.choice(POINTS), draw.randint(1, 6))
        self.cluster.roles[self.name].stop()
        point = "worker.{}:{}".format(*self.moment)
        words = ("worker", "--pool", self.pool, "--concurrency", "1")
        self.cluster.start(self.name, *words, environment={"SHOTBUS_FAILPOINT": point})
        self.cluster.wait(self.name)

    def kill(self, job):
        role = self.cluster.roles[self.name]
        assert role.process.wait(60) == -signal.SIGKILL
        role.stop()

    def revive(self):
        self.cluster.worker(self.name, self.pool)
        self.cluster.wait(self.name)

    def check(self, attempts):
        if self.moment[0] in ("after_started", "before_finished"):
            sweeps = ("exact", "shots") if self.pool == "aer" else ("diagonalisation",)
            assert max(max(attempts[sweep]) for sweep in sweeps) > 1, "it held no lease when it died"


class ChildVictim(Victim):
    """The child of a worker, which starts another."""

    def __init__(self, cluster, worker, sweep):
        super().__init__(cluster, f"a child of {worker}")
        self.worker, self.sweep = worker, sweep

    def prepare(self, draw):
        self.moment = (self.sweep, draw.randint(1, 12))

    def end(self):
        (child,) = children_of(self.cluster.roles[self.worker].process.pid)
        os.kill(child, signal.SIGKILL)

    def revive(self):
        """Its worker does."""


class ServiceVictim(Victim):
    """Kafka or Redis; comes back on its port and its directory."""

    def __init__(self, services, name):
        super().__init__(None, name)
        self.services = services

    def end(self):
        self.services.kill(self.name)

    def revive(self):
        self.services.start(self.name)


class ClusterVictim(Victim):
    """All roles at once."""

    def __init__(self, cluster):
        super().__init__(cluster, "every role")

    def end(self):
        for role in self.cluster.roles.values():
            role.kill()

    def revive(self):
        self.cluster.standard()
