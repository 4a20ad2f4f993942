"""What the suites of bad input measure and ask: memory of a broker's processes, answers to raw requests, good jobs."""

import contextlib
import os
import pathlib

from embedded_kit import BELL

from shotbus import Client
from shotbus.schemas.codec import decode
from shotbus.schemas.ids import job_id

#: Each answer takes well under a second on an idle machine; tests share theirs with others.
SECONDS = 15.0
MEGABYTES = 256


@contextlib.contextmanager
def unharmed(place, *pools):
    """A client; at its end no process of the broker has died or grown, and good jobs still run."""
    with Client(place.url, config=place.config) as client:
        run_good_jobs(client, pools)
        before = peaks(place.pids)
        yield client
        after = peaks(place.pids)
        assert set(place.pids) <= set(after), "a process has died"
        assert growth(before, after) < MEGABYTES
        run_good_jobs(client, pools)


def run_good_jobs(client, pools):
    jobs = [client.submit(BELL, shots=5, backend=pool) for pool in pools]
    assert [job.result(90).outcome for job in jobs] == ["succeeded"] * len(pools)


def peaks(pids):
    """Peak memory in MB and command line of processes and all below them."""
    found, todo = {}, list(pids)
    while todo:
        pid = todo.pop()
        folder = pathlib.Path(f"/proc/{pid}")
        try:
            status = (folder / "status").read_text()
            children = (folder / f"task/{pid}/children").read_text().split()
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:  # it ended while we looked
            continue
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        found[pid] = int(peak) // 1024, tuple(command[2:6])
        todo += map(int, children)
    return found


def growth(before, after):
    """The most MB that a process has grown; a new one is compared with the largest of its like."""
    usual = {}
    for peak, command in before.values():
        usual[command] = max(peak, usual.get(command, 0))
    return max(
        peak - (before[pid][0] if pid in before else usual.get(command, 0))
        for pid, (peak, command) in after.items()
    )


def new_id():
    return job_id("tenant-", entropy=os.urandom(12))


def answers(place, job):
    """(record, codes) of every answer to a job that is not about where it is."""
    mine = [decode(record.value) for record in place.records("results") if record.key == job.encode()]
    return [(name, [one["code"] for one in fields["problems"]]) for name, fields in mine if name != "located"]
