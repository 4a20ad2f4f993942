"""How a run of the dispatcher in full comes to its end: everybody does his work, so every job has to end."""

from dispatcher_kit import commanded, item
from full_kit import POOLS

from shotbus.broker.dispatcher.bundles import RUN


def finish_everything(rules):
    world = rules.world
    world.awake = True
    for pool in POOLS:
        world.stage(commanded("resume", pool, target="pool"))
        world.room[pool, "w0"] = 8
    for turn in range(120):
        # Whatever is open by the hour or paid by the day comes round.
        world.pass_time(600.0 if turn % 3 else 87_000.0, 60.0)
        everybody_works(rules, world, word="reject" if turn > 5 else "approve")
        world.commit()
        if not world.machine.live:
            return
    jobs = {job.job_id: (job.phase, job.pool, job.chain, job.extras) for job in world.machine.live.values()}
    raise AssertionError(f"never ended: {jobs}")


def everybody_works(rules, world, *, word):
    for circuit in list(world.inspections):
        world.inspected(circuit)
    for name in list(world.recalls):
        world.recalled(name, None)
    for number in range(2):
        world.serve(number)
    world.hear()
    world.neighbour.seen += 60.0
    world.neighbour_works(9, 9)
    for job in rules.reviewed():
        world.stage(commanded(word, job.job_id, tenant=job.tenant))
    for flight in world.in_flight():
        found = "done"
        owed = [item(*one) for one in world.owed(flight)]
        told = rules.ran if flight.forward.purpose == RUN else rules.looked_up
        rules.say(flight, "finished", [told(flight, one, found, "") for one in owed], commit=False)
