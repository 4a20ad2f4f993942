"""The blocking client has the same verbs as the one with ``await``, and the same words for them."""

import inspect

import pytest

from shotbus.producers.blocking import Client, Job, Sweep
from shotbus.producers.client import AsyncClient
from shotbus.producers.job import AsyncJob
from shotbus.producers.sweep import AsyncSweep


def public(cls):
    """What a class has that is for others, its bases' too."""
    found = {name: value for base in reversed(cls.__mro__[:-1]) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "awaited"), [(Client, AsyncClient), (Job, AsyncJob), (Sweep, AsyncSweep)]
)
def test_what_can_be_awaited_can_be_called(blocking, awaited):
    here, there = public(blocking), public(awaited)
    # An attribute of the one may be a property of the other.
    assert here.keys() - {"sweep_id"} <= there.keys()
    for name in here.keys() & there.keys():
        assert isinstance(here[name], property) == isinstance(there[name], property), name
        if callable(here[name]):
            assert list(inspect.signature(here[name]).parameters) == list(
                inspect.signature(there[name]).parameters
            ), name


@pytest.mark.parametrize(
    "name", ["submit", "sweep", "submit_plan", "submit_plans", "job", "cancel", "cancel_sweep"]
)
def test_every_verb_of_a_user_is_on_both(name):
    assert name in public(Client)
    assert name in public(AsyncClient)
