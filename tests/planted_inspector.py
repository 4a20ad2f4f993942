"""The inspection process with planted faults, for tests: a comment in the text says what happens to it."""

import argparse
import ctypes
import os
import time

from shotbus.broker.children.confine import confine, private_streams
from shotbus.broker.inspection.child import serve
from shotbus.broker.inspection.facts import encode_facts
from shotbus.broker.inspection.inline import look_at
from shotbus.schemas.openqasm import CircuitLimits


def spin():
    while True:
        pass


FAULTS = {
    b"// segfault": lambda: ctypes.string_at(0),
    b"// hang": spin,
    b"// sleep": lambda: time.sleep(600),
    b"// eat": lambda: [bytearray(1 << 20) for _ in range(100_000)],
    b"// defect": lambda: 1 // 0,
    b"// exit": lambda: os._exit(0),
}


def answer(text):
    for mark, fault in FAULTS.items():
        if mark in text:
            fault()
    if b"// noise" in text:
        return b"not a record"
    return encode_facts(look_at(b"another" if b"// lie" in text else text, CircuitLimits()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--memory-bytes", "--parent"):
        parser.add_argument(name, type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    confine(memory_bytes=options.memory_bytes, parent=options.parent)
    serve(*private_streams(), seconds=options.seconds, answer=answer)
