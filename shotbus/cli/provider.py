"""``provider``: the quantum provider that does not exist, as a server, for tests and demos."""

from __future__ import annotations

import sys

import click


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def provider(arguments: tuple[str, ...]) -> None:
    """Run a provider that does not exist: a noisy device behind HTTP, with quotas, faults and books."""
    from shotbus.deploy.provider.__main__ import main

    sys.exit(main(arguments, name="shotbus provider"))
