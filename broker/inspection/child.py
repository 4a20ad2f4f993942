"""The inspection process: reads circuit texts on standard input, answers facts on standard output.

``python -m shotbus.broker.inspection.child``. It has no SDK, no secret, little memory and little time. A
text that kills it is refused by its parent; it saves nothing and repairs nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

from shotbus.broker.children.confine import allow_cpu, confine, private_streams
from shotbus.broker.children.frames import FrameError, FrameKind, frame, json_frame, read_frame
from shotbus.broker.inspection.facts import encode_facts
from shotbus.broker.inspection.inline import look_at
from shotbus.schemas.openqasm import CircuitLimits

#: Exit status that says "out of memory".
NO_MEMORY = 73


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="shotbus.broker.inspection.child")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    options = parser.parse_args(arguments)
    confine(memory_bytes=options.memory_bytes, parent=options.parent)
    limits = CircuitLimits(bytes=options.max_bytes)
    serve(
        *private_streams(), seconds=options.seconds, answer=lambda text: encode_facts(look_at(text, limits))
    )


def serve(reading: BinaryIO, writing: BinaryIO, *, seconds: float, answer: Callable[[bytes], bytes]) -> None:
    """Answer INSPECT frames until the stream ends. Raises FrameError for any other frame."""
    _say(writing, json_frame(FrameKind.HELLO, {}))
    while (received := read_frame(reading)) is not None:
        if received.kind is not FrameKind.INSPECT:
            raise FrameError(f"{received.kind.name} out of turn")
        allow_cpu(seconds)
        try:
            _say(writing, frame(FrameKind.FACTS, answer(received.payload)))
        except MemoryError:
            # Nothing that runs now can be relied on, destructors and buffers included.
            os._exit(NO_MEMORY)


def _say(writing: BinaryIO, data: bytes) -> None:
    writing.write(data)
    writing.flush()


if __name__ == "__main__":
    main()
