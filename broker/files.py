"""Directories and files that only their owner may enter or read, whatever the umask. Does I/O."""

from __future__ import annotations

import os
from pathlib import Path


def make_private_directory(directory: Path) -> None:
    """Create a directory with mode 0700, and the missing ones above it alike; leave one that exists.

    ``Path.mkdir(mode, parents=True)`` gives parents the default mode. Raises OSError.
    """
    for path in (*reversed(directory.absolute().parents), directory):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
    if not directory.is_dir():
        raise NotADirectoryError(str(directory))


def private(path: str, flags: int) -> int:
    """Open a file for its owner alone (0600), one of an older version too: an ``opener`` for ``open()``."""
    descriptor = os.open(path, flags, 0o600)
    if os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)
    return descriptor
