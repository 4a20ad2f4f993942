"""The root command: names and homes of the commands, imported only when they are called."""

from __future__ import annotations

import difflib
import importlib
import sys
from importlib import metadata
from typing import Any

import click

#: command -> (module, attribute, one line of help); the help is here so that ``--help`` imports nothing.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("run", "run", "Run a file: submit its sweeps, follow them, report."),
    "up": ("roles", "up", "Run everything in one process on a data directory."),
    "dispatcher": ("roles", "dispatcher", "Run a dispatcher."),
    "worker": ("roles", "worker", "Run a worker of one pool."),
    "reducer": ("roles", "reducer", "Run a reducer (sweep folds and read models)."),
    "submit": ("jobs", "submit", "Submit a circuit file."),
    "status": ("jobs", "status", "Say where a job is."),
    "watch": ("watch", "watch", "Follow a job until it ends."),
    "result": ("jobs", "result", "Print a job's result."),
    "cancel": ("jobs", "cancel", "Cancel a job."),
    "why": ("why", "why", "Say why a job is where it is, or what was decided about a pool."),
    "replay": ("replay", "replay", "Run a job again and compare the answers."),
    "reprioritise": ("reprioritise", "reprioritise", "Change class, deadline, pool or time of what waits."),
    "list": ("listing", "list_jobs", "List the newest jobs."),
    "review": ("review", "review", "List, approve and reject jobs that wait for a person's word."),
    "sweep": ("sweeps", "sweep", "Submit, inspect and cancel sweeps."),
    "budget": ("budget", "budget", "List the budgets and what is left of them."),
    "pools": ("pools", "pools", "List, pause, resume and drain pools."),
    "calibration": ("calibration", "calibration", "Print the calibration that a job ran under."),
    "policy": ("policy", "policy", "Say where the routing policy would send a request, and why."),
    "flag": ("flag", "flag", "Switch a feature flag of the routing policy."),
    "audit": ("audit", "audit", "List who did what, and which budgets gave alarm."),
    "dlq": ("dlq", "dlq", "List, show, redrive and purge dead letters."),
    "topics": ("topics", "topics", "Plan and apply the topics."),
    "state": ("state", "state", "Verify and rebuild the read models; reconcile after an outage."),
    "verify": ("verify", "verify", "Check the invariants on what the topics hold."),
    "doctor": ("doctor", "doctor", "Check the configuration and what it points to."),
    "provider": ("provider", "provider", "Run a provider that does not exist, for tests and demos."),
    "compile": ("compiling", "compile_circuits", "Compile circuits ahead, for the workers of this host."),
    "simulate": ("simulate", "simulate", "Live through seeded faults in simulated time."),
    "bench": ("bench", "bench", "Measure speed and memory on this machine."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"shotbus.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command for one that does not exist."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Exit with 130 on Ctrl-C, also while a command's modules are imported."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the table without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("shotbus"), prog_name="shotbus")
def cli() -> None:
    """Job broker for quantum circuits on Kafka, or embedded with nothing to install.

    Exit codes: 0 success; 1 a job failed; 2 wrong input or usage; 3 not reachable; 4 not found;
    5 no answer in time; 130 interrupted.
    """
