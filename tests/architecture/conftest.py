"""What the architecture tests read: the checkout's sources, parsed once."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))  # the helpers that several suites share
COMPONENTS = ("schemas", "broker", "producers", "workers", "reducers", "deploy", "benchmarks", "shotbus")


class Module:
    """One source file: its import name, its path, its tree and what it imports."""

    def __init__(self, path):
        self.path = path
        self.place = path.relative_to(ROOT).as_posix()
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        self.name = ".".join(parts if parts[0] == "shotbus" else ["shotbus", *parts])
        self.component = parts[0]
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)

    def imports(self):
        """Every module that is imported anywhere in the file, with the names taken from it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.place} imports relatively"
                yield from ((node.module, alias.name) for alias in node.names)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def modules():
    """Every module of the package by import name."""
    paths = [path for name in COMPONENTS for path in sorted((ROOT / name).rglob("*.py"))]
    found = [Module(path) for path in paths]
    return {module.name: module for module in found}
