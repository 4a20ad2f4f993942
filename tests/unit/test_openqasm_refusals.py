"""Hostile and mistaken circuit texts: each is refused with its own code, at once and in little memory."""

import contextlib
import time

import pytest

from shotbus.schemas.errors import HINTS
from shotbus.schemas.openqasm import CircuitError, CircuitLimits, inspect

HEAD_3 = 'OPENQASM 3.0; include "stdgates.inc"; qubit[4] q; bit[4] c; bit b; input float f; input angle a; '
HEAD_2 = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[4]; creg c[4]; '


def refusals(text, **limits):
    begin = time.process_time()
    with pytest.raises(CircuitError) as caught:
        inspect(text, CircuitLimits(**limits))
    assert time.process_time() - begin < 2
    assert len(str(caught.value)) < 20_000
    return [problem.code for problem in caught.value.problems]


def doubling(levels):
    return "gate g0 a { U(0, 0, 0) a; } " + " ".join(
        f"gate g{n + 1} a {{ g{n} a; g{n} a; }}" for n in range(levels)
    )


BOTH = {
    "include of a file": ('include "/etc/passwd";', "SB-1202"),
    "include upwards": ('include "../x.inc";', "SB-1202"),
    "include of a device": ('include "/dev/stdin";', "SB-1202"),
    "include beside": ("include './stdgates.inc';", "SB-1202"),
    "include with NUL in the name": ('include "stdgates.inc\0/etc/passwd";', "SB-1200"),
    "huge register": ("qreg r[2000000000];", "SB-1204"),
    "register of 4,000 digits": (f"qreg r[{'9' * 4000}];", "SB-1214"),
    "empty register": ("qreg r[0];", "SB-1204"),
    "negative register": ("qreg r[-1];", "SB-1204"),
    "too many qubits in all": ("qreg r[500]; qreg s[497];", "SB-1204"),
    "huge classical register": ("creg r[100000];", "SB-1204"),
    "doubling gates": (doubling(29), "SB-1205"),
    "gate that calls itself": ("gate g a { g a; }", "SB-1208"),
    "gates that call each other": ("gate g a { h2 a; } gate h2 a { g a; }", "SB-1208"),
    "broadcast beyond the cap": ("qreg r[990]; " + "U(0,0,0) r;" * 1100, "SB-1205"),
    "barriers beyond the cap": ("qreg r[990]; " + "barrier r;" * 5000, "SB-1205"),
    "10,000 parentheses": (f"rx({'(' * 10_000}1{')' * 10_000}) q[0];", "SB-1207"),
    "10,000 open parentheses": (f"rx({'(' * 10_000}", "SB-1207"),
    "sum of 100,000 terms": (f"rx({'+'.join(['1'] * 100_000)}) q[0];", "SB-1207"),
    "10,000 signs": (f"rx({'-' * 10_000}1) q[0];", "SB-1207"),
    "unclosed gate": ("gate g a { x a;", "SB-1203"),
    "stray brace": ("}", "SB-1203"),
    "missing semicolon": ("x q[0]", "SB-1203"),
    "unclosed parenthesis": ("rx(1 q[0];", "SB-1203"),
    "index at the width": ("x q[4];", "SB-1211"),
    "index of 30 digits": (f"x q[{'9' * 30}];", "SB-1211"),
    "index of a gate's qubit": ("gate g a { x a[0]; }", "SB-1211"),
    "qubit twice": ("cx q[1], q[1];", "SB-1212"),
    "qubit twice by broadcast": ("cx q[1], q;", "SB-1212"),
    "qubit twice in a gate": ("gate g a { cx a, a; }", "SB-1212"),
    "measure into a missing register": ("measure q[0] -> d[0];", "SB-1210"),
    "measure into qubits": ("measure q[0] -> q[1];", "SB-1210"),
    "measure of bits": ("measure c[0] -> c[1];", "SB-1210"),
    "measure of more than fits": ("creg d[3]; measure q -> d;", "SB-1209"),
    "unknown gate": ("frobnicate q[0];", "SB-1208"),
    "homoglyph of x": ("\N{CYRILLIC SMALL LETTER HA} q[0];", "SB-1213"),
    "homoglyph in cx": ("c\N{CYRILLIC SMALL LETTER HA} q[0], q[1];", "SB-1213"),
    "homoglyph register": ("qreg \N{GREEK SMALL LETTER OMICRON}[1];", "SB-1213"),
    "full-width letters": ("\N{FULLWIDTH LATIN SMALL LETTER X} q[0];", "SB-1213"),
    "too few qubits": ("cx q[0];", "SB-1209"),
    "too many qubits for a gate": ("x q[0], q[1];", "SB-1209"),
    "too few parameters": ("rx q[0];", "SB-1209"),
    "too many parameters": ("x(1) q[0];", "SB-1209"),
    "registers of two widths": ("qreg r[3]; cx q, r;", "SB-1209"),
    "gate on nothing": ("gate g { }", "SB-1209"),
    "undeclared qubit": ("x r[0];", "SB-1210"),
    "undeclared parameter": ("rx(theta) q[0];", "SB-1210"),
    "global qubit in a gate": ("gate g a { x q[0]; }", "SB-1210"),
    "dunder register": ("creg __class__[1];", "SB-1213"),
    "dunder gate": ("gate __init__ a { }", "SB-1213"),
    "keyword as a name": ("qreg measure[1];", "SB-1213"),
    "name of 1,000 letters": (f"qreg {'a' * 1000}[1];", "SB-1213"),
    "angle 1e999": ("rx(1e999) q[0];", "SB-1214"),
    "angle of 400 digits": (f"rx({'9' * 400}) q[0];", "SB-1214"),
    "product that overflows": ("rx(1e300*1e300) q[0];", "SB-1214"),
    "1/0": ("rx(1/0) q[0];", "SB-1214"),
    "1/(1-1)": ("rx(1/(1-1)) q[0];", "SB-1214"),
    "parameter over zero in a gate": ("gate g(t) a { rx(t/0) a; }", "SB-1214"),
    "register declared twice": ("qreg q[1];", "SB-1216"),
    "register named as a gate": ("creg h[1];", "SB-1216"),
    "gate defined twice": ("gate g a { } gate g a { }", "SB-1216"),
    "library gate defined again": ("gate x a { }", "SB-1216"),
    "gate with one name twice": ("gate g a, a { }", "SB-1216"),
    "measure in a gate": ("gate g a { measure a -> c[0]; }", "SB-1215"),
    "reset in a gate": ("gate g a { reset a; }", "SB-1215"),
    "NUL": ("x q\0[0];", "SB-1200"),
    "escape sequence": ("// \x1b[2J\nx q[0];", "SB-1200"),
    "right-to-left override": ("// \N{RIGHT-TO-LEFT OVERRIDE}\nx q[0];", "SB-1200"),
    "zero-width space": ("x q\N{ZERO WIDTH SPACE}[0];", "SB-1200"),
    "comment ended by a lone carriage return": ("// hidden\rx q[0];", "SB-1200"),
    "lone surrogate": ("// \ud800", "SB-1200"),
    "unclosed comment of 1 MB": ("/*" + "x" * 1_000_000, "SB-1203"),
}


@pytest.mark.parametrize("head", [HEAD_3, HEAD_2], ids=["openqasm3", "openqasm2"])
@pytest.mark.parametrize("case", BOTH)
def test_each_is_refused_with_its_own_code_in_both_languages(case, head):
    body, code = BOTH[case]
    assert code in refusals(head + body)


ONLY_3 = {
    "typed huge register": ("qubit[2000000000] r;", "SB-1204"),
    "typed empty register": ("qubit[0] r;", "SB-1204"),
    "typed negative register": ("bit[-1] r;", "SB-1204"),
    "computed huge register": ("qubit[1000000*1000000] r;", "SB-1204"),
    "endless for": ("for int i in [0:1000000000000] { x q[0]; }", "SB-1206"),
    "for up to 10**12": ("for int i in [0:10**12] { x q[0]; }", "SB-1206"),
    "for up to 10^12 without a type": ("for i in [0:10^12] { x q[0]; }", "SB-1206"),
    "endless for with nothing in it": ("for int i in [0:1000000000000] { }", "SB-1206"),
    "step of zero": ("for int i in [0:0:9] { }", "SB-1206"),
    "loop over bits": ("for int i in c { }", "SB-1206"),
    "loop to an input": ("for int i in [0:f] { }", "SB-1206"),
    "while true": ("while (true) { x q[0]; }", "SB-1206"),
    "while on a bit": ("while (b) { x q[0]; }", "SB-1206"),
    "loops that multiply": ("for int i in [1:10000] { for int j in [1:10000] { x q[0]; } }", "SB-1205"),
    "empty loops that multiply": ("for int i in [1:10000] { for int j in [1:10000] { } }", "SB-1205"),
    "100 nested ifs": ("if (b) { " * 100 + "x q[0];" + "}" * 100, "SB-1207"),
    "100 nested ifs without braces": ("if (b) " * 100 + "x q[0];", "SB-1207"),
    "100 else ifs": ("if (b) { } else " * 100 + "{ }", "SB-1207"),
    "100 nested loops": ("".join(f"for int i{n} in {{1}} " for n in range(100)) + "x q[0];", "SB-1207"),
    "100,000 open blocks": ("if (b) {" * 100_000, "SB-1207"),
    "10,000 modifiers": ("inv @ " * 10_000 + "x q[0];", "SB-1207"),
    "1,000 controls": ("ctrl(1000) @ x q[0];", "SB-1207"),
    "power of a wide gate": ("gate g s, t, u, v { x s; } pow(0.5) @ ctrl(2) @ g q[0];", "SB-1215"),
    "power with a free parameter": ("pow(2) @ U(f, 0, 0) q[0];", "SB-1215"),
    "enormous exponent": ("pow(1e300) @ x q[0];", "SB-1214"),
    "negative index beyond the width": ("x q[-5];", "SB-1211"),
    "range beyond the width": ("x q[0:4];", "SB-1211"),
    "set beyond the width": ("x q[{0, 4}];", "SB-1211"),
    "index of a single bit": ("measure q[0] -> b[0];", "SB-1211"),
    "bits in a wrong condition": ("if (d == 1) x q[0];", "SB-1210"),
    "dunder parameter": ("input float __class__;", "SB-1213"),
    "Cyrillic parameter": ("input float \N{CYRILLIC SMALL LETTER A};", "SB-1213"),
    "Greek letter that looks Latin": ("input float \N{GREEK SMALL LETTER OMICRON};", "SB-1213"),
    "ln(-1)": ("rx(ln(-1)) q[0];", "SB-1215"),
    "input over zero": ("rx(f/0) q[0];", "SB-1214"),
    "angle plus whole number": ("rx(a + 1) q[0];", "SB-1215"),
    "boolean angle": ("rx(true) q[0];", "SB-1215"),
    "parameter declared twice": ("input float f;", "SB-1216"),
    "include twice": ('include "stdgates.inc";', "SB-1216"),
    "include of the other library": ('include "qelib1.inc";', "SB-1202"),
    "def": ("def g(int n) { }", "SB-1215"),
    "extern": ("extern g(int) -> int;", "SB-1215"),
    "defcal": ("defcal x $0 { }", "SB-1215"),
    "cal": ("cal { }", "SB-1215"),
    "box": ("box { x q[0]; }", "SB-1215"),
    "switch": ("switch (c) { case 0 { } }", "SB-1215"),
    "pragma": ("\npragma do harm\n", "SB-1215"),
    "hash pragma": ("\n#pragma do harm\n", "SB-1215"),
    "annotation": ("\n@do harm\nx q[0];", "SB-1215"),
    "annotation in the place of a modifier": ("ctrl @x q[0], q[1];", "SB-1215"),
    "const": ("const int n = 2;", "SB-1215"),
    "let": ("let r = q[0:1];", "SB-1215"),
    "variable": ("int n = 2;", "SB-1215"),
    "output": ("output bit o;", "SB-1215"),
    "input of bits": ("input bit[4] i;", "SB-1215"),
    "assignment": ("c = 3;", "SB-1215"),
    "bits with an initial value": ('bit[2] d = "01";', "SB-1215"),
    "measurement into nothing": ("measure q[0];", "SB-1215"),
    "half a dt": ("delay[0.5dt] q[0];", "SB-1215"),
    "gate with a duration": ("x[10ns] q[0];", "SB-1215"),
    "physical beside declared qubits": ("x $0;", "SB-1215"),
    "declaration in a block": ("if (b) { qubit r; }", "SB-1215"),
    "condition on part of a register": ("if (c[0:1] == 1) x q[0];", "SB-1215"),
    "comparison that cannot be": ("if (c > 1) x q[0];", "SB-1215"),
    "jump outside a loop": ("break;", "SB-1203"),
    "else without if": ("else { x q[0]; }", "SB-1203"),
    "parameters of a gate out of order": ("gate g(y2, x2) s { rx(y2) s; rz(x2) s; }", "SB-1215"),
}


@pytest.mark.parametrize("case", ONLY_3)
def test_each_is_refused_with_its_own_code_in_openqasm_3(case):
    body, code = ONLY_3[case]
    assert refusals(HEAD_3 + body)[0] == code


ONLY_2 = {
    "ln(-1)": ("rx(ln(-1)) q[0];", "SB-1214"),
    "ln(0)": ("rx(ln(0)) q[0];", "SB-1214"),
    "sqrt(-1)": ("rx(sqrt(-1)) q[0];", "SB-1214"),
    "root of a negative number": ("rx((0-1)^0.5) q[0];", "SB-1214"),
    "exp(1000)": ("rx(exp(1000)) q[0];", "SB-1214"),
    "10^400": ("rx(10^400) q[0];", "SB-1214"),
    "function that is not in the language": ("rx(acos(1)) q[0];", "SB-1215"),
    "opaque": ("opaque g a;", "SB-1215"),
    "physical qubit": ("x $0;", "SB-1215"),
    "register with a capital": ("qreg R[1];", "SB-1213"),
    "block comment": ("/* not in this language */", "SB-1203"),
    "leading zeros": ("x q[00];", "SB-1203"),
    "condition without a number": ("if (c) x q[0];", "SB-1203"),
    "if in an if": ("if (c == 1) if (c == 2) x q[0];", "SB-1203"),
    "measurement of the other language": ("c[0] = measure q[0];", "SB-1203"),
    "library gate with another signature": ("gate swap(t) s, t2 { }", "SB-1216"),
}


@pytest.mark.parametrize("case", ONLY_2)
def test_each_is_refused_with_its_own_code_in_openqasm_2(case):
    body, code = ONLY_2[case]
    assert refusals(HEAD_2 + body)[0] == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"QISKIT\x0d\x01\x02\x00", "SB-1200"),
        ("QISKIT\r", "SB-1200"),
        ("UUlTS0lUDQECAA==", "SB-1200"),
        (b"OPENQASM 3.0; qubit \xff;", "SB-1200"),
        ("\ufeffOPENQASM 3.0; qubit q;", "SB-1200"),
        ("OPENQASM 3.0; qubit q;".encode("utf-16"), "SB-1200"),
        ("", "SB-1203"),
        ("// nothing\n", "SB-1203"),
        ("OPENQASM 4.0; qubit q;", "SB-1217"),
        ("OPENQASM 2.1; qreg q[1];", "SB-1217"),
        ("OPENQASM;", "SB-1217"),
        ("OPENQASM 3.0 qubit q;", "SB-1217"),
        ('include "qelib1.inc"; qreg q[1];', "SB-1217"),
        ("OPENQASM 2.0; qubit q;", "SB-1208"),
        ("OPENQASM 3.0; qubit q; x q;", "SB-1208"),
        ("OPENQASM 3.0; U(0,0,0) $1000;", "SB-1204"),
        ("OPENQASM 3.0; U(0,0,0) $01;", "SB-1203"),
        ("OPENQASM 3.0; U(0,0,0) $99999999999999999999;", "SB-1204"),
    ],
)
def test_what_is_no_such_program_is_refused(text, code):
    assert refusals(text)[0] == code


def test_a_text_over_the_cap_is_refused_by_its_bytes():
    assert refusals(" " * 1_048_577) == ["SB-1201"]
    assert refusals("//" + "é" * 60, bytes=100) == ["SB-1201"]


def test_an_oversize_circuit_is_not_told_to_come_in_parts():
    # A job is one circuit: nothing would put parts together.
    with pytest.raises(CircuitError) as caught:
        inspect(" " * 1_048_577)
    assert caught.value.problems[0].hint == HINTS["SB-1201"]
    assert "parts as gates" in HINTS["SB-1201"]


def test_caps_can_be_set():
    program = "OPENQASM 3.0; qubit[3] q; U(0, 0, 0) q;"
    assert inspect(program, CircuitLimits(qubits=3, operations=3)).operations == 3
    assert refusals(program, qubits=2)[0] == "SB-1204"
    assert refusals(program, operations=2) == ["SB-1205"]


MEGABYTE = {
    "short calls": "x q;",
    "ranges": "x q[0:0];",
    "modifiers": "inv @ x q;",
    "branches": "if (b) x q;",
    "loops": "for int i in {1} { }",
    "expressions": "rx((((f + 1)*2 - f/3)*4 - 1)) q;",
    "sets": "x q[{0,1,2,3}];",
    "empty comments": "//\n",
    "block comments": "/**/",
    "quotes": '"',
    "braces": "{",
    "closing braces": "}",
    "at signs": "@",
    "parentheses": "x(",
    "one long word": "a",
    "the same mistake": "x z;",
    "blanks": " ",
}


@pytest.mark.parametrize("case", MEGABYTE)
def test_a_megabyte_of_anything_takes_about_a_second_at_most(case):
    unit = MEGABYTE[case]
    text = HEAD_3 + unit * ((1_048_576 - len(HEAD_3)) // len(unit))
    begin = time.process_time()
    with contextlib.suppress(CircuitError):
        inspect(text)
    assert time.process_time() - begin < 3
