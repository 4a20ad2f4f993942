"""The command ``shotbus`` and ``python -m shotbus``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from shotbus.cli.main import cli

    cli(prog_name="shotbus")


if __name__ == "__main__":
    main()
