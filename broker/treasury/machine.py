"""The Treasury: the machine that grants units of budgets to dispatcher shards, and hears of their fate. Pure.

What it promises at every instant, whatever crashes: of each purse, units spent out of grants plus units with
the shards never exceed the limit. Shards are served in the order in which they asked; before anyone is
refused, idle units are called back from all others, for at most :data:`RECALL_SECONDS` of time seen a round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.broker.audit import AuditChain
from shotbus.broker.machine import Emit, Now, Tick
from shotbus.broker.treasury.account import Account, Round, Share, share_of
from shotbus.broker.treasury.budgets import Budgets, Purse, is_gauge, percent, purse_of, shown
from shotbus.broker.treasury.periods import DAY_MS
from shotbus.broker.treasury.rows import WHOLE, read_row

#: A shard that does not answer a recall for so long is not waited for; its units stay counted as held.
RECALL_SECONDS = 2.0
#: How long an account is kept after its period: records may come late, clocks may be set back.
KEEP_MS = 2 * DAY_MS
#: Anyone may name an experiment: accounts beyond this are refused.
MAX_ACCOUNTS = 100_000
#: What a shard counts; for metrics.
STATS = ("granted", "recalled", "refused", "duplicate", "unknown", "overdrawn")
_SWEEPING_SECONDS = 60.0
_PREFIX = b"account/"


class Passed(NamedTuple):
    """A threshold of a budget, as a part of its limit; what counts how many of its purses passed it."""

    budget: str
    part: float


class Asked(NamedTuple):
    """A decoded ``treasury_command``."""

    fields: Mapping[str, Any]


class Treasury:
    """One shard of the Treasury.

    Args:
        shard: its number, its partition of ``treasury``.
        partitions: how many shards the dispatcher has, which is how many the Treasury has.
        budgets: as configured.

    """

    def __init__(self, shard: int, partitions: int, budgets: Budgets) -> None:
        self._partitions, self._budgets = partitions, budgets
        self._name = f"treasury-{shard}"
        self._accounts: dict[Purse, Account] = {}
        self._by_key: dict[bytes, Purse] = {}
        self._dirty: dict[Purse, None] = {}
        #: Accounts with a round of recalls under way.
        self._rounds: dict[Purse, None] = {}
        self._touched: dict[bytes, None] = {}
        self._chain = AuditChain(self._name, shard)
        self._sweeping_due = 0.0
        #: What happened, by word of :data:`STATS`, and thresholds that were passed.
        self.stats: Counter[str | Passed] = Counter()

    # --- the machine's contract ---

    def handle(self, event: Any, now: Now) -> Sequence[Emit]:
        """Take one event; see :class:`shotbus.broker.machine.Machine`."""
        return self._tick(now) if isinstance(event, Tick) else self._asked(event.fields, now)

    def touched(self) -> list[bytes]:
        """Return the keys written since the last call."""
        keys, self._touched = list(self._touched), {}
        return keys

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        if key == AuditChain.KEY:
            return self._chain.snapshot()
        account_key, shard = _place(key)
        purse = self._by_key.get(account_key)
        return None if purse is None else self._accounts[purse].row(shard)

    def restore(self, key: bytes, snapshot: bytes) -> None:
        """Take a row back; the rows of an account come in any order."""
        if key == AuditChain.KEY:
            self._chain.restore(snapshot)
            return
        fields = read_row(snapshot)
        purse = purse_of(fields)
        account = self._accounts.get(purse) or self._open(purse, fields["limit"])
        if fields["shard"] == WHOLE:
            account.alerted, account.alerted_ms = fields["alerted"], fields["alerted_ms"]
        else:
            account.shares[fields["shard"]] = share_of(fields)

    def restored(self, now: Now) -> None:
        """Serve again who was waiting: recalls that were under way are begun anew."""
        self._sweeping_due = now.seen + _SWEEPING_SECONDS
        self._dirty = dict.fromkeys(self._accounts)

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds until a round of recalls has taken long enough."""
        if self._dirty:
            return 0.0
        ends = [one.until for purse in self._rounds if (one := self._accounts[purse].round)]
        return max(0.0, min(ends) - now.seen) if ends else None

    # --- for displays ---

    def spent(self, now_ms: int) -> dict[str, int]:
        """Return units spent in the present periods, by resource."""
        told: dict[str, int] = {}
        for purse, account in self._accounts.items():
            if not purse.until_ms or now_ms < purse.until_ms:
                told[purse.resource] = told.get(purse.resource, 0) + account.spent
        return told

    # --- events ---

    def _asked(self, fields: Mapping[str, Any], now: Now) -> list[Emit]:
        purse = purse_of(fields)
        account = self._accounts.get(purse)
        if account is None:
            reason = self._why_no_account(purse, now)
            if reason or not fields["wanted"]:
                self.stats["unknown"] += 1
                return [self._no(purse, fields["shard"], reason, now)] if fields["wanted"] else []
            account = self._new(purse)
        before = account.overdrawn
        if not account.share(fields["shard"]).take(fields):
            self.stats["duplicate"] += 1
            return []
        self._write(account, fields["shard"])
        self._dirty[purse] = None
        return self._overdraft(account, fields["shard"], before, now)

    def _tick(self, now: Now) -> list[Emit]:
        for purse in list(self._rounds):
            one = self._accounts[purse].round
            if one is None or one.until <= now.seen:
                self._dirty[purse] = None
        commands: list[Emit] = []
        dirty, self._dirty = self._dirty, {}
        for purse in dirty:
            account = self._accounts[purse]
            commands += self._serve(account, now)
            commands += self._alert(account, now)
        if now.seen >= self._sweeping_due:
            self._sweeping_due = now.seen + _SWEEPING_SECONDS
            self._forget(now)
        return commands

    # --- granting ---

    def _serve(self, account: Account, now: Now) -> list[Emit]:
        """Grant in the order of asking; who cannot be served holds the line up until it is refused."""
        commands: list[Emit] = []
        while (first := account.first_in_line()) is not None:
            need = first.wanted
            if account.available >= need:
                commands.append(self._grant(account, first, need + self._in_advance(account, need), now))
                continue
            commands += self._recall_for(account, first, now)
            if account.unanswered():
                self._rounds[account.purse] = None
                return commands
            commands.append(self._refuse(account, first, now))
        self._end_round(account)
        return commands + self._collect_debt(account, now)

    def _in_advance(self, account: Account, need: int) -> int:
        """Return what is granted on top, so that not every job is a question: little when little is left."""
        budget = self._budgets.get(account.purse.budget)
        block = int(account.limit * budget.config.block) if budget else 0
        return min(block, (account.available - need) // (2 * self._partitions))

    def _grant(self, account: Account, share: Share, units: int, now: Now) -> Emit:
        share.answer(units)
        self._end_round(account)
        self.stats["granted"] += 1
        return self._say("grant", account, share, now, units=units)

    def _recall_for(self, account: Account, first: Share, now: Now) -> list[Emit]:
        """Ask every other shard with units, once a round; shards too late are not waited for any more."""
        one = account.round
        if one is None or one.shard != first.shard:
            one = account.round = Round(first.shard, now.seen + RECALL_SECONDS)
        missing = first.wanted - account.available
        commands = []
        for share in account.others(first.shard):
            if share.shard not in one.asked:
                commands.append(self._recall(account, share, missing, now))
                one.asked[share.shard] = share.sent
        if now.seen >= one.until:
            for share in account.unanswered():
                share.mute = True
        return commands

    def _recall(self, account: Account, share: Share, units: int, now: Now) -> Emit:
        self.stats["recalled"] += 1
        return self._say("recall", account, share, now, units=units)

    def _refuse(self, account: Account, share: Share, now: Now) -> Emit:
        """Say no, with what is left when that helps at least one waiting job."""
        units = max(0, min(account.available, share.wanted))
        if units < share.smallest:
            units = 0
        share.answer(units)
        self._end_round(account)
        self.stats["refused"] += 1
        return self._say("refused", account, share, now, units=units, reason="short")

    def _collect_debt(self, account: Account, now: Now) -> list[Emit]:
        """After an overdraft or a lowered limit, call units back until the account is even."""
        if account.available >= 0:
            return []
        return [
            self._recall(account, share, -account.available, now)
            for share in account.others(WHOLE)
            if share.heard >= share.sent and share.held > share.reserved
        ]

    def _end_round(self, account: Account) -> None:
        account.round = None
        self._rounds.pop(account.purse, None)

    # --- words ---

    def _say(
        self, kind: str, account: Account, share: Share, now: Now, *, units: int, reason: str = ""
    ) -> Emit:
        share.sent = max(share.sent + 1, now.wall_ms * 1_000)
        self._write(account, share.shard)
        sums = {
            "granted": share.granted,
            "limit": account.limit,
            "spent": account.spent,
            "held": account.held,
            "available": max(0, account.available),
        }
        told = {"kind": kind, "number": share.sent, "units": units, "reason": reason, **sums}
        return _emit(account.purse, share.shard, now, told)

    def _no(self, purse: Purse, shard: int, reason: str, now: Now) -> Emit:
        """Refuse where there is no account."""
        self.stats["refused"] += 1
        sums = dict.fromkeys(("number", "granted", "units", "limit", "spent", "held", "available"), 0)
        told = {"kind": "refused", "reason": reason, **sums}
        return _emit(purse, shard, now, told)

    def _overdraft(self, account: Account, shard: int, before: int, now: Now) -> list[Emit]:
        if account.overdrawn <= before:
            return []
        self.stats["overdrawn"] += 1
        more = shown(account.purse.resource, account.overdrawn - before)
        reason = f"shard {shard} spent {more} more than granted"
        return [self._record("budget.overdrawn", account, reason, now)]

    def _alert(self, account: Account, now: Now) -> list[Emit]:
        """Tell of the highest threshold that was passed since the last time, once a period."""
        budget = self._budgets.get(account.purse.budget)
        if budget is None or is_gauge(account.purse.resource):
            return []
        spent = account.spent
        known = account.alerted
        passed = {part for part in budget.config.alerts if part > known and spent >= part * account.limit > 0}
        if not passed:
            return []
        account.alerted, account.alerted_ms = max(passed), now.wall_ms
        self._write(account, WHOLE)
        # One entry tells of all that were passed at once; whoever watches a lower one must see it too.
        self.stats.update(Passed(budget.name, part) for part in passed)
        reason = f"{percent(max(passed))} of the limit is spent"
        return [self._record("budget.threshold", account, reason, now)]

    def _record(self, action: str, account: Account, reason: str, now: Now) -> Emit:
        self._touched[AuditChain.KEY] = None
        after = {
            "resource": account.purse.resource,
            "since_ms": account.purse.since_ms,
            "limit": account.limit,
            "spent": account.spent,
            "held": account.held,
        }
        words = account.purse.words
        return self._chain.add(action, words, now, principal=self._name, reason=reason, after=after)

    # --- accounts ---

    def _why_no_account(self, purse: Purse, now: Now) -> str:
        """Return why a purse cannot be opened: unknown, over, or there are too many; else empty."""
        budget = self._budgets.get(purse.budget)
        if budget is None or budget.measure != purse.measure:
            return "unknown"
        if _long_over(purse, now):
            return "over"
        return "full" if len(self._accounts) >= MAX_ACCOUNTS else ""

    def _new(self, purse: Purse) -> Account:
        budget = self._budgets.get(purse.budget)
        assert budget is not None
        account = self._open(purse, budget.limit)
        self._write(account, WHOLE)
        return account

    def _open(self, purse: Purse, limit: int) -> Account:
        """Keep an account; its limit is the one that is configured now, as long as the budget exists."""
        budget = self._budgets.get(purse.budget)
        if budget is not None and budget.measure == purse.measure:
            limit = budget.limit
        account = self._accounts[purse] = Account(purse, limit, bound=self._budgets.bound(purse))
        self._by_key[purse.key] = purse
        return account

    def _write(self, account: Account, shard: int) -> None:
        self._touched[_key(account.purse.key, shard)] = None

    def _forget(self, now: Now) -> None:
        """Drop accounts of periods long over of which nothing is out any more."""
        for purse, account in list(self._accounts.items()):
            if _long_over(purse, now) and account.held <= 0:
                for shard in (WHOLE, *account.shares):
                    self._write(account, shard)
                self._end_round(account)
                del self._accounts[purse], self._by_key[purse.key]


def _long_over(purse: Purse, now: Now) -> bool:
    until = purse.until_ms
    return bool(until) and until + KEEP_MS <= now.wall_ms


def _emit(purse: Purse, shard: int, now: Now, told: Mapping[str, Any]) -> Emit:
    fields = {**purse._asdict(), "shard": shard, "at_ms": now.wall_ms, **told}
    return Emit("grants", shard, purse.key, "grant", fields)


def _key(account_key: bytes, shard: int) -> bytes:
    return _PREFIX + account_key + (b"" if shard == WHOLE else b"/%d" % shard)


def is_account_key(key: bytes) -> bool:
    """Tell whether a key of the Treasury's ledger is an account's."""
    return key.startswith(_PREFIX)


def _place(key: bytes) -> tuple[bytes, int]:
    account_key, slash, shard = key.removeprefix(_PREFIX).partition(b"/")
    return account_key, int(shard) if slash else WHOLE
