"""The files of an embedded log: its directory, its lock, its refusal of network file systems. Does I/O.

Layout of a data directory: ``log.db`` (with ``-wal`` and ``-shm``), ``lock`` and ``bells/``. The lock file
must never be deleted while a process uses the directory.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shotbus.broker.bus.base import BusError
from shotbus.broker.files import make_private_directory

MOUNTINFO = Path("/proc/self/mountinfo")
_WORD_BYTES = 16
_FILE_BYTES = _WORD_BYTES + 1  # and a flag: somebody waits
_ATTEMPTS = 8
_ATTEMPT_S = 5e-5
# fmt: off
_NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs",
})
_NETWORK_FUSE = (  # beginnings of the names behind "fuse."
    "ceph", "davfs", "gcsfuse", "gluster", "goofys", "gvfs", "juicefs", "nfs", "rclone", "s3", "smb", "sshfs",
)
# fmt: on


def prepare_directory(directory: Path) -> Path:
    """Create ``directory`` (mode 0700) if needed and return its resolved path.

    Raises :class:`BusError` when it cannot be used: not a directory, no right to write, network storage.
    """
    try:
        make_private_directory(directory)
    except OSError as error:
        raise BusError(f"cannot create the data directory {directory}: {error}") from error
    resolved = directory.resolve()
    if not os.access(resolved, os.W_OK | os.X_OK):
        raise BusError(f"no permission to write in the data directory {resolved}")
    if MOUNTINFO.exists():
        refuse_network_file_system(resolved, MOUNTINFO.read_text(encoding="utf-8", errors="replace"))
    return resolved


def refuse_network_file_system(directory: Path, mountinfo: str) -> None:
    """Raise :class:`BusError` when ``directory`` lies on a network mount of ``mountinfo``.

    File locks and shared memory do not hold between the hosts of a network file system, so that two
    writers would corrupt the log. The format of ``mountinfo`` is that of proc_pid_mountinfo(5).
    """
    kind = _file_system_of(str(directory), mountinfo)
    if _is_network(kind):
        raise BusError(
            f"{directory} is on a network file system ({kind}), where locks do not protect the log; "
            "choose a local disk, or use Kafka for several hosts"
        )


def _is_network(kind: str) -> bool:
    if kind.startswith("fuse."):
        return kind[len("fuse.") :].startswith(_NETWORK_FUSE)
    return kind in _NETWORK_FILE_SYSTEMS


def _file_system_of(path: str, mountinfo: str) -> str:
    """Return the type of the mount that holds ``path``; a later mount hides an earlier one."""
    best, kind = "", ""
    for mount, candidate in _mounts(mountinfo):
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, candidate
    return kind


def _mounts(mountinfo: str) -> Iterator[tuple[str, str]]:
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if separator and len(fields) > 4 and right.split():
            yield _unescape(fields[4]), right.split()[0]


def _unescape(path: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(code, character)
    return path


class WriteLock:
    """The lock that all writers of a data directory take; one holder per instance at a time.

    SQLite's own busy handler sleeps ever longer, which made small commits ten times slower under contention.
    The file also holds a word that names its last holder: a writer that still finds its own word knows that
    nobody else has written since, without asking the database. ``on_stranger`` is called inside the first
    acquisition, whatever that is for, after someone else held the lock: what was remembered is void.
    """

    def __init__(self, path: Path, on_stranger: Callable[[], None]) -> None:
        self._on_stranger = on_stranger
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Growing the file is the same whoever does it, and a new word of zeros is nobody's.
        if os.fstat(self._fd).st_size < _FILE_BYTES:
            os.ftruncate(self._fd, _FILE_BYTES)
        self._map = mmap.mmap(self._fd, _FILE_BYTES)
        self._word = os.getpid().to_bytes(4, "little") + secrets.token_bytes(_WORD_BYTES - 4)

    def acquire(self) -> bool:
        """Try to take the lock for a fraction of a millisecond; returns whether it was had."""
        for _ in range(_ATTEMPTS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_ATTEMPT_S)
                continue
            if self._map[:_WORD_BYTES] != self._word:
                self._on_stranger()
                # Before anything is written: if this process dies in mid-write, the next sees a stranger.
                self._map[:_WORD_BYTES] = self._word
            return True
        self._map[_WORD_BYTES] = 1
        return False

    def wanted(self) -> bool:
        """Return whether another process failed to get the lock since the last call: make way for it."""
        wanted = self._map[_WORD_BYTES] != 0
        if wanted:
            self._map[_WORD_BYTES] = 0
        return wanted

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def holder(self) -> int:
        """Return the process that took the lock last."""
        return int.from_bytes(self._map[:4], "little")

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._fd)
