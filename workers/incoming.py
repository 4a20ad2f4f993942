"""What a child is sent: frames in order, and meanwhile what nobody wants any more. Reads a stream.

A thread listens where the adapter can cancel; for the others nothing is read but what is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import BinaryIO

from shotbus.broker.children.frames import Frame, FrameKind, read_frame
from shotbus.workers.adapters.base import Adapter, BatchItem, CanCancel

_NONE: frozenset[str] = frozenset()


class Incoming:
    """The frames of one stream."""

    def __init__(self, stream: BinaryIO, adapter: Adapter) -> None:
        self._stream = stream
        self._adapter: CanCancel | None = adapter if isinstance(adapter, CanCancel) else None
        self._frames: SimpleQueue[Frame | Exception | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._called_off: tuple[str, set[str]] = ("", set())
        self._running: tuple[str, Mapping[str, str]] = ("", {})
        if self._adapter is not None:
            # A daemon: the stream ends with the worker, and nobody waits for it.
            threading.Thread(target=self._listen, name="frames", daemon=True).start()

    def next(self) -> Frame | None:
        """Block for the next frame that is no CANCEL; None at the end of the stream. Raises FrameError."""
        if self._adapter is None:
            return read_frame(self._stream)
        received = self._frames.get()
        if isinstance(received, Exception):
            raise received
        return received

    @contextmanager
    def running(self, bundle_id: str, items: Sequence[BatchItem]) -> Iterator[None]:
        """Have the adapter told what nobody wants of a bundle, be it said before or meanwhile."""
        self._turn(bundle_id, {item.job_id: item.token for item in items})
        try:
            yield
        finally:
            self._turn("", {})

    def _turn(self, bundle_id: str, tokens: Mapping[str, str]) -> None:
        if self._adapter is not None:
            with self._lock:
                self._running = bundle_id, tokens
                self._tell(self._adapter)

    def _listen(self) -> None:
        try:
            while (received := read_frame(self._stream)) is not None:
                if received.kind is FrameKind.CANCEL:
                    self._hear(*received.document())
                else:
                    self._frames.put(received)
        except Exception as error:  # noqa: BLE001 (raised where the frames are awaited: nobody watches a thread)
            self._frames.put(error)
        else:
            self._frames.put(None)

    def _hear(self, bundle_id: str, *jobs: str) -> None:
        assert self._adapter is not None, "nobody listens for the others"
        with self._lock:
            known = self._called_off[1] if self._called_off[0] == bundle_id else set()
            self._called_off = bundle_id, known.union(jobs)
            self._tell(self._adapter)

    def _tell(self, adapter: CanCancel) -> None:
        running, tokens = self._running
        about, jobs = self._called_off
        adapter.cancel({tokens[job] for job in jobs if job in tokens} if about == running else _NONE)
