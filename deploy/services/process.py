"""Long-lived child processes known by a pid file: spawned, recognised again, ended. Does I/O."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from shotbus.deploy.services.errors import ServiceError

_POLL_SECONDS = 0.05
_TERM_SECONDS = 20.0
_ZOMBIE = "Z"
_LISTENING = "0A"


def spawn(command: Sequence[str], directory: pathlib.Path, name: str) -> int:
    """Start ``command`` in a session of its own; log to ``name``.log, leave ``name``.pid. Returns the pid.

    Not a Popen: the process outlives this one, and Popen complains when it is forgotten.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = shutil.which(command[0]) or command[0]
    log = os.open(directory / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        pid = os.posix_spawn(
            program,
            [program, *command[1:]],
            dict(os.environ),
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
        )
    finally:
        os.close(log)
    pid_file(directory, name).write_text(json.dumps({"pid": pid, "born": _born(pid)}))
    return pid


def pid_file(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Return where the pid of ``name`` is kept."""
    return directory / f"{name}.pid"


def running(directory: pathlib.Path, name: str) -> int | None:
    """Return the pid if the process that was spawned here still runs; a pid used anew is not ours."""
    try:
        kept = json.loads(pid_file(directory, name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(kept["pid"])
    return pid if kept["born"] is not None and _born(pid) == kept["born"] else None


def stop(directory: pathlib.Path, name: str) -> bool:
    """End the process of ``name`` if it is ours: SIGTERM, then SIGKILL. Returns whether one was ended."""
    pid = running(directory, name)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        if not _until(lambda: running(directory, name) is None, _TERM_SECONDS):
            _signal(pid, signal.SIGKILL)
            _until(lambda: running(directory, name) is None, _TERM_SECONDS)
    pid_file(directory, name).unlink(missing_ok=True)
    return pid is not None


def wait_until(ready: Callable[[], bool], directory: pathlib.Path, name: str, seconds: float) -> None:
    """Wait for ``ready``. Raises :class:`ServiceError` with the end of the log if it exits or is too slow."""
    if _until(lambda: ready() or running(directory, name) is None, seconds) and running(directory, name):
        return
    state = "did not get ready" if running(directory, name) else "exited"
    log = directory / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    msg = "\n".join([f"{name} {state}; the end of {log}:", *lines])
    raise ServiceError(msg)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(directory: pathlib.Path, name: str, port: int) -> bool:
    """Whether it is our process that listens on ``port``, not another that was quicker to take it.

    Only Linux tells; elsewhere the port is believed.
    """
    pid, table = running(directory, name), pathlib.Path("/proc/net/tcp")
    if pid is None or not table.exists():
        return pid is not None
    rows = [row.split() for path in (table, table.with_name("tcp6")) if path.exists() for row in _rows(path)]
    suffix = f":{port:04X}"
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(suffix) and row[3] == _LISTENING}
    links = []
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return not sockets.isdisjoint(links)


def _rows(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines()[1:]


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Hold an exclusive lock among processes; waits for it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _born(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid; None when it does not run."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    stat = pathlib.Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            # The command, in parentheses, may hold spaces; fields are counted from behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == _ZOMBIE else fields[19]
    # ps is on every POSIX system and has no other way in.
    answer = subprocess.run(  # noqa: S603  # fixed program, numeric argument
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
