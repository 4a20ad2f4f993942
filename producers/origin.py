"""Where a submission comes from: principal, the caller's commit, SDK versions. Reads the environment once."""

from __future__ import annotations

import getpass
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata, resources
from pathlib import Path

_SDKS = ("shotbus", "qiskit", "qiskit-aer", "pennylane", "numpy")
#: Where this package's own programs stand: whoever starts them is somewhere else.
_PACKAGE = [Path(str(resources.files("shotbus"))).resolve()]


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
    """Return the commit that the caller's code is at, with ``+`` when it is modified; empty for none.

    The caller's code is where the program that runs stands: a script outside a repository has no commit,
    whatever it is started from. Of a program that is installed (a notebook's kernel, this command line) it is
    the working directory's.
    """
    place = caller_directory(getattr(sys.modules.get("__main__"), "__file__", None))
    commit = _git(place, "rev-parse", "HEAD")
    if not commit:
        return ""
    return commit + ("+" if _git(place, "status", "--porcelain", "--untracked-files=no") else "")


def caller_directory(program: str | None) -> Path:
    """Return where the caller's code stands: beside ``program``, unless that is installed, or none."""
    if program is None:
        return Path.cwd()
    found = Path(program).resolve()
    installed = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), *_PACKAGE]
    if any(found.is_relative_to(place) for place in installed):
        return Path.cwd()
    return found.parent


def _git(place: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # fixed program, arguments of our own
            ["git", "-C", str(place), *arguments],  # noqa: S607  # the user's own git, wherever it is
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
