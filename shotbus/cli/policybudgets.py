"""What ``policy explain`` says of budgets: which a job falls under, which could never cover it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from shotbus.broker.config import Config
from shotbus.broker.policy.facts import Asked, PoolView
from shotbus.schemas.errors import Problem


class Covering(NamedTuple):
    """The budgets that a job takes from, by name, and what is wrong with those whose limit it exceeds alone.

    What is left of them is not known here: a job without problems may still be refused.
    """

    names: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON may hold it."""
        told = [problem.as_json() for problem in self.problems]
        return {"names": list(self.names), "balances_checked": False, "problems": told}

    def lines(self) -> Iterator[str]:
        """Yield it for people; nothing where no budget covers the job."""
        if self.names:
            asked = "what is left of them is not looked at: shotbus budget"
            yield f"budgets: {', '.join(self.names)}; {asked}"
        yield from map(str, self.problems)


def covering(config: Config, asked: Asked, pool: str, view: PoolView, now_ms: int) -> Covering:
    """Return the budgets that a job on a pool takes from; ``pool`` empty: it takes nothing yet.

    ``view``: of the pool, with what a point takes there where that has been measured.
    """
    settings = config.pools.get(pool)
    if settings is None or not config.budgets:
        return Covering()
    # They import codecs, and a configuration without budgets is explained without.
    from shotbus.broker.dispatcher.funds import HEADROOM
    from shotbus.broker.treasury.budgets import Budgets, Claim
    from shotbus.broker.treasury.prices import estimate
    from shotbus.broker.treasury.refusals import hopeless

    per_point, _ = view.pace(asked.work, settings.seconds_per_point)
    longest = settings.attempt_seconds
    most, expected = (
        estimate(
            settings.price,
            points=asked.points,
            shots=asked.shots,
            circuits=asked.circuits,
            seconds=seconds,
            sessions=int(bool(asked.session) and asked.session_pool != pool),
        )
        for seconds in (longest, min(HEADROOM * asked.points * per_point, longest))
    )
    budgets = Budgets(config.budgets)
    claim = Claim(asked.tenant, asked.experiment, pool, most, expected)
    found = budgets.of(claim, now_ms)
    wrong = (
        hopeless(purse, units, budget.limit, bounding=budgets.bounding(purse, claim))
        for budget, purse, units in found
    )
    return Covering(tuple(budget.name for budget, _, _ in found), tuple(one for one in wrong if one))
