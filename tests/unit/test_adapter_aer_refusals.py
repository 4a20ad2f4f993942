"""What the Aer adapter refuses: each with its own code, never with a parser's words, never at a neighbour's cost."""

import numpy as np
import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.packed import pack
from shotbus.schemas.pub import Bindings, PauliSums, pack_observables
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.base import MAX_PAYLOAD_BYTES, load

SAMPLED, NAMES = rotations(3)
BARE, _ = rotations(3, measured=False)
NO_ROWS = Bindings((), np.zeros((1, 0)))
HEAD = 'OPENQASM 3.0; include "stdgates.inc"; '
# 110 bytes that Aer would work on for hours.
DEEP = HEAD + "qubit q; bit c; for int i in [1:500000] { h q; } c = measure q;"
WIDE = HEAD + "qubit[40] q; bit[40] c; h q; c = measure q;"


@pytest.fixture(scope="module")
def aer():
    return load("aer")


def fields(text, rows=None, **more):
    return request(text, angles(NAMES, 2) if rows is None else rows, **more)


def observed(label, text=BARE, **more):
    packed = pack_observables(PauliSums.from_terms([[(label, 1.0)]]))
    return fields(text, mode="estimate", observables=packed, **more)


def not_a_number():
    matrix = angles(NAMES, 2).matrix.copy()
    matrix[1, 3] = np.nan
    return fields(SAMPLED, Bindings(NAMES, matrix))


def twice():
    """A column of one parameter instead of that of another, and one of it besides."""
    matrix = angles(NAMES, 2).matrix
    return fields(SAMPLED, Bindings((*NAMES, NAMES[0]), np.concatenate([matrix, matrix[:, :1]], axis=1)))


CASES = {
    "SB-1001": (b"no request", "INVALID"),
    "SB-1103": (fields(SAMPLED, shots=0), "INVALID"),
    "SB-1108": (fields(SAMPLED, options={"method": "magic"}), "INVALID"),
    "SB-1116": (fields(WIDE, NO_ROWS), "CONSTRAINT"),
    "SB-1117": (fields(DEEP, NO_ROWS), "CONSTRAINT"),
    "SB-1202": (fields('OPENQASM 3.0; include "/etc/passwd"; qubit q;', NO_ROWS), "INVALID"),
    "SB-1203": (fields(HEAD + "qubit[2] q; h q[0", NO_ROWS), "INVALID"),
    "SB-1218": (fields(BARE), "INVALID"),
    "SB-1219": (request("no such circuit"), "TRANSIENT"),
    "SB-1301": (fields(SAMPLED, angles(NAMES[:-1], 2)), "INVALID"),
    "SB-1302": (fields(SAMPLED, angles((*NAMES, "more"), 2)), "INVALID"),
    "SB-1303": (not_a_number(), "INVALID"),
    "SB-1304": (fields(SAMPLED, points=3), "INVALID"),
    "SB-1306": (twice(), "INVALID"),
    "SB-1401": (fields(BARE, mode="estimate", observables=pack({"x": np.zeros(1)})), "INVALID"),
    "SB-1402": (observed("ZZZZ"), "INVALID"),
}
TEXTS = (
    SAMPLED,
    BARE,
    WIDE,
    DEEP,
    'OPENQASM 3.0; include "/etc/passwd"; qubit q;',
    HEAD + "qubit[2] q; h q[0",
)


@pytest.mark.parametrize("code", CASES)
def test_each_fault_has_its_own_code_and_harms_no_neighbour(aer, code):
    raw, error_class = CASES[code]
    good = item(fields(SAMPLED))
    before, refused, after = aer.run(batch([good, item(raw), good], *TEXTS))
    assert (refused.problems[0].code, refused.error_class) == (code, error_class)
    assert before.payload
    assert before.payload == after.payload


def test_all_wrong_names_are_reported_together(aer):
    (refused,) = aer.run(batch([item(fields(SAMPLED, angles((*NAMES[1:], "x"), 1)))], SAMPLED))
    assert [problem.code for problem in refused.problems] == ["SB-1301", "SB-1302"]
    assert NAMES[0] in refused.problems[0].path


def test_a_job_whose_angle_divides_by_zero_fails_alone(aer):
    text = HEAD + "input float a; qubit[1] q; bit[1] c; rx(1/a) q[0]; c[0] = measure q[0];"
    jobs = [
        item(request(text, Bindings(("a",), np.array([[value]]))), seed=7 + 2113 * k)
        for k, value in enumerate((1.0, 0.0, 2.0))
    ]
    one, zero, two = aer.run(batch(jobs, text))
    assert one.payload
    assert two.payload
    assert zero.problems[0].code == "SB-1220"


@pytest.mark.parametrize("mode", ["sample", "estimate"])
def test_a_result_that_fits_no_record_is_refused_with_limit_and_size(aer, mode):
    if mode == "sample":
        text = HEAD + "qubit[16] q; bit[16] c; h q; c = measure q;"
        raw = request(text, Bindings((), np.zeros((20, 0))), shots=20_000)
    else:
        text = HEAD + "input float a; qubit[1] q; rx(a) q[0];"
        raw = observed("Z", text, rows=angles(("a",), 60_000))
    (refused,) = aer.run(batch([item(raw)], text))
    (problem,) = refused.problems
    assert (problem.code, refused.error_class) == ("SB-1113", "CONSTRAINT")
    assert str(MAX_PAYLOAD_BYTES) in problem.limit
    assert int(problem.actual.split()[0]) > MAX_PAYLOAD_BYTES


def test_a_method_that_cannot_run_the_circuit_is_a_refusal(aer):
    text = HEAD + "qubit[1] q; bit[1] c; t q[0]; c[0] = measure q[0];"
    (refused,) = aer.run(batch([item(request(text, options={"method": "stabilizer"}))], text))
    assert (refused.problems[0].code, refused.error_class) == ("SB-1220", "INVALID")


@pytest.mark.parametrize("error", [ValueError, BaseException])
def test_whatever_a_parser_raises_only_its_type_and_place_are_told(error):
    with pytest.raises(Exception, match="SB-1220") as refused, refusals():
        raise error("12,7: unexpected token root:x:0:0:secret")
    assert "secret" not in str(refused.value)
    assert refused.value.problems[0].path == "12:7"
    assert refused.value.__suppress_context__


def test_lack_of_memory_is_the_pools_limit_not_the_circuits_fault():
    with pytest.raises(Exception, match="SB-1110"), refusals():
        raise MemoryError
