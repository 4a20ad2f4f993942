"""What inspection says about circuits that are in order."""

import time

import pytest

from shotbus.schemas.openqasm import CircuitError, CircuitLimits, inspect

HEAD_3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def facts_3(body, **limits):
    return inspect(HEAD_3 + body, CircuitLimits(**limits))


def facts_2(body):
    return inspect(HEAD_2 + body)


def test_a_bell_circuit_in_both_languages_has_the_same_facts():
    new = facts_3("qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;")
    old = facts_2("qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;")
    assert (new.language, old.language) == ("openqasm3", "openqasm2")
    for facts in (new, old):
        assert (facts.qubits, facts.clbits, facts.registers) == (2, 2, (("c", 2),))
        assert (facts.operations, facts.two_qubit_gates, facts.measurements) == (4, 1, 2)
        assert facts.depth_bound == 3
        assert not facts.has_mid_circuit


def test_bytes_are_read_as_utf8():
    assert inspect(b"OPENQASM 3.0; qubit q; // caf\xc3\xa9\nU(0, 0, 0) q;").operations == 1


def test_a_text_without_a_version_is_openqasm_3():
    assert inspect('include "stdgates.inc"; qubit q; x q;').language == "openqasm3"


def test_registers_keep_their_order_and_single_bits_are_only_counted():
    facts = facts_3("qubit[3] q; bit[2] second; bit lone; creg first[1]; bit[3] last = measure q;")
    assert facts.registers == (("second", 2), ("first", 1), ("last", 3))
    assert facts.clbits == 7


def test_parameters_are_sorted_by_name_and_listed_even_when_unused():
    facts = facts_3(
        "input float b; input angle[32] B; input float[64] _θ_10_; input float[64] _θ_2_; qubit q; rx(b) q;"
    )
    assert facts.parameters == ("B", "_θ_10_", "_θ_2_", "b")


def test_gate_definitions_are_counted_without_expanding_them():
    doubling = "gate g0 a { x a; x a; }" + "".join(
        f"gate g{n + 1} a {{ g{n} a; g{n} a; }}" for n in range(15)
    )
    facts = facts_3(doubling + "qubit q; g15 q;")
    assert facts.operations == facts.depth_bound == 2**16


def test_definitions_count_their_gates_on_two_qubits():
    facts = facts_3("gate bell a, b { h a; cx a, b; } qubit[4] q; bell q[0:1], q[2:3]; bell q[0], q[1];")
    assert (facts.operations, facts.two_qubit_gates) == (6, 3)


def test_broadcasts_are_counted():
    facts = facts_2("qreg q[5]; qreg r[5]; h q; cx q,r; cx q[0],r; barrier q; reset r;")
    assert (facts.operations, facts.two_qubit_gates) == (20, 10)


def test_loops_count_every_turn_and_branches_both_sides():
    facts = facts_3("qubit q; bit c; for int i in [0:2:9] { rx(i) q; for int j in {3, 5} { x q; } }")
    assert facts.operations == 5 * 3
    assert facts.depth_bound == 15
    facts = facts_3("qubit q; bit c; if (c) { x q; y q; } else { z q; }")
    assert facts.operations == 3


def test_depth_follows_the_longest_chain_and_barriers_align():
    assert facts_3("qubit[3] q; x q[0]; x q[0]; x q[1]; cx q[1], q[2];").depth_bound == 2
    assert facts_3("qubit[3] q; x q[0]; x q[0]; barrier q; x q[1];").depth_bound == 3


@pytest.mark.parametrize(
    ("body", "mid"),
    [
        ("h q; c = measure q;", False),
        ("c[0] = measure q[0]; x q[1]; c[1] = measure q[1];", False),
        ("reset q; h q; c = measure q;", False),
        ("c[0] = measure q[0]; x q[0];", True),
        ("c[0] = measure q[0]; c[0] = measure q[0];", True),
        ("c[0] = measure q[0]; reset q[0];", True),
        ("h q[0]; reset q[0];", True),
        ("if (c[0]) x q[0];", True),
        ("for int i in [0:1] { c[0] = measure q[0]; }", True),
        ("for int i in [0:0] { c[0] = measure q[0]; }", False),
    ],
)
def test_mid_circuit_measurement_and_feed_forward_are_noticed(body, mid):
    assert facts_3("qubit[2] q; bit[2] c;" + body).has_mid_circuit is mid


def test_physical_qubits_count_up_to_the_highest():
    assert inspect('include "stdgates.inc"; bit c; cx $1, $4; c = measure $4;').qubits == 5


def test_positions_survive_comments_and_line_ends():
    text = "OPENQASM 3.0; // q\r\n/* two\nlines */ include 'stdgates.inc';\nqubit q;\n  nope q;"
    with pytest.raises(CircuitError) as caught:
        inspect(text)
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [("SB-1208", "5:3")]


def test_all_problems_are_told_at_once_and_each_repeated_one_once():
    lines = (
        "qubit[2] q; bit c;",
        "x q[2];",
        "foo q[0];",
        "foo q[1];",
        "rx q[0];",
        "cx q[0], q[0];",
        "bit[2] q;",
    )
    with pytest.raises(CircuitError) as caught:
        facts_3("\n".join((*lines, "x r;", "if (c) { y q[7]; x q[1]; }", "x q[0] y q[1];", "x q[9];")))
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        ("SB-1211", "4:3"),
        ("SB-1208", "5:1"),
        ("SB-1209", "7:1"),
        ("SB-1212", "8:4"),
        ("SB-1216", "9:8"),
        ("SB-1210", "10:3"),
        ("SB-1211", "11:12"),
        ("SB-1203", "12:8"),
        ("SB-1211", "13:3"),
    ]


def test_at_most_twenty_problems_are_told():
    with pytest.raises(CircuitError) as caught:
        facts_3("qubit q;" + "".join(f"x r{number};" for number in range(100)))
    assert len(caught.value.problems) == 20


def test_a_problem_names_limit_actual_value_and_what_to_do():
    with pytest.raises(CircuitError) as caught:
        facts_3("qubit[2] q; rx(0.1, 0.2) q[0];")
    (problem,) = caught.value.problems
    assert problem.limit == "1 parameters, 1 qubits"
    assert problem.actual == "rx with 2 parameters, 1 qubits"
    assert problem.hint


def test_an_unknown_gate_gets_the_nearest_name():
    with pytest.raises(CircuitError, match="did you mean cswap"):
        facts_3("qubit[3] q; cswp q[0], q[1], q[2];")


def test_a_plain_gate_call_costs_microseconds():
    calls = 20_000
    text = (
        HEAD_3
        + "qubit[9] q;"
        + "".join(f"rx(0.{n}) q[{n % 9}]; cx q[{n % 9}], q[{(n + 1) % 9}];" for n in range(calls // 2))
    )
    begin = time.process_time()
    assert inspect(text).operations == calls
    assert (time.process_time() - begin) / calls < 20e-6


def gates_3(body, **limits):
    return dict(facts_3(body, **limits).gates)


def test_gates_are_counted_by_the_names_that_sdks_use():
    assert gates_3("qubit[2] q; U(0, 0, 0) q; CX q[0], q[1]; phase(1) q[0]; cphase(1) q[0], q[1];") == {
        "u": 2,
        "cx": 1,
        "p": 1,
        "cp": 1,
    }


def test_modified_gates_have_their_library_name_or_stand_as_they_are_written():
    body = "gate g a { h a; } qubit[4] q; ctrl @ x q[0], q[1]; inv @ t q[0]; inv @ h q[0]; inv @ g q[0];"
    more = "ctrl(2) @ g q[0], q[1], q[2]; pow(3) @ inv @ x q[0]; negctrl @ z q[0], q[1];"
    named = {"cx": 1, "tdg": 1, "h": 1, "inv @ g": 1}
    assert gates_3(body + more) == {**named, "ctrl(2) @ g": 1, "pow @ inv @ x": 1, "negctrl @ z": 1}


def test_a_definition_without_operations_is_one_operation_under_its_own_name():
    assert gates_3("gate nothing a { } gate twice a { nothing a; nothing a; } qubit q; twice q;") == {
        "nothing": 2
    }


def test_measurements_resets_and_delays_are_counted_and_barriers_are_not():
    body = "qubit[3] q; bit[3] c; reset q; barrier q; delay[1ns] q[0]; c = measure q;"
    assert gates_3(body) == {"reset": 3, "measure": 3, "delay": 1}
    assert facts_3(body).measures
    assert facts_3(body).expanded_size == 7 + 3


def test_a_library_gate_that_is_defined_again_is_what_the_text_says():
    facts = facts_2("qreg q[2]; rzz(1) q[0],q[1]; gate rzz(a) x,y { h x; rzz(a) x,y; } rzz(1) q[0],q[1];")
    assert dict(facts.gates) == {"rzz": 2, "h": 1}


def test_edges_are_the_pairs_that_interact_through_definitions_loops_and_branches():
    chain = "gate chain a, b, c { cx b, a; cx c, b; } qubit[7] q; bit c;"
    assert facts_3(chain + "chain q[0], q[2], q[1];").edges == ((0, 2), (1, 2))
    assert facts_3(chain + "for int i in [0:2] { cx q[5], q[4]; } if (c) { cz q[4], q[5]; }").edges == (
        (4, 5),
    )
    assert facts_3(chain + "ccx q[6], q[0], q[3];").edges == ((0, 3), (0, 6), (3, 6))
    assert facts_3(chain + "cx q[0:2], q[3:5];").edges == ((0, 3), (1, 4), (2, 5))


def test_more_edges_and_names_than_are_told_are_cut_and_said_to_be():
    some = facts_3("qubit[90] q;" + "".join(f"cx q[{k}], q[{k + 1}:89];" for k in range(89)))
    assert (len(some.edges), some.edges_cut) == (90 * 89 // 2, False)
    more = facts_3("qubit[100] q;" + "".join(f"cx q[{k}], q[{k + 1}:99];" for k in range(99)))
    assert (len(more.edges), more.edges_cut) == (4096, True)
    names = "".join(f"gate n{number} a {{ }}" for number in range(70)) + "qubit q;"
    calls = facts_3(names + "".join(f"n{number} q;" for number in range(70)) + "x q; x q;")
    assert (len(calls.gates), calls.gates_cut, calls.gates[0]) == (64, True, ("x", 2))


def test_the_cost_of_a_statevector_doubles_with_each_qubit_up_to_forty():
    assert facts_3("qubit[3] q; h q;").statevector_cost == 3 * 2**3
    assert facts_3("qubit[900] q; h q[0];").statevector_cost == 2**40
