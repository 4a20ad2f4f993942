"""Policies out of TOML text, and jobs and pools to decide about."""

import tomllib

from shotbus.broker.config import Config
from shotbus.broker.config_parse import parse
from shotbus.broker.config_rules import check_config
from shotbus.broker.policy.facts import Asked, PoolView
from shotbus.broker.policy.policy import Policy
from shotbus.schemas.openqasm import inspect

NOW = 1_795_600_800_000  # 2026-11-25 10:00 UTC, a Wednesday
JOB = "0" * 32
HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
POOLS = """
[pools.cheap]
adapter = "aer"
max_qubits = 8
price.per_task = 1.0
[pools.good]
adapter = "aer"
kind = "hardware"
max_qubits = 30
price.per_task = 5.0
device = { fidelity = 0.995, t1_us = 200, connectivity = ["0-1", "1-2"], basis_gates = ["cx", "rz", "sx"] }
[pools.secret]
adapter = "aer"
access.data_classes = ["private"]
"""


def config_of(text, *, pools=True):
    """The configuration of a file with this text, with the pools above."""
    config = parse(Config, tomllib.loads((POOLS if pools else "") + text))
    assert check_config(config) == []
    return config


def rule(text, **more):
    """One rule over the pools above, as a policy."""
    return Policy.compile(config_of(f'[[routing.rules]]\nname = "r"\n{text}\n' + more.get("rest", "")))


def job(**fields):
    """A job."""
    return Asked(**{"job_id": JOB} | fields)


def decide(policy, asked=None, views=None, *, now_ms=NOW, **more):
    """Decide about a job."""
    return policy.decide(asked or job(), views or {}, now_ms=now_ms, **more)


def circuit(body="qubit[3] q; h q[0]; cx q[0], q[1]; cx q[1], q[2];"):
    """An inspected circuit."""
    return inspect(HEAD + body)


def busy(seconds, **more):
    """A pool with so much waiting, give or take half of it."""
    return PoolView(wait=(seconds / 2, seconds, seconds * 1.5), **more)


def looked_at(decision, step):
    """The steps of one kind in a trail."""
    return [one for one in decision.trail if one["step"] == step]
