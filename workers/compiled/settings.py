"""Where compiled circuits are kept, as a worker tells its child processes. Opens the cache."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog

from shotbus.broker.config import CompileConfig, WorkersConfig
from shotbus.workers.compiled.cache import CompileCache, UnsafeDirectoryError
from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Rule

_log = structlog.get_logger(__name__)


class CacheSettings(NamedTuple):
    """``directory`` None: each process keeps the last few for itself. ``rule`` holds in any case."""

    directory: Path | None = None
    max_bytes: int = 512 << 20
    rule: Rule = EVERY_CALIBRATION

    @classmethod
    def configured(
        cls, config: WorkersConfig, pool: CompileConfig, data: Path | None, environment: Mapping[str, str]
    ) -> CacheSettings:
        """Return what a configuration asks for.

        Args:
            config: the section.
            pool: the pool's own.
            data: data directory of an embedded broker, None for another.
            environment: names the user's cache directory.

        """
        rule = Rule(pool.recompile_after_seconds, pool.recompile_error_shift)
        return cls(_directory(config.compile_cache, data, environment), config.compile_cache_mb << 20, rule)

    def arguments(self) -> list[str]:
        """Return the child's arguments, which :meth:`read` takes back."""
        told = [f"--recompile-after={self.rule.after_seconds}", f"--recompile-shift={self.rule.error_shift}"]
        if self.directory is None:
            return told
        return [*told, "--compile-cache", str(self.directory), "--compile-cache-bytes", str(self.max_bytes)]

    @staticmethod
    def declare(parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--compile-cache", type=Path)
        parser.add_argument("--compile-cache-bytes", type=int, default=CacheSettings().max_bytes)
        parser.add_argument("--recompile-after", type=float, default=EVERY_CALIBRATION.after_seconds)
        parser.add_argument("--recompile-shift", type=float, default=EVERY_CALIBRATION.error_shift)

    @classmethod
    def read(cls, options: argparse.Namespace) -> CacheSettings:
        """Return what the options say."""
        rule = Rule(options.recompile_after, options.recompile_shift)
        return cls(options.compile_cache, options.compile_cache_bytes, rule)

    def open(self) -> CompileCache:
        """Return the cache; where it cannot be used one that keeps nothing, which is logged."""
        try:
            return CompileCache(self.directory, max_bytes=self.max_bytes, rule=self.rule)
        except (OSError, UnsafeDirectoryError) as error:
            _log.warning("compiled circuits are not kept", directory=str(self.directory), error=str(error))
            return CompileCache(rule=self.rule)


def _directory(told: str, data: Path | None, environment: Mapping[str, str]) -> Path | None:
    if told != "auto":
        return Path(told).expanduser().absolute() if told else None
    if data is not None:
        return data / "compiled"
    home = environment.get("HOME", "")
    caches = environment.get("XDG_CACHE_HOME", "") or (f"{home}/.cache" if home else "")
    # A relative one is invalid, says its specification; without either there is no place that is the user's.
    return Path(caches) / "shotbus" / "compiled" if caches.startswith("/") else None


NO_CACHE = CacheSettings()
