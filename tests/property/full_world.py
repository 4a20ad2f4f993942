"""A dispatcher in full with its Treasury, its errands and a fake provider, in step with its ledger.

``stage`` collects the records of a micro-batch as they stand on the bus; ``commit`` has them handled and looked at;
``crash`` has them handled too, loses the machine before the commit, and leaves them to be read again.
"""

from dataclasses import dataclass, field, replace

import full_kit
from dispatcher_kit import PARTITIONS, SHARD, Driver, emitted, forwards, restore
from full_checks import check_ledger, check_limits, check_places, check_pools, check_twin
from full_witness import Witness
from places_kit import Node as Neighbour
from treasury_kit import Node

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import (
    Credit,
    Dispatch,
    Inspect,
    Learnt,
    Placed,
    Recall,
    Recalled,
    Told,
)
from shotbus.broker.machine import Tick
from shotbus.broker.treasury.budgets import Budgets
from shotbus.broker.treasury.machine import Asked, Treasury
from shotbus.schemas.codec import decode, encode


@dataclass
class Flight:
    """A bundle as its worker has it."""

    forward: object
    worker: str
    lease: str = ""
    open: dict = field(default_factory=dict)
    #: Jobs of which the worker has told the end.
    told: set = field(default_factory=set)


@dataclass
class Arrival:
    """A request as it stands on the bus."""

    fields: dict
    offset: int


class World(Driver):
    """Feeds one machine as runner and edge would."""

    def __init__(self, config, machine_class=Dispatcher):
        super().__init__(lambda: machine_class(SHARD, PARTITIONS, config))
        self.config = config
        budgets = Budgets(config.budgets)
        self.grants, self.granted = [], 0
        self.treasuries = [
            Node(lambda number=number: Treasury(number, PARTITIONS, budgets), [])
            for number in range(PARTITIONS)
        ]
        self.room = {}
        #: Facts of circuits and earlier results by name; two circuits are known already.
        self.store = {f"facts:{one}": full_kit.look_at(one) for one in full_kit.CIRCUITS[:2]}
        #: Whether the Treasury answers by itself.
        self.awake = True
        self.arrivals = {}
        self.staged = []
        self.flights = {}
        #: What the machine has asked for and nobody has answered; a process that dies forgets it.
        self.inspections, self.recalls = {}, {}
        self.witness = Witness(config)
        #: The other shard as far as limits are shared with it, and what the two have said to each other.
        self.neighbour = Neighbour(1 - SHARD, PARTITIONS, config.limits.concurrency)
        self.said, self.listened = [], 0

    # --- what comes in ---

    def stage(self, *records):
        self.staged += records

    def submit(self, fields):
        """Put a request on the bus and have it read."""
        arrival = Arrival(fields, len(self.arrivals) + 1)
        self.arrivals[arrival.offset] = arrival
        self.stage(arrival)

    def attach(self, records):
        """What the edge makes of records: those that resume something first, as it does."""
        machine, now = self.machine, self.now
        for one in records:
            if isinstance(one, Learnt) and one.inspected.facts is not None:
                machine.shard.router.book.put(one.inspected)
        return [self._attached(one, machine, now) for one in records]

    def _attached(self, record, machine, now):
        if isinstance(record, Arrival):
            return full_kit.route(machine, record.fields, record.offset, self.store, now)
        if isinstance(record, Learnt) and record.inspected.facts is not None:
            ids = list(machine.shard.validating.get(record.inspected.circuit_id, ()))
            offsets = [machine.shard.live(job_id).reference.offset for job_id in ids]
            again = [
                full_kit.route(machine, self.arrivals[one].fields, one, self.store, now) for one in offsets
            ]
            return replace(record, submissions=tuple(again))
        return record

    def inspected(self, circuit, *, well=True):
        """Answer what was asked about a circuit."""
        self.inspections.pop(circuit, None)
        found = full_kit.look_at(circuit if well else "0" * 63 + "f")
        if well:
            self.store[f"facts:{circuit}"] = found
        self.stage(Learnt(replace(found, circuit_id=circuit)))

    def recalled(self, job_id, found):
        """Answer what was asked about earlier results."""
        self.recalls.pop(job_id, None)
        self.stage(Recalled(job_id, found))

    def serve(self, number, *, commit=True):
        """Let a shard of the Treasury read and tick; or crash."""
        node = self.treasuries[number]
        taken = node.inbox[node.position :]
        commands = []
        for value in taken:
            fields = decode(value, "treasury_command")[1]
            commands += node.machine.handle(Asked(fields), self.now)
        commands += node.machine.handle(Tick(), self.now)
        rows = node.rows()
        if not commit:
            node.begin_again(self.now)
            return
        for fields in emitted(commands, "grant"):
            assert fields["shard"] == SHARD
            self.grants.append(encode("grant", fields))
        node.keep(rows)
        node.position += len(taken)

    def hear(self):
        """Read the Treasury's word."""
        self.stage(*(Told(decode(value, "grant")[1]) for value in self.grants[self.granted :]))
        self.granted = len(self.grants)

    def hear_the_neighbour(self):
        """Read what the other shard says about limits."""
        said = self.said[self.listened :]
        self.stage(*(Placed(decode(value, "place")[1]) for number, value in said if number == SHARD))
        self.listened = len(self.said)

    def neighbour_works(self, room, ends=0, *, commit=True):
        """Let some jobs of the other shard end, and others of it go."""
        for _ in range(min(ends, len(self.neighbour.with_workers))):
            self.neighbour.end()
        self.said += self.neighbour.step(self.said, room, commit=commit)
        self.hear_the_neighbour()

    # --- what is offered ---

    def credits(self):
        load = self.machine.load()
        free = {}
        for (pool, worker), granted in self.room.items():
            if (room := granted - load.get((pool, worker), 0)) > 0:
                free.setdefault(pool, []).append(Credit(worker, int(worker[1:]), room))
        return free

    def adverts(self):
        told = {"role": "worker", "state": "ready", "service_seconds": 0.5, "errors": 0.0, "compiles": True}
        return [
            told | {"pool": pool, "name": worker, "slots": granted, "partitions": [int(worker[1:])]}
            for (pool, worker), granted in self.room.items()
            if granted
        ]

    # --- a micro-batch ---

    def crash(self):
        """Lose a micro-batch before its commit; what was read is read again."""
        for event in self.attach(self.staged):
            self.machine.handle(event, self.now)
        self.machine.handle(Dispatch(self.credits(), self.adverts()), self.now)
        self.restart()

    def restart(self):
        super().restart()
        # The Treasury and the desks live in processes of their own; what they were asked by memory is lost.
        self.inspections, self.recalls = {}, {}
        self.witness.restarted(self.machine)
        for node in self.treasuries:
            node.begin_again(self.now)

    def commit(self):
        """Handle what is staged and the tick, look at everything, write rows, publish. Returns the commands."""
        told = []
        for event in self.attach(self.staged):
            accepted = self.witness.before(event, self.machine, self.now)
            commands = list(self.machine.handle(event, self.now))
            self.witness.after(event, commands, accepted, self.now)
            told += commands
        self.staged = []
        free = self.credits()
        commands = list(self.machine.handle(Dispatch(free, self.adverts()), self.now))
        self.witness.dispatched(commands, self.machine, free, self.now)
        told += commands
        self.witness.told(told, self.now)
        self.write_rows()
        self.publish(told)
        self.check()
        if self.awake:
            self.serve(0)
            self.serve(1)
            self.hear()
        return told

    def publish(self, commands):
        for fields in emitted(commands, "treasury_command"):
            (number,) = (one.partition for one in commands if getattr(one, "fields", None) is fields)
            self.treasuries[number].inbox.append(encode("treasury_command", fields))
        for one in commands:
            self.said += [(one.partition, encode("place", told)) for told in emitted([one], "place")]
        self.hear_the_neighbour()
        for fields in emitted(commands, "circuit_result"):
            if fields["outcome"] == "succeeded" and fields["cache_key"]:
                record = encode("circuit_result", fields)
                self.store[f"cache:{fields['cache_key']}"] = decode(record, "circuit_result")[1]
        for one in commands:
            if isinstance(one, Inspect):
                self.inspections[one.circuit_id] = None
            elif isinstance(one, Recall):
                self.recalls[one.job_id] = one.seconds
        for one in forwards(commands):
            worker = f"w{one.partition}"
            opened = {item.job_id: item.attempt for item in one.items}
            self.flights[one.bundle_id] = Flight(one, worker, "", opened)

    def in_flight(self):
        """The bundles that the machine waits for."""
        return [flight for name, flight in self.flights.items() if self.machine.shard.bundles.get(name)]

    def owed(self, flight):
        """The jobs of a flight whose end its worker has not told, with their attempts."""
        bundle = self.machine.shard.bundles.get(flight.forward.bundle_id)
        still = bundle.open if bundle else {}
        return [one for one in flight.open.items() if one in still.items() and one[0] not in flight.told]

    def check(self):
        check_places(self.machine)
        check_pools(self.machine)
        check_limits(self.machine, self.neighbour)
        check_ledger(self.machine, self.ledger)
        self.witness.check(self.machine, self.treasuries, self.now)
        check_twin(self.machine, restore(self.build, self.ledger, self.now))
