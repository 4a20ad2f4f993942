"""Circuits that several backends must agree on: a public set, random ones over both gate libraries, and a test."""

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from scipy import stats

from shotbus.schemas.openqasm_gates import QELIB1, QELIB1_EXTRA, STDGATES

GATES_2 = {**QELIB1, **QELIB1_EXTRA}
HEAD_3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def ghz(qubits=5):
    chain = "".join(f"cx q[{k}],q[{k + 1}];\n" for k in range(qubits - 1))
    return HEAD_2 + f"qreg q[{qubits}];\ncreg c[{qubits}];\nh q[0];\n{chain}measure q -> c;\n"


def qft(qubits=4, number=5):
    """The transform of a number, so that no outcome is likelier than another; the phases are what counts."""
    lines = [f"qubit[{qubits}] q;", f"bit[{qubits}] c;"]
    lines += [f"x q[{k}];" for k in range(qubits) if number >> k & 1]
    for k in reversed(range(qubits)):
        lines += [f"h q[{k}];", *(f"cp(pi/{1 << (k - j)}) q[{j}], q[{k}];" for j in reversed(range(k)))]
    lines += [f"swap q[{k}], q[{qubits - 1 - k}];" for k in range(qubits // 2)]
    return HEAD_3 + "\n".join([*lines, "h q[0];", "c = measure q;", ""])


def w_state(qubits=4):
    lines = [f"qreg q[{qubits}];", f"creg c[{qubits}];", "x q[0];"]
    for k in range(qubits - 1):
        angle = 2 * np.arccos(np.sqrt(1 / (qubits - k)))
        lines += [f"cry({angle!r}) q[{k}],q[{k + 1}];".replace("np.float64(", "").replace("))", ")")]
        lines += [f"cx q[{k + 1}],q[{k}];"]
    return HEAD_2 + "\n".join([*lines, "measure q -> c;", ""])


def bernstein_vazirani(secret=0b1011, width=5):
    asked = [f"cx q[{k}], a[0];" for k in range(width) if secret >> k & 1]
    lines = [f"qubit[{width}] q;", "qubit[1] a;", f"bit[{width}] c;", "x a[0];", "h a[0];", "h q;"]
    return HEAD_3 + "\n".join([*lines, "barrier q;", *asked, "h q;", "c = measure q;", ""])


def toffoli_adder():
    lines = [
        "qreg a[2];",
        "qreg b[2];",
        "qreg carry[1];",
        "creg c[5];",
        "h a[0];",
        "x a[1];",
        "h b[0];",
        "x b[1];",
    ]
    lines += [
        "ccx a[0],b[0],carry[0];",
        "cx a[0],b[0];",
        "ccx a[1],b[1],carry[0];",
        "cswap carry[0],a[0],b[1];",
    ]
    bits = "".join(
        f"measure {q} -> c[{k}];\n" for k, q in enumerate(("carry[0]", "b[1]", "a[1]", "b[0]", "a[0]"))
    )
    return HEAD_2 + "\n".join(lines) + "\n" + bits


def vqe_ansatz(qubits=4, layers=2):
    names = [f"v{k:02d}" for k in range(2 * qubits * layers)]
    todo = iter(names)
    lines = [f"input float[64] {name};" for name in names] + [f"qubit[{qubits}] q;", f"bit[{qubits}] c;"]
    for _ in range(layers):
        lines += [f"ry({next(todo)}) q[{k}]; rz({next(todo)}) q[{k}];" for k in range(qubits)]
        lines += [f"cz q[{k}], q[{(k + 1) % qubits}];" for k in range(qubits)]
    return HEAD_3 + "\n".join([*lines, "c = measure q;", ""])


def qaoa(qubits=5):
    edges = [(k, (k + 1) % qubits) for k in range(qubits)] + [(0, 2)]
    lines = [
        "input float[64] beta;",
        "input float[64] gamma;",
        f"qubit[{qubits}] q;",
        f"bit[{qubits}] c;",
        "h q;",
    ]
    lines += [f"cx q[{a}], q[{b}]; rz(2*gamma) q[{b}]; cx q[{a}], q[{b}];" for a, b in edges]
    lines += [f"rx(2*beta) q[{k}];" for k in range(qubits)]
    return HEAD_3 + "\n".join([*lines, "c = measure q;", ""])


PUBLIC = {
    "GHZ": ghz(), "QFT": qft(), "W": w_state(), "Bernstein-Vazirani": bernstein_vazirani(),
    "adder": toffoli_adder(), "VQE": vqe_ansatz(), "QAOA": qaoa(),
}  # fmt: skip


def random_3(seed, qubits=5, gates=40):
    """A program over the whole of stdgates.inc, with parameters alone, in sums and in products."""
    rng = np.random.default_rng(seed)
    angles = ["a", "-b/2", "0.7", "a+2*b", "a*b", "a*c/2", "pi/3", "c", "3*c-1"]
    lines = [f"input float[64] {name};" for name in "abc"] + [f"qubit[{qubits}] q;", f"bit[{qubits}] m;"]
    lines += [_line(rng, STDGATES, qubits, angles) for _ in range(gates)]
    order = rng.permutation(qubits).tolist()
    return HEAD_3 + "\n".join(
        [*lines, *(f"m[{bit}] = measure q[{qubit}];" for bit, qubit in enumerate(order)), ""]
    )


def random_2(seed, qubits=5, gates=40):
    """A program over the whole of qelib1.inc as Qiskit ships it."""
    rng = np.random.default_rng(seed)
    lines = [f"qreg q[{qubits}];", f"creg m[{qubits}];"]
    lines += [_line(rng, GATES_2, qubits, ["0.3", "-pi/5", "2.1", "pi/2"]) for _ in range(gates)]
    return HEAD_2 + "\n".join([*lines, "measure q -> m;", ""])


def _line(rng, table, qubits, angles):
    name = str(rng.choice(sorted(table)))
    gate = table[name]
    # The parser takes the one of u0 for a number of pulses.
    given = "1" if name == "u0" else ", ".join(rng.choice(angles, gate.parameters).tolist())
    places = ", ".join(f"q[{k}]" for k in rng.choice(qubits, gate.qubits, replace=False))
    return f"{name}{f'({given})' if given else ''} {places};"


def exact_distribution(circuit: QuantumCircuit, values):
    """Probabilities by outcome number of a Qiskit circuit whose measurements are final."""
    bound = circuit.assign_parameters({p: values[p.name] for p in circuit.parameters})
    qubits = {bound.find_bit(i.clbits[0]).index: bound.find_bit(i.qubits[0]).index
              for i in bound.data if i.operation.name == "measure"}  # fmt: skip
    state = Statevector(bound.remove_final_measurements(inplace=False)).probabilities()
    found = {}
    for number, probability in enumerate(state.tolist()):
        outcome = sum((number >> qubit & 1) << bit for bit, qubit in qubits.items())
        found[outcome] = found.get(outcome, 0.0) + probability
    return found


def fit(counts, probabilities):
    """The p-value of a G-test of counts (by outcome number) against a distribution; 0 for what cannot be.

    Outcomes of which fewer than five are expected are taken together: the statistic's distribution holds then.
    """
    shots = sum(counts.values())
    if any(probabilities.get(outcome, 0.0) < 1e-12 for outcome in counts):
        return 0.0
    rare = [key for key, p in probabilities.items() if p * shots < 5]
    rows = [(counts.get(key, 0), p * shots) for key, p in probabilities.items() if key not in set(rare)]
    rest = (sum(counts.get(key, 0) for key in rare), shots * sum(probabilities[key] for key in rare))
    rows += [rest] if rest[1] >= 5 else []
    if len(rows) < 2:
        return 1.0
    seen, wanted = np.array(rows).T
    wanted = wanted * seen.sum() / wanted.sum()
    return float(stats.power_divergence(seen, wanted, lambda_="log-likelihood").pvalue)
