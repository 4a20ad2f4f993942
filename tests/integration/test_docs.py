"""Code blocks of README.md and docs/ are executed; links point to files that exist."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language):
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (found, text) in enumerate(BLOCK.findall(page.read_text()))
        if found == language
    ]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block_runs(code, tmp_path):
    (tmp_path / "block.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_block_is_a_valid_configuration(text, tmp_path):
    tomllib.loads(text)
    (tmp_path / "shotbus.toml").write_text(text)
    command = [sys.executable, "-m", "shotbus", "doctor", "--config", "shotbus.toml", "--data", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_of_shell_blocks_exist(text):
    """Targets of make exist; every ``shotbus COMMAND`` answers --help (alternatives are written a|b)."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for words in re.findall(r"shotbus ((?:[a-z][\w|-]*)(?: [a-z][\w|-]*)?)", text):
        first, _, second = words.partition(" ")
        for command in first.split("|"):
            for sub in second.split("|") if "|" in second else [""]:
                line = [sys.executable, "-m", "shotbus", command, *([sub] if sub else []), "--help"]
                done = subprocess.run(line, capture_output=True, timeout=60, check=False, env=os.environ)
                assert done.returncode == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
