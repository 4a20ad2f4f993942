"""Who computes what others wait for: the same work asked for again while it is under way. Pure.

Against stampedes: of the live jobs with one cache key one leads, the others follow. Which is which follows
from the rows: whoever has the phase SHARING follows.
"""

from __future__ import annotations


class Sharing:
    """Leaders and followers of one shard, by cache key."""

    def __init__(self) -> None:
        self._leaders: dict[str, str] = {}
        self._followers: dict[str, dict[str, None]] = {}

    def leader(self, cache_key: str) -> str | None:
        """Return the id of the job that computes a key."""
        return self._leaders.get(cache_key)

    def lead(self, cache_key: str, job_id: str) -> None:
        """Have a job compute a key, unless another does."""
        if cache_key:
            self._leaders.setdefault(cache_key, job_id)

    def follow(self, cache_key: str, job_id: str) -> None:
        """Have a job wait for a key."""
        self._followers.setdefault(cache_key, {})[job_id] = None

    def unfollow(self, cache_key: str, job_id: str) -> None:
        """Forget a job that waited for a key."""
        followers = self._followers.get(cache_key)
        if followers is not None:
            followers.pop(job_id, None)
            if not followers:
                del self._followers[cache_key]

    def step_down(self, cache_key: str, job_id: str) -> list[str]:
        """Forget a job if it leads; returns those that waited for it, in the order in which they came."""
        if self._leaders.get(cache_key) != job_id:
            return []
        del self._leaders[cache_key]
        return list(self._followers.pop(cache_key, ()))

    def orphans(self) -> list[str]:
        """Return a follower of each key that nobody computes: after a restore."""
        return [next(iter(jobs)) for key, jobs in self._followers.items() if key not in self._leaders]

    def __len__(self) -> int:
        return sum(map(len, self._followers.values()))
