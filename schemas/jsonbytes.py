"""JSON objects as bytes: a member is added, or read, without building the rest. Pure.

Provenance is copied from record to record far more often than anybody reads it.
"""

from __future__ import annotations


def with_member(document: bytes, name: str, value: str) -> bytes:
    """Return a compact JSON object with one more member.

    Args:
        document: the object; empty stands for ``{}``.
        name: of the member, which the object does not have; plain ASCII.
        value: what it is, as JSON.

    """
    body = document[:-1] if document else b"{"
    comma = b"," if len(body) > 1 else b""
    return b"".join([body, comma, f'"{name}":'.encode(), value.encode(), b"}"])


def flat_member(document: bytes, name: str) -> bytes:
    """Return the JSON of a member that is an object without objects in it; empty where there is none.

    ``document`` is a compact JSON object, in which no member before it may hold one of that name.
    """
    mark = f'"{name}":{{'.encode()
    begin = document.find(mark)
    end = document.find(b"}", begin)
    return document[begin + len(mark) - 1 : end + 1] if 0 <= begin < end else b""
