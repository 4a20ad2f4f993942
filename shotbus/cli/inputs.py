"""What a submission reads: circuit text, points from a CSV file, ``--bind``. Reads files.

Everything that is wrong is found in one pass and told with its place: ``FILE:LINE:COLUMN`` of a CSV file,
where COLUMN counts fields, or the option.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from shotbus.schemas.errors import MAX_PROBLEMS, Problem, fail

Bindings = dict[str, Any]


def read_text(path: Path) -> str:
    """Return a file's text, - is standard input. Raises ShotbusError (SB-2003)."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise fail("SB-2003", str(path), detail=error.strerror, hint="check the path") from error
    except UnicodeDecodeError as error:
        raise fail("SB-2003", str(path), detail="not text in UTF-8", hint="save it as UTF-8") from error


def parse_bindings(pairs: Sequence[str]) -> tuple[Bindings, list[Problem]]:
    """Read ``NAME=V[,V…]`` options; of a wrong one only the name is taken, so that it counts as bound."""
    bindings: Bindings = {}
    problems: list[Problem] = []
    for pair in pairs:
        name, _, values = pair.partition("=")
        name = name.strip()
        path = f"--bind {name}"
        if name in bindings:
            hint = "give all its values at once: NAME=V,V"
            problems.append(Problem("SB-1306", path, actual=pair, hint=hint))
            continue
        bindings[name] = 0.0
        try:
            bindings[name] = [float(value) for value in values.split(",")]
        except ValueError:
            problems.append(Problem("SB-1304", path, limit="NAME=NUMBER[,NUMBER…]", actual=pair))
    return bindings, problems


def parse_options(pairs: Sequence[str], flag: str = "--option") -> tuple[dict[str, str], list[Problem]]:
    """Read ``KEY=VALUE`` options of a ``flag`` that may be repeated."""
    options: dict[str, str] = {}
    problems: list[Problem] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            problems.append(Problem("SB-2002", flag, limit="KEY=VALUE", actual=pair))
        elif name in options:
            problems.append(Problem("SB-2002", f"{flag} {name}", limit="once", actual=pair))
        options[name] = value
    return options, problems


def read_points(path: Path) -> tuple[Bindings, list[Problem]]:
    """Return the columns of a CSV file by the names in its header, and what is wrong with it.

    ``-`` is standard input. Of a file with problems only the names are taken, so that they count as bound:
    SB-1306 a name twice, SB-1304 another number of columns, SB-1303 no finite number. Raises ShotbusError
    (SB-2003) for a file that cannot be read.
    """
    lines = _lines(path, read_text(path))
    place, (_, header), rows = str(path), lines[0] if lines else (1, []), lines[1:]
    names = [name.strip() for name in header]
    problems = list(_wrong_header(place, names))
    if not rows:
        limit = "a line that names the parameters, then a line a point"
        problems.append(Problem("SB-1304", place, limit=limit, actual=f"{len(lines)} lines"))
    matrix = _matrix([row for _, row in rows], len(names))
    if matrix is None:
        problems += islice(_wrong_rows(place, rows, len(names)), MAX_PROBLEMS)
    if problems or matrix is None:
        return dict.fromkeys(filter(None, names), 0.0), problems
    return {name: matrix[:, column] for column, name in enumerate(names)}, []


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty with the numbers of their lines."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise fail("SB-2003", f"{path}:{reader.line_num}", detail=str(error)) from error


def _wrong_header(place: str, names: Sequence[str]) -> Iterator[Problem]:
    for column, name in enumerate(names, 1):
        if not name:
            yield Problem("SB-1304", f"{place}:1:{column}", limit="the name of a parameter", actual="nothing")
        elif name in names[: column - 1]:
            hint = f"column {names.index(name) + 1} has the same name: drop or rename one of them"
            yield Problem("SB-1306", f"{place}:1:{column}", actual=name, hint=hint)


def _matrix(rows: Sequence[Sequence[str]], columns: int) -> Any:
    """Return the numbers (points x columns) when all is well, else None."""
    try:
        matrix = np.array([[float(text) for text in row] for row in rows])
    except ValueError:
        return None
    return matrix if matrix.shape == (len(rows), columns) and np.isfinite(matrix).all() else None


def _wrong_rows(place: str, rows: Sequence[tuple[int, Sequence[str]]], columns: int) -> Iterator[Problem]:
    for line, row in rows:
        if len(row) != columns:
            actual = f"{len(row)} columns"
            yield Problem("SB-1304", f"{place}:{line}", limit=f"{columns} columns", actual=actual)
            continue
        for column, text in enumerate(row, 1):
            if not _is_number(text):
                yield Problem("SB-1303", f"{place}:{line}:{column}", limit="a finite number", actual=text)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
