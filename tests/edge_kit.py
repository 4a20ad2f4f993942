"""What the suites about wrong input share."""

from shotbus.schemas.errors import ShotbusError


def refusal(work, *arguments, **named):
    """Return the problems that a call raises, empty when it goes through."""
    try:
        work(*arguments, **named)
    except ShotbusError as error:
        return list(error.problems)
    return []


def codes(work, *arguments, **named):
    """Return the codes of the problems that a call raises, empty when it goes through."""
    return [problem.code for problem in refusal(work, *arguments, **named)]
