"""A restored dispatcher is the one that was lost: it answers whatever comes next in the same words."""

from dispatcher_kit import (
    Driver,
    cached_result,
    commanded,
    config,
    forwards,
    item,
    job_id,
    payload,
    reported,
    request,
    restore,
    submitted,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch
from shotbus.broker.machine import Emit

# One tenant and one class: virtual times begin again after a restore, so only there the order is the same.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "submit",
                "submit",
                "late",
                "again",
                "finish",
                "finish",
                "fail",
                "start",
                "cancel",
                "pause",
                "wait",
            ]
        ),
        st.integers(1, 12),
    ),
    max_size=40,
)


class Player:
    """Turns steps into events; what workers say follows from the bundles they were sent."""

    def __init__(self, driver):
        self.driver, self.sent, self.number = driver, [], 0

    def event(self, step, amount):
        name = getattr(self, step)(amount)
        return [name] if name else []

    def submit(self, amount, **changes):
        self.number += 1
        seed = 3 if amount > 10 else None
        fields = request(
            self.number, payload_hash=payload(self.number), seed=seed, sweep_id=f"s{amount % 3}", **changes
        )
        return submitted(fields, offset=self.number, cached=cached_result() if seed else None)

    def late(self, amount):
        wall = self.driver.wall_ms
        return self.submit(amount, not_before_ms=wall + 700 * amount, deadline_ms=wall + 900 * amount)

    def again(self, amount):
        return submitted(request(amount, payload_hash=payload(amount % 9)), offset=1_000 + amount)

    def bundle(self, amount):
        return self.sent[-(amount % len(self.sent)) - 1] if self.sent else None

    def finish(self, amount, error=""):
        bundle = self.bundle(amount)
        items = [item(one.job_id, one.attempt, error) for one in bundle.items] if bundle else []
        return bundle and reported("finished", bundle.bundle_id, items=items[: 1 + amount % 3])

    def fail(self, amount):
        return self.finish(amount, ("TRANSIENT", "CRASHED", "TIMEOUT", "INVALID")[amount % 4])

    def start(self, amount):
        bundle = self.bundle(amount)
        return bundle and reported("started", bundle.bundle_id)

    def cancel(self, amount):
        if amount > 9:
            return commanded("cancel", f"s{amount % 3}", target="sweep")
        return commanded("cancel", job_id(amount))

    def pause(self, amount):
        return commanded("pause" if amount < 4 else "resume", "aer", target="pool")

    def wait(self, amount):
        self.driver.pass_time(amount * 0.9)


def spoken(commands):
    """Commands as plain values; what one record or lapse says about several jobs has no order among them."""
    return sorted(repr(plain(one) if isinstance(one, Emit) else one) for one in commands)


def plain(emit):
    fields = dict(emit.fields)
    if "events" in fields:
        fields["events"] = sorted(fields["events"], key=lambda event: event["job_id"])
    return (*emit[:4], fields, emit.headers)


@settings(max_examples=300)
@given(before=STEPS, after=STEPS)
def test_a_restored_dispatcher_answers_in_the_same_words(before, after):
    driver = Driver(lambda: Dispatcher(0, 2, config()))
    driver.free = {"aer": [Credit("w1", 0, 2)]}
    player = Player(driver)
    for step in before:
        player.sent += forwards(driver.run(*player.event(*step)))
    twin = restore(driver.build, driver.ledger, driver.now)
    # The twin's leases are as good as new.
    driver.machine.shard.renew_leases(driver.now)
    for step in after:
        events = player.event(*step)
        said = [command for event in events for command in twin.handle(event, driver.now)]
        said += twin.handle(Dispatch(driver.free), driver.now)
        commands = driver.run(*events)
        player.sent += forwards(commands)
        assert spoken(said) == spoken(commands)
        rows = {key: twin.snapshot(key) for key in twin.touched()}
        assert rows == {key: driver.ledger.get(key) for key in rows}
