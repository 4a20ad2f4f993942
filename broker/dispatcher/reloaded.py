"""The policy that an operator sent while the broker ran, and whether it still counts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.policy.diff import diff
from shotbus.broker.policy.merge import PolicyChange
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.reload import policy_document, with_policy
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError

RELOADED_KEY = b"policy/reloaded"


def is_reloaded_key(key: bytes) -> bool:
    """Tell whether a ledger key is the one row of this."""
    return key == RELOADED_KEY


def tried(arguments: Mapping[str, str], present: Config) -> str:
    """Return as JSON what :meth:`Reloaded.apply` would do: ``version`` and ``changes``, or ``problems``."""
    try:
        config = PolicyChange.of(arguments).over(present)
    except ShotbusError as error:
        return json.dumps({"problems": [problem.as_record() for problem in error.problems]})
    told = {"version": Policy.compile(config).version, "changes": diff(present, config), "problems": []}
    return json.dumps(told)


class Reloaded:
    """A shard's reloaded policy.

    Args:
        config: as configured where the process was started.
        version: of the policy in it.

    """

    def __init__(self, config: Config, version: str) -> None:
        self._config, self._base = config, version
        self._document: Mapping[str, Any] | None = None

    def apply(self, arguments: Mapping[str, str], present: Config) -> tuple[Config, list[str]]:
        """Return the configuration with a policy that came in a control record, and what changes in words.

        Raises ShotbusError with everything that is wrong with it.
        """
        config = PolicyChange.of(arguments).over(present)
        self._document = policy_document(config)
        return config, diff(present, config)

    def snapshot(self, key: bytes) -> bytes | None:
        """Return the row; None before anything was reloaded."""
        del key
        if self._document is None:
            return None
        data = json.dumps({"base": self._base, "document": self._document}).encode()
        return encode("ledger_page", {"kind": "meta", "data": data})

    def restore(self, row: bytes | None) -> Config | None:
        """Take the row back; returns the configuration to go on with.

        None where the file has another policy than when that one came: then the file is the newer word.
        """
        if row is None:
            return None
        told = json.loads(decode(row, "ledger_page")[1]["data"])
        if told["base"] != self._base:
            return None
        try:
            # The row holds all of it: what it lacks is not to come from the file.
            config = with_policy(self._config, told["document"])
        except ShotbusError:
            # A newer program may refuse what an older one took: the file counts.
            return None
        self._document = told["document"]
        return config
