"""The command line in this process."""

import contextlib
import json

from click.testing import CliRunner
from embedded_kit import BELL, ROTATED

from shotbus.cli.main import cli


def make_folder(broker):
    """A working directory whose configuration points to the broker, with circuits and points."""
    folder = broker.directory.parent
    (folder / "shotbus.toml").write_text(f'[broker]\nurl = "{broker.url}"\n')
    (folder / "bell.qasm").write_text(BELL)
    (folder / "rotated.qasm").write_text(ROTATED)
    (folder / "points.csv").write_text("a,b\n0,0\n3.141592653589793,0\n0,3.141592653589793\n")
    return folder


def invoke(folder, *words, environ=None, text=None):
    """Run a command in this process: (exit code, standard output, standard error)."""
    with contextlib.chdir(folder):
        done = CliRunner(env=environ).invoke(cli, [str(word) for word in words], input=text)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def told(folder, *words, code=0, **options):
    """Run a command with --json; return what it printed, decoded."""
    found, out, err = invoke(folder, *words, "--json", **options)
    assert found == code, err
    return json.loads(out if code == 0 or out else err)


def said(folder, *words, code=0, **options):
    """Run a command; return its text."""
    found, out, err = invoke(folder, *words, **options)
    assert found == code, err
    return out if code == 0 else err
