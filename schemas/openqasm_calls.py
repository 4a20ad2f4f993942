"""What OpenQASM 2 and 3 do to qubits: gates, measurements, resets, barriers. Pure.

Whatever a call repeats (broadcasts, gate bodies) is counted before it is walked: the caps hold the work
as well as the result.
"""

from __future__ import annotations

import difflib
import re
from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice

from shotbus.schemas.openqasm_bits import Bits, broadcast
from shotbus.schemas.openqasm_gates import Gate
from shotbus.schemas.openqasm_names import Frame, Operands, Place, require_plain
from shotbus.schemas.openqasm_text import Refusal
from shotbus.schemas.openqasm_tokens import Cursor

# Numbers that are finite by their looks, and fractions of pi.
_PLAIN_ANGLE = re.compile(
    r"[ \t]*+-?(?:(?:0|[1-9][0-9]{0,16})(?:\.[0-9]{1,25}+)?(?:[eE][-+]?[0-9]{1,2})?"
    r"|(?:[1-9][0-9]{0,8}\*)?pi(?:/[1-9][0-9]{0,8})?)[ \t]*+"
)
# A megabyte of ordinary text has half as many; so the cap holds only the time of a hostile one.
MAX_WORDS = 400_000
# Wide broadcasts are cheap to make again and dear to keep.
_CACHED_ROWS = 16


class Calls(Bits):
    """Gate calls and what stands beside them."""

    def apply(self, frame: Frame, gate: Gate, operands: Operands, offset: int) -> None:
        """Add ``gate`` on every row of operands to the block."""
        _, width, operations, entangling, depth, key, _ = gate
        rows, levels, measured = operands[1], frame.levels, self.measured
        frame.operations += operations * len(rows)
        frame.entangling += entangling * len(rows)
        if frame.operations > self.limits.operations:
            self.too_many(offset)
        frame.calls[key] += len(rows)
        if width > 1:
            self.tally.connect(frame.edges, gate, rows)
        for row in rows:
            if len(row) == 1:
                levels[row[0]] += depth
            elif len(row) == 2:
                first, second = row
                level = levels[first]
                if levels[second] > level:  # noqa: PLR1730 - max() would be a third of this loop's time
                    level = levels[second]
                levels[first] = levels[second] = level + depth
            else:
                frame.occupy(row, depth)
            if measured and frame.inside != "gate" and not measured.isdisjoint(row):
                self.mid_circuit = True

    def gate(self, name: str, offset: int) -> Gate:
        """Return the gate of this name; raises :class:`Refusal` (SB-1208)."""
        symbol = self.names.table.get(name)
        if isinstance(symbol, Gate):
            return symbol
        require_plain(name, offset, greek=False)
        known = islice((key for key, value in self.names.table.items() if isinstance(value, Gate)), 200)
        near = difflib.get_close_matches(name[:64], known, 1)
        hint = f"did you mean {near[0]}?" if near else self.gate_hint(name)
        raise Refusal("SB-1208", offset, actual=name, hint=hint)

    @abstractmethod
    def gate_hint(self, name: str) -> str:
        """Say what might be missing when no gate is called ``name``."""

    # Plain calls: arguments and operands by their text

    def count_angles(self, frame: Frame, angles: str, offset: int) -> int:
        """Check the arguments between the parentheses of a plain call and return how many there are."""
        if "(" in angles or not angles.strip():
            cursor = Cursor(self.text, offset)
            count = len(self.expressions.values(cursor, ")", in_gate=frame.inside == "gate"))
            self.spend_words(cursor)
        else:
            count = 0
            for part in angles.split(","):
                count += 1
                if part not in frame.angles and not _PLAIN_ANGLE.fullmatch(part):
                    self._angle(frame, part, offset)
                offset += len(part) + 1
        frame.angles[angles] = count
        return count

    def _angle(self, frame: Frame, part: str, offset: int) -> None:
        """Check one argument, which ends at a comma or at the closing parenthesis."""
        cursor = Cursor(self.text, offset)
        self.expressions.value(cursor, in_gate=frame.inside == "gate")
        if not (cursor.at(",") or cursor.at(")")):
            raise cursor.unexpected("',' or ')'")
        self.spend_words(cursor)
        frame.angles[part] = 1

    def plain_operands(self, frame: Frame, operands: str, offset: int) -> Operands:
        """Return the rows of a plain call's operands; raises :class:`Refusal`."""
        applied = broadcast(self.plain_places(frame, operands, offset), offset)
        if len(applied.rows) <= _CACHED_ROWS:
            frame.operands[operands] = applied
        return applied

    def spend_words(self, cursor: Cursor) -> None:
        """Bound the work of reading word by word; only a text made for that purpose comes near."""
        self._words += cursor.words
        if self._words > MAX_WORDS:
            limit = f"{MAX_WORDS} words outside plain gate calls"
            self.report.fatal(Refusal("SB-1201", cursor.start, limit=limit, hint="write plain gate calls"))

    # Measurement, reset, barrier

    def measure(self, frame: Frame, source: Place, target: Place, offset: int) -> None:
        """Add measurements of ``source`` into ``target``; raises :class:`Refusal`."""
        if frame.inside == "gate":
            raise Refusal(
                "SB-1215", offset, actual="measure in a gate", hint="a gate is unitary: measure outside"
            )
        (qubits, one_qubit), (bits, one_bit) = source, target
        if len(qubits) != len(bits) or (self.version == 2 and one_qubit != one_bit):
            actual = f"{len(qubits)} qubits into {len(bits)} bits"
            raise Refusal(
                "SB-1209", offset, actual=actual, hint="measure as many qubits as the register has bits"
            )
        self.spend(frame, "measure", qubits, offset)
        frame.measurements += len(qubits)
        self.measured.update(qubits)
        levels = frame.levels
        for qubit, bit in zip(qubits, bits, strict=True):
            levels[qubit] = levels[bit] = max(levels[qubit], levels[bit]) + 1

    def spend(self, frame: Frame, key: str, qubits: Sequence[int], offset: int) -> None:
        """Count one operation on each of ``qubits``, and note what follows a measurement."""
        frame.operations += len(qubits)
        frame.calls[key] += len(qubits)
        if frame.operations > self.limits.operations:
            self.too_many(offset)
        if self.measured and not self.measured.isdisjoint(qubits):
            self.mid_circuit = True

    def reset(self, frame: Frame, cursor: Cursor) -> None:
        """Read a reset."""
        offset = cursor.start
        cursor.expect("reset")
        place = self.operand(frame, cursor, "qubit")
        cursor.expect(";")
        self.apply_reset(frame, place, offset)

    def apply_reset(self, frame: Frame, place: Place, offset: int) -> None:
        """Add resets; behind anything else on its qubit a reset counts as mid-circuit."""
        if frame.inside == "gate":
            hint = "a gate is unitary: reset outside"
            raise Refusal("SB-1215", offset, actual="reset in a gate", hint=hint)
        qubits, _ = place
        self.spend(frame, "reset", qubits, offset)
        for qubit in qubits:
            self.mid_circuit |= frame.nesting > 0 or frame.levels[qubit] > 0
            frame.levels[qubit] += 1

    def barrier(self, frame: Frame, cursor: Cursor) -> None:
        """Read a barrier; without operands it is one across all qubits."""
        offset = cursor.start
        cursor.expect("barrier")
        if cursor.at(";"):
            places: list[Place] = [(range(self.qubits if frame.inside != "gate" else 0), False)]
        else:
            places = self.operands(frame, cursor)
        cursor.expect(";")
        self.apply_barrier(frame, places, offset)

    def apply_barrier(self, frame: Frame, places: Sequence[Place], offset: int) -> None:
        """Bring all these qubits to one layer."""
        for ids, _ in places:
            self.charge(frame, len(ids), offset)
        frame.occupy({qubit for ids, _ in places for qubit in ids}, 0)


def wrong_arity(offset: int, name: str, gate: Gate, angles: int, qubits: int) -> Refusal:
    """Return the refusal of a call that does not fit the gate's signature."""
    limit = f"{gate.parameters} parameters, {gate.qubits} qubits"
    actual = f"{name} with {angles} parameters, {qubits} qubits"
    return Refusal("SB-1209", offset, limit=limit, actual=actual, hint="compare the gate's definition")
