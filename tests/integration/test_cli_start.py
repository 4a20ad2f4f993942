"""The command starts quickly and explains itself."""

import pathlib
import subprocess
import sys

import pytest
from cli_kit import invoke, said
from click.testing import CliRunner
from embedded_kit import shotbus

from shotbus.cli.main import COMMANDS, cli


def every_command(group=cli, path=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield (*path, name)
        if hasattr(command, "list_commands"):
            yield from every_command(command, (*path, name))


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_has_help_that_says_what_it_does(path):
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    usage, _, text = done.output.partition("\n\n")
    assert usage.strip().endswith(("[OPTIONS]", "COMMAND [ARGS]...")) or "[OPTIONS]" in usage
    assert len(text.strip().splitlines()[0]) > 10


def test_the_root_help_lists_every_command_and_the_exit_codes(tmp_path):
    text = said(tmp_path, "--help")
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Exit codes" in text


def test_an_unknown_command_or_option_exits_with_2(tmp_path):
    assert invoke(tmp_path, "frobnicate")[0] == 2
    assert invoke(tmp_path, "list", "--frobnicate")[0] == 2


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        ([], ("qiskit", "qiskit_aer", "pennylane", "numpy", "aiokafka", "redis", "rich", "matplotlib")),
        (
            ["--help"],
            ("qiskit", "qiskit_aer", "pennylane", "numpy", "aiokafka", "redis", "rich", "matplotlib"),
        ),
        (["submit", "--help"], ("qiskit", "qiskit_aer", "pennylane", "aiokafka", "redis", "matplotlib")),
        (["run", "--help"], ("qiskit", "qiskit_aer", "pennylane", "aiokafka", "redis", "matplotlib")),
        (["up", "--help"], ("qiskit", "qiskit_aer", "pennylane", "aiokafka", "redis", "matplotlib")),
    ],
    ids=" ".join,
)
def test_the_command_starts_without_importing_an_sdk(words, heavy):
    code = (
        "import sys\nfrom shotbus.cli.main import cli\n"
        f"try:\n    cli({words!r}, prog_name='shotbus')\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_script_and_the_module_are_the_same_command(tmp_path):
    script = pathlib.Path(sys.executable).with_name("shotbus")
    done = subprocess.run(
        [script, "--version"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout == shotbus("--version", cwd=tmp_path)[1]
    assert done.stdout.startswith("shotbus, version ")
