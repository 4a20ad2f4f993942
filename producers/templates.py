"""Circuit templates: the text behind ``name@version``, and what that means on a bus. Reads files and the bus.

A template is a circuit that has a name; a family is a check that circuits have to pass. Which file is meant
is configuration (``[templates]``); that one name and version never mean two texts on one bus is what its
topic ``templates`` is for: the first record about a name says which circuit it is, for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shotbus.broker.bus.base import Bus, Outgoing, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.template_names import TEMPLATE
from shotbus.broker.topics import Topics
from shotbus.producers.origin import principal
from shotbus.producers.program import Program, program_of
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.nearest import did_you_mean


def is_template(circuit: Any) -> bool:
    """Tell whether a circuit is given as ``name@version``; no OpenQASM text reads like that."""
    return isinstance(circuit, str) and TEMPLATE.fullmatch(circuit) is not None


def resolved(circuit: Any, templates: Mapping[str, str]) -> Any:
    """Return a circuit as it was given, that of a template checked and with its name.

    Args:
        circuit: as callers hold them, or ``name@version``.
        templates: files by ``name@version``.

    Raises:
        ShotbusError: SB-1222 for a name that is not there, SB-2003 for a file that cannot be read, and
            everything that is wrong with its text, under the file's name.

    """
    if not is_template(circuit):
        return circuit
    path = templates.get(circuit)
    if path is None:
        known = sorted(templates)
        hint = did_you_mean(circuit, known) or "write it into [templates]"
        raise fail("SB-1222", "$.circuit", limit=", ".join(known) or "none", actual=circuit, hint=hint)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise fail("SB-2003", f"$.templates.{circuit}", actual=path, detail=type(error).__name__) from error
    try:
        return replace(program_of(text), template=circuit)
    except ShotbusError as error:
        raise ShotbusError([replace(one, path=f"{path}:{one.path}") for one in error.problems]) from None


class TemplateRegister:
    """What the names of templates mean on one bus.

    Args:
        bus: that has been started.
        topics: names.

    """

    def __init__(self, bus: Bus, topics: Topics) -> None:
        self._bus, self._topics = bus, topics
        self._known: dict[str, str] = {}
        self._place = TopicPartition(topics.name("templates"), 0)
        self._read_to = 0

    async def claim(self, program: Program) -> None:
        """Say that a template's name means this circuit, unless that is known; durable on return.

        Of two that claim a name at once the first record counts: whoever wrote the other finds it before.
        Raises ShotbusError (SB-1223) when the name means another circuit, BusError.
        """
        name = program.template
        if name not in self._known:
            await self._read()
        if name not in self._known:
            await self._bus.publish([self._record(program)])
            await self._read()
        if (meant := self._known[name]) != program.circuit_id:
            raise ShotbusError([Problem("SB-1223", "$.circuit", limit=meant, actual=program.circuit_id)])

    async def _read(self) -> None:
        """Read on from where the last reading ended."""
        begin = (await self._bus.begins([self._place]))[self._place]
        start = max(begin, self._read_to)
        async with contextlib.aclosing(scan(self._bus, {self._place: start})) as batches:
            async for records in batches:
                for record in records:
                    self._learn(record.value or b"")
                    self._read_to = record.offset + 1

    def _learn(self, value: bytes) -> None:
        # What is no such record claims nothing; it must not keep others from claiming.
        with contextlib.suppress(ShotbusError):
            fields = decode(value, "template")[1]
            self._known.setdefault(fields["template"], fields["circuit_id"])

    def _record(self, program: Program) -> Outgoing:
        fields = {
            "template": program.template,
            "circuit_id": program.circuit_id,
            "principal": principal(),
            "registered_us": time.time_ns() // 1000,
        }
        key = program.template.encode()
        return Outgoing(self._place.topic, self._place.partition, key, encode("template", fields))
