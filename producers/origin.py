"""Where a submission comes from: principal, code commit, SDK versions. Reads the environment once."""

from __future__ import annotations

import getpass
import platform
import subprocess
from functools import cache
from importlib import metadata

_SDKS = ("shotbus", "qiskit", "qiskit-aer", "pennylane", "numpy")


@cache
def sdk_versions() -> dict[str, str]:
    """Return the versions a result may depend on, from package metadata (imports nothing)."""
    found = {"python": platform.python_version()}
    for name in _SDKS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_commit() -> str:
    """Return the commit of the caller's working directory, with ``+`` when it is modified; else empty."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return ""
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # fixed program, arguments of our own
            ["git", *arguments],  # noqa: S607  # the user's own git, wherever it is
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def principal() -> str:
    """Return the user name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
