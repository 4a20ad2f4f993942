"""Lay out ``.view/``: the package as type checkers must see it (the editable hook hides it from them)."""

from __future__ import annotations

import pathlib

FOLDERS = ("producers", "broker", "workers", "reducers", "schemas", "deploy", "benchmarks")


def main() -> None:
    """Create the links that are missing; run from anywhere."""
    root = pathlib.Path(__file__).resolve().parents[2]
    view = root / ".view" / "shotbus"
    view.mkdir(parents=True, exist_ok=True)
    sources = {path.name: path for path in (root / "shotbus").iterdir() if path.name != "__pycache__"}
    sources |= {name: root / name for name in FOLDERS}
    for name, target in sources.items():
        link = view / name
        if not link.is_symlink():
            link.symlink_to(target)


if __name__ == "__main__":
    main()
