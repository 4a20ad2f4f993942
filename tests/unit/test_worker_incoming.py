"""What a child is sent: frames in order, and what nobody wants told to the adapter whenever it was said."""

import io
import os
import queue

import pytest

from shotbus.broker.children.frames import FrameError, FrameKind, frame, json_frame
from shotbus.workers.adapters.base import BatchItem
from shotbus.workers.incoming import Incoming


class Deaf:
    """An adapter that cannot cancel."""


class Told:
    """One that can: what it was told, in order."""

    def __init__(self):
        self.news = queue.SimpleQueue()

    def cancel(self, tokens):
        self.news.put(set(tokens))


@pytest.fixture
def wire():
    """(write bytes, adapter, incoming) on a pipe."""
    reading, writing = os.pipe()
    adapter = Told()
    with os.fdopen(writing, "wb", 0) as out, os.fdopen(reading, "rb") as stream:
        yield out.write, adapter, Incoming(stream, adapter)
        # The listening thread ends with the stream, and before it is closed.
        out.close()


def cancel(bundle, *jobs):
    return json_frame(FrameKind.CANCEL, [bundle, *jobs])


def items(*jobs):
    return [BatchItem(job, 1, 0, b"", token=f"{job}.7") for job in jobs]


def drained(news):
    found = []
    while not news.empty():
        found.append(news.get())
    return found


def test_without_a_thread_frames_are_read_as_they_are_asked_for():
    stream = io.BytesIO(frame(FrameKind.SENSE) + frame(FrameKind.GO))
    incoming = Incoming(stream, Deaf())
    assert incoming.next().kind is FrameKind.SENSE
    assert stream.tell() == len(frame(FrameKind.SENSE))
    assert [incoming.next().kind, incoming.next()] == [FrameKind.GO, None]


def test_what_was_said_before_a_bundle_ran_is_told_when_it_does_and_only_of_its_own_jobs(wire):
    write, adapter, incoming = wire
    write(cancel("b", "1", "9") + cancel("b", "2") + frame(FrameKind.SENSE))
    assert incoming.next().kind is FrameKind.SENSE
    assert not any(drained(adapter.news))
    with incoming.running("b", items("1", "2", "3")):
        assert drained(adapter.news) == [{"1.7", "2.7"}]
    assert drained(adapter.news) == [set()]


def test_what_is_said_while_a_bundle_runs_adds_up_and_of_another_bundle_nothing_is_told(wire):
    write, adapter, incoming = wire
    with incoming.running("b", items("1", "2")):
        assert adapter.news.get(timeout=10) == set()
        write(cancel("b", "2"))
        assert adapter.news.get(timeout=10) == {"2.7"}
        write(cancel("b", "1"))
        assert adapter.news.get(timeout=10) == {"1.7", "2.7"}
    assert adapter.news.get(timeout=10) == set()
    with incoming.running("next", items("1", "2")):
        write(cancel("b", "1"))
        assert [adapter.news.get(timeout=10) for _ in range(2)] == [set(), set()]


@pytest.mark.parametrize("damage", [b"\1\2", frame(FrameKind.CANCEL, b"{")])
def test_a_damaged_stream_is_told_to_whoever_waits_for_a_frame(wire, damage):
    write, _, incoming = wire
    write(damage)
    if damage == b"\1\2":
        write.__self__.close()
    with pytest.raises((FrameError, ValueError)):
        incoming.next()
