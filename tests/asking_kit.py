"""What the dispatcher's suites submit, and what they ask of a shard and of its commands."""

from dispatcher_kit import emitted, job_id, payload, request, submitted

from shotbus.broker.dispatcher.messages import Credit

FREE = {pool: [Credit("w1", 0, 4)] for pool in ("aer", "noop")}


def job(number=1, pool="aer", **changes):
    """The event of a submission with a payload of its own."""
    return submitted(request(number, payload_hash=payload(number), **changes), offset=number, pool=pool)


def phase(driver, number=1):
    """Where a live job is."""
    return driver.machine.live[job_id(number)].phase


def results(commands):
    """How jobs ended, by id."""
    return {one["job_id"]: one["outcome"] for one in emitted(commands, "circuit_result")}


def refusals(commands):
    """Which jobs were refused, each with its first code."""
    return [(one["job_id"], one["problems"][0]["code"]) for one in emitted(commands, "refusal")]


def changed(commands):
    """How many jobs a command changed, and why not the others."""
    (answer,) = [one for one in emitted(commands, "located") if one["status"] == "CHANGED"]
    return answer["changed"], list(answer["problems"])


def events(commands):
    """The events of a micro-batch."""
    return [one for batch in emitted(commands, "event_batch") for one in batch["events"]]
