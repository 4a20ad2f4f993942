"""What another process has used so far: CPU seconds, memory. Reads /proc, so it needs Linux."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the seconds that all threads of a process have spent, system calls included."""
    # The second field is a name in brackets and may hold blanks; utime and stime are 14th and 15th.
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return a field of a process's status in bytes (``VmRSS`` now, ``VmHWM`` the most so far)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {field}: this benchmark needs Linux")
