"""Failpoints: where a fault run may kill this process. Reads the environment once.

``SHOTBUS_FAILPOINT=name`` or ``name:3`` sends SIGKILL to this process when the named point is passed
for the first (third) time. Unset, a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _COUNT = os.environ.get("SHOTBUS_FAILPOINT", "").partition(":")


class _Fuse:
    """Counts down to the kill; one a process."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


_FUSE = _Fuse(int(_COUNT or 1))


def failpoint(name: str) -> None:
    """Die here when the environment says so."""
    if name == _NAME:
        _FUSE.burn()
