"""Stages, shadows and cheap answers under anything that may happen: one answer a job, and nothing left behind."""

from cheap_kit import PROBLEM, answered, asked, pools, room_in
from dispatcher_kit import Driver, commanded, emitted, forwards, job_id, reported
from dispatcher_world import check_ledger
from hypothesis import given, settings
from hypothesis import strategies as st

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Recall, Recalled
from shotbus.broker.invariants import Checker
from shotbus.broker.machine import Emit
from shotbus.broker.policy.config import PrescreenConfig, Span
from shotbus.schemas.codec import encode

POOLS = ("aer", "classical", "qpu", "other")
SCREEN = PrescreenConfig("aer", "min_ev", Span("..-1.0"))
WISHES = st.fixed_dictionaries(
    {
        "shadow": st.sampled_from(["", "other", "aer"]),
        "speculate": st.sampled_from(["", "answer", "compare", "blend"]),
        "problem": st.sampled_from([None, PROBLEM]),
        "per_second": st.sampled_from([None, 1e6]),
        "screen": st.sampled_from([None, None, SCREEN]),
        "requires": st.sampled_from([(), (), ("baseline",), ("green_run", "baseline")]),
        "steps": st.sampled_from([(), ("cache:60",), ("other", "cache:60"), ("demote:bulk", "aer")]),
        "deadline": st.sampled_from([None, 30_000]),
        "hasty": st.booleans(),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), WISHES),
        st.tuples(st.just("submit"), WISHES),
        st.tuples(st.just("room"), st.lists(st.sampled_from(POOLS), max_size=4, unique=True)),
        st.tuples(st.just("start"), st.integers(0, 9)),
        *[st.tuples(st.just("answer"), st.tuples(st.integers(0, 9), st.sampled_from([-2.0, 0.0])))] * 3,
        st.tuples(
            st.just("fail"), st.tuples(st.integers(0, 9), st.sampled_from(["INVALID", "POISON", "TIMEOUT"]))
        ),
        st.tuples(st.just("recalled"), st.none()),
        st.tuples(st.just("cancel"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 8.0, 31.0])),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


class Player:
    """Turns steps into events and has everything that is told judged by the checker."""

    def __init__(self):
        self.driver = Driver(lambda: Dispatcher(0, 2, pools()))
        self.checker, self.count, self.number = Checker(complete=True), 0, 0
        self.sent, self.asked = {}, {}
        self.answers = []

    def play(self, step, value):
        getattr(self, step)(value)
        check_ledger(self.driver.machine, self.driver.ledger)

    def run(self, *events):
        commands = self.driver.run(*events)
        self.sent |= {one.bundle_id: one for one in forwards(commands)}
        self.asked |= {one.job_id: one for one in commands if isinstance(one, Recall)}
        for one in commands:
            if isinstance(one, Emit) and one.topic in ("events", "results"):
                self.count += 1
                value = encode(one.schema, one.fields)
                record = Record(one.topic, 0, self.count, one.key, value, one.headers, self.driver.wall_ms)
                self.checker.take(one.topic, record)
        self.answers += [one["job_id"] for one in emitted(commands, "circuit_result") if not one.get("late")]

    def submit(self, wishes):
        self.number += 1
        decision = {"shadow": wishes["shadow"], "prescreen": wishes["screen"], "requires": wishes["requires"]}
        decision["max_queue_seconds"] = 5.0 if wishes["hasty"] else None
        fields = {name: wishes[name] for name in ("speculate", "problem")}
        deadline = wishes["deadline"] and self.driver.wall_ms + wishes["deadline"]
        more = {"value_per_second": wishes["per_second"], "deadline_ms": deadline}
        self.run(asked(self.number, decision=decision, steps=wishes["steps"], **fields, **more))

    def room(self, names):
        self.driver.free = room_in(*names)
        self.run()
        self.driver.free = {}

    def pick(self, index):
        return self.sent.pop(list(self.sent)[index % len(self.sent)]) if self.sent else None

    def start(self, index):
        if self.sent:
            one = self.sent[list(self.sent)[index % len(self.sent)]]
            self.run(reported("started", one.bundle_id, pool=one.pool))

    def answer(self, told):
        if (one := self.pick(told[0])) is not None:
            self.run(answered(one, told[1], std=0.1) if one.purpose == "run" else self.looked_up(one))

    def looked_up(self, one):
        return answered(one, found="done")

    def fail(self, told):
        if (one := self.pick(told[0])) is not None:
            self.run(answered(one, error_class=told[1]))

    def recalled(self, _):
        if self.asked:
            self.run(Recalled(self.asked.pop(next(iter(self.asked))).job_id, None))

    def cancel(self, number):
        self.run(commanded("cancel", job_id(number)))

    def wait(self, seconds):
        self.driver.pass_time(seconds)
        self.run()

    def restart(self, _):
        self.driver.restart()
        self.run()

    def finish(self):
        """Workers do their work, until nothing is left."""
        for _ in range(40):
            self.driver.pass_time(61.0)
            self.driver.free = room_in(*POOLS)
            self.run()
            while self.sent or self.asked:
                self.answer((0, -2.0))
                self.recalled(None)
            if not self.driver.machine.live:
                return
        raise AssertionError(f"never ended: {self.driver.machine.live}")


@settings(max_examples=120)
@given(STEPS)
def test_every_job_has_one_answer_and_nothing_is_left_behind(steps):
    player = Player()
    for step, value in steps:
        player.play(step, value)
    player.finish()
    assert len(player.answers) == len(set(player.answers)) <= player.number
    # Dead letters are made at the edge, which is not here.
    found = player.checker.report(over=True).violations
    assert [one for one in found if one.rule != "a-burial-has-a-letter"] == []
    shard = player.driver.machine.shard
    assert (len(shard.patience), shard.beside.next_ms(), shard.recalling) == (0, None, {})
    assert not shard.bundles.load() or shard.ghosts
