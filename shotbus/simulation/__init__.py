"""The whole broker in simulated time: the real machines, runner and services in a seeded world. Pure.

``simulate(Scenario(seed))`` lives through some tens of seconds in a fraction of one. Two runs of a seed
publish the same records in the same order, so a seed that breaks an invariant is a story that repeats.
"""

from __future__ import annotations

from shotbus.simulation.faults import EVERYDAY, FAULTS
from shotbus.simulation.loop import SimulatedLoop, run
from shotbus.simulation.scenario import Outcome, Scenario
from shotbus.simulation.world import World

__all__ = ["EVERYDAY", "FAULTS", "Outcome", "Scenario", "simulate"]


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario to its end."""

    async def live(loop: SimulatedLoop) -> Outcome:
        return await World(scenario, loop).run()

    return run(live)
