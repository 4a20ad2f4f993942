"""What makes two requests the same job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.schemas.ids import digest

#: Wishes besides what is to be run that may change the answer.
_WISHES = ("fallback", "top_up", "speculate")


def payload_hash(request: Mapping[str, Any]) -> bytes:
    """Return 16 bytes over what makes a ``circuit_request`` the job it is; not its times, class or labels.

    A repeated idempotency key is a repetition when these agree. Client and dispatcher compute it alike; what
    a record says of itself is not believed, so that no other language has to.
    """
    options = "\n".join(f"{name}={value}" for name, value in sorted(request["options"].items()))
    asked = (str(request[name]) for name in ("mode", "shots", "precision", "points", "seed"))
    problem = request["problem"]
    # Only what is wished for: a request without any has the hash that it always had.
    wishes = [f"{name}={request[name]}" for name in _WISHES if request.get(name)]
    if request.get("tolerance") is not None:
        wishes.append(f"tolerance={float(request['tolerance'])}")
    return digest(
        request["circuit_id"],
        request["bindings"],
        request["observables"],
        "/".join(asked),
        f"{request['backend']}/{request['intent']}",
        options,
        f"{problem['kind']}/{problem['version']}" if problem else "",
        problem["payload"] if problem else b"",
        *wishes,
    )
