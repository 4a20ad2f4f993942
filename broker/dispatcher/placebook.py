"""The book of one limit: which shard has how many of its places, who wants more, who has to make room. Pure.

One shard keeps it, the limit's *home*. A limit of L has L places. Each of S shards has ``L // S`` of them,
the rest lies in the book, and that stays so until somebody wants more:

- places that nobody has go to the wishing shard that has the fewest, in turn among equals;
- while somebody wishes, the others give back what they do not use, and may use no more than an even share
  of all who have or want any. Where there are fewer places than shards this is none: what becomes free
  comes back, and goes to whoever's turn it is. So nobody waits for more than one job of each other shard;
- what is left when nobody wishes goes back to those who have less than at the beginning.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: A shard may keep all it has.
ALL = -1


class Deal(NamedTuple):
    """What a shard is told: it has ``places`` more, and may use ``keep`` while others wish."""

    places: int
    keep: int


class PlaceBook:
    """The book of one limit.

    Args:
        most: the limit.
        shards: among how many it is shared.

    """

    def __init__(self, most: int, shards: int) -> None:
        self._most, self._shards, self._even = most, shards, most // shards
        #: By shard, what it has more, or less, than the even part.
        self._lent: dict[int, int] = {}
        self._wishes: dict[int, int] = {}
        self._told: dict[int, int] = {}
        #: The shards that were given places, the last one at the end.
        self._turns: list[int] = []

    @property
    def is_blank(self) -> bool:
        """Tell whether all is as at the beginning."""
        return not (self._lent or self._wishes or self._told)

    def hear(self, shard: int, returned: int, wants: int) -> None:
        """Take places back; ``wants`` more, in place of what was wanted before."""
        self._lend(shard, -returned)
        if wants:
            self._wishes[shard] = wants
        else:
            self._wishes.pop(shard, None)

    def settle(self) -> dict[int, Deal]:
        """Deal what there is; returns what has to be told, by shard."""
        given = self._deal()
        if not self._wishes:
            self._even_out(given)
        level, deals = self._level(), dict[int, Deal]()
        for shard in range(self._shards):
            places = given.get(shard, 0)
            if not self._held(shard):
                self._told.pop(shard, None)
                continue
            keep = level if any(other != shard for other in self._wishes) else ALL
            if places or keep != self._told.get(shard, ALL):
                deals[shard] = Deal(places, keep)
            if keep == ALL:
                self._told.pop(shard, None)
            else:
                self._told[shard] = keep
        return deals

    def _deal(self) -> dict[int, int]:
        given: dict[int, int] = {}
        for _ in range(self._here() if self._wishes else 0):
            shard = min(self._wishes, key=lambda one: (self._held(one), self._turn(one)))
            self._give(shard, 1, given)
            self._turns = [*(one for one in self._turns if one != shard), shard]
            self._wishes[shard] -= 1
            if not self._wishes[shard]:
                del self._wishes[shard]
            if not self._wishes:
                break
        return given

    def _even_out(self, given: dict[int, int]) -> None:
        for shard in [one for one, lent in sorted(self._lent.items()) if lent < 0]:
            if (left := -sum(self._lent.values())) > 0:
                self._give(shard, min(left, -self._lent[shard]), given)

    def _give(self, shard: int, places: int, given: dict[int, int]) -> None:
        self._lend(shard, places)
        given[shard] = given.get(shard, 0) + places

    def _lend(self, shard: int, places: int) -> None:
        lent = self._lent.pop(shard, 0) + places
        if lent:
            self._lent[shard] = lent

    def _here(self) -> int:
        return self._most - self._shards * self._even - sum(self._lent.values())

    def _held(self, shard: int) -> int:
        """Return what a shard has, as far as is known here: what is on its way to it is its own."""
        return self._even + self._lent.get(shard, 0)

    def _turn(self, shard: int) -> int:
        return self._turns.index(shard) if shard in self._turns else -1

    def _level(self) -> int:
        """Return how many each may use while others wish.

        The remainder of the division stays where it is, unless somebody has less than the quotient: to hand
        it round would cost a record a job.
        """
        claimants = sum(bool(self._held(one)) or one in self._wishes for one in range(self._shards))
        floor, rest = divmod(self._most, max(1, claimants))
        short = any(self._held(one) < floor for one in self._wishes)
        return floor if short or not floor else floor + bool(rest)

    # --- rows ---

    def row(self) -> list[Any]:
        """Return what :meth:`of_row` takes back, as JSON can hold it."""
        told = [self._lent, self._wishes, self._told]
        return [self._most, *([list(one.items()) for one in told]), self._turns]

    @classmethod
    def of_row(cls, row: list[Any], shards: int) -> PlaceBook:
        """Return the book of :meth:`row`."""
        most, lent, wishes, told, turns = row
        book = cls(most, shards)
        book._lent, book._wishes, book._told, book._turns = dict(lent), dict(wishes), dict(told), turns
        return book

    @property
    def most(self) -> int:
        """The limit."""
        return self._most
