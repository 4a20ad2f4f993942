"""The compile cache: a directory of entries that all workers of a host share, and later ones find. Does I/O.

Whatever goes wrong here costs a compilation, never a job: what cannot be read is a miss, what cannot be
written is not kept, and both are counted. Entries appear whole (a temporary file is renamed) and may go at
any time: no reader holds on to one. Nothing is unpickled; the directory must be the user's alone, because
whoever writes here decides what the workers run.

Entries that differ in their calibration alone stand in one directory, named so that the newest sorts last:
the names are the index, and there is no other that could disagree with the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from shotbus.broker.files import make_private_directory
from shotbus.workers.compiled.entry import Entry, pack, unpack
from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Rule

#: Where a compiled circuit came from: this process, the directory, or it was compiled.
Origin = Literal["memory", "disk", "anew"]

#: Larger ones are not kept: a transpiled circuit has about 40 bytes a gate.
MAX_ENTRY_BYTES = 64 << 20
_SUFFIX, _PENDING = ".qpy", ".new"
# A file's time says when it was used last; it is set no more often than this, seconds.
_USED_SECONDS = 60.0
# A process that was killed leaves its temporary file behind; no write takes this long, seconds.
_ABANDONED_SECONDS = 3_600.0
# The directory is looked at when a process has added so much of the bound, or so many entries; then it is
# brought down to the part below it, so that several writers together stay within the bound.
_LOOK_PART, _LOOK_ENTRIES, _KEEP_PART = 1 / 32, 256, 7 / 8
# So many earlier calibrations of a circuit are offered; older ones are likelier to be too old.
_MOST_EARLIER = 16
# A group's directory may go, since it is empty, between its making and the writing into it.
_TRIES = 3


class UnsafeDirectoryError(Exception):
    """The directory is not the user's own, or others may write to it."""


@dataclass(slots=True)
class CompileCounts:
    """What became of the circuits that were asked for, and ``seconds`` spent compiling (parsing included).

    Of those found, ``reused`` had been compiled for an earlier calibration.
    """

    memory: int = 0
    disk: int = 0
    anew: int = 0
    reused: int = 0
    damaged: int = 0
    evicted: int = 0
    failed: int = 0
    seconds: float = 0.0

    def found(self, origin: Origin) -> None:
        """Count where a circuit came from."""
        setattr(self, origin, getattr(self, origin) + 1)


class _File(NamedTuple):
    used: float
    size: int
    path: Path


class CompileCache:
    """Entries by key; a key is a word, or a group and a word with ``/`` between them.

    Args:
        directory: made if it is missing; None keeps nothing and only counts.
        max_bytes: what all entries together may take; the least recently used go first.
        rule: when what was compiled for an earlier calibration is compiled anew.

    Raises:
        UnsafeDirectoryError: it exists and is not the user's alone.
        OSError: it cannot be made.

    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        max_bytes: int = 512 << 20,
        rule: Rule = EVERY_CALIBRATION,
    ) -> None:
        self.counts, self.rule = CompileCounts(), rule
        self._directory, self._max_bytes = directory, max_bytes
        self._added_bytes, self._added = 0, _LOOK_ENTRIES
        if directory is not None:
            make_private_directory(directory)
            _demand_own(directory)

    @property
    def keeps(self) -> bool:
        """Whether there is a directory at all."""
        return self._directory is not None

    def get(self, key: str) -> Entry | None:
        """Return an entry, None when there is none that can be used; a damaged one is removed."""
        if self._directory is None:
            return None
        path = self._path(self._directory, key)
        try:
            data = _read(path)
        except FileNotFoundError:
            return None
        except OSError:
            self.counts.failed += 1
            return None
        entry = unpack(key, data)
        if entry is None:
            self.discard(key)
        return entry

    def earlier(self, group: str) -> list[str]:
        """Return the keys of a group, the greatest word first; each may be gone when it is asked for."""
        if self._directory is None:
            return []
        try:
            names = [path.name for path in (self._directory / group).iterdir()]
        except FileNotFoundError:
            return []
        except OSError:
            self.counts.failed += 1
            return []
        words = sorted((name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)), reverse=True)
        return [f"{group}/{word}" for word in words[:_MOST_EARLIER]]

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, if that is possible."""
        if self._directory is None:
            return
        data = pack(key, entry)
        if len(data) > min(MAX_ENTRY_BYTES, int(self._max_bytes * _KEEP_PART)):
            self.counts.failed += 1
            return
        try:
            _write_in_group(self._directory, self._path(self._directory, key), data)
        except OSError:
            self.counts.failed += 1
            return
        self._added_bytes, self._added = self._added_bytes + len(data), self._added + 1
        if self._added_bytes >= self._max_bytes * _LOOK_PART or self._added >= _LOOK_ENTRIES:
            self._make_room(self._directory)

    def discard(self, key: str) -> None:
        """Remove an entry that turned out to be damaged."""
        self.counts.damaged += 1
        if self._directory is not None:
            _remove(self._path(self._directory, key))

    def take_counts(self) -> dict[str, float]:
        """Return what was counted since the last call."""
        counts, self.counts = self.counts, CompileCounts()
        return dataclasses.asdict(counts)

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / f"{key}{_SUFFIX}"

    def _make_room(self, directory: Path) -> None:
        """Remove what was used longest ago, unless another process does so already."""
        self._added_bytes = self._added = 0
        try:
            with _alone(directory) as mine:
                if mine:
                    self.counts.evicted += _evict(directory, self._max_bytes)
        except OSError:
            self.counts.failed += 1


def _demand_own(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UnsafeDirectoryError(f"{directory} must be a directory that only you may write to")


def _read(path: Path) -> bytes:
    """Return a file's bytes, none at all for one that is not ours; note that it was used. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not own or status.st_mode & 0o022 or status.st_size > MAX_ENTRY_BYTES:
            return b""
        if time.time() - status.st_mtime > _USED_SECONDS:
            os.utime(descriptor)
        return file.read()


def _write_in_group(directory: Path, path: Path, data: bytes) -> None:
    """Write a file, making its group's directory; the cache's own is not made again. Raises OSError."""
    for turn in range(_TRIES):
        if path.parent != directory:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            _write(path, data)
        except FileNotFoundError:
            if turn == _TRIES - 1 or path.parent == directory:
                raise
        else:
            return


def _write(path: Path, data: bytes) -> None:
    """Have a file appear whole. Not synchronised: what a power failure tears has a wrong checksum."""
    # Process ids alone may come twice where containers share a directory.
    pending = path.with_name(f"{path.stem}.{os.urandom(6).hex()}{_PENDING}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(pending, flags, 0o600), "wb") as file:
            file.write(data)
        pending.replace(path)
    except BaseException:
        _remove(pending)
        raise


def _remove(path: Path) -> None:
    # Another process may have been quicker, or the disk is gone: either way it is found damaged again.
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Hold the directory's lock, if nobody else does: two at once would remove twice as much."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _evict(directory: Path, max_bytes: int) -> int:
    """Remove entries until the others fit, and abandoned temporary files; returns how many entries went."""
    files = sorted(_files(directory))
    total, gone = sum(file.size for file in files), 0
    if total <= max_bytes * (1 - _LOOK_PART):
        return 0
    for file in files:
        if total <= max_bytes * _KEEP_PART:
            break
        _remove(file.path)
        if file.path.parent != directory:
            # Refused while anything is in it.
            with contextlib.suppress(OSError):
                file.path.parent.rmdir()
        total, gone = total - file.size, gone + 1
    return gone


def _files(directory: Path) -> Iterator[_File]:
    """Yield the entries, those of groups among them."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as found:
        for one in found:
            try:
                status = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from _files(Path(one.path))
            elif one.name.endswith(_SUFFIX):
                yield _File(status.st_mtime, status.st_size, Path(one.path))
            elif one.name.endswith(_PENDING) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                _remove(Path(one.path))
