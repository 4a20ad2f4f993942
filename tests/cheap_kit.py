"""Builders for suites about cheap answers beside a job's own: pools by kind, estimates, decisions."""

from dataclasses import replace

import numpy as np
from dispatcher_kit import config, item, payload, reported, request, submitted

from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step
from shotbus.schemas.pub import Estimates, pack_estimates

TRAIL = ({"step": "rule"}, {"step": "candidate"}, {"step": "decided"})
PROBLEM = {"kind": "hamiltonian", "version": 1, "payload": b"h"}


def pools(**more):
    """A configuration with a simulator, a classical solver, hardware and a second device."""
    settings = config(bundle_jobs=1)
    plain = settings.pools["aer"]
    kinds = {"aer": "simulator", "classical": "classical", "qpu": "hardware", "other": "hardware"}
    found = {name: replace(plain, adapter=name, kind=kind) for name, kind in kinds.items()}
    return replace(settings, pools=found, **more)


def energy(value, std=0.0):
    """The payload of one expectation value with its standard error."""
    return pack_estimates(Estimates(np.array([[value]]), np.array([[std]])))


def room_in(*names):
    """Room for one bundle in each of these pools."""
    return {name: [Credit(f"w-{name}", 0, 1)] for name in names}


def asked(number=1, *, pool="qpu", steps=(), decision=None, **changes):
    """A submission that estimates, routed to ``pool``; ``decision`` changes the policy's word."""
    told = {"trail": TRAIL, "fallback": tuple(map(Step.parse, steps)), **(decision or {})}
    wishes = {"mode": "estimate", "observables": b"o", **changes}
    fields = request(number, payload_hash=payload(number), **wishes)
    return replace(submitted(fields, offset=number, pool=pool), decision=Decision("r", "v", pool, **told))


def answered(sent, value=-1.0, *, std=0.0, error_class="", **changes):
    """A worker's word that a bundle's only attempt ended, with this value."""
    one = item(sent.items[0].job_id, sent.items[0].attempt, error_class)
    one |= ({} if error_class else {"payload": energy(value, std)}) | changes
    return reported("finished", sent.bundle_id, items=[one], pool=sent.pool)
