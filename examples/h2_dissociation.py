"""The dissociation curve of H2 from quantum circuits: a job a bond length, beside exact diagonalisation.

For each bond length the electronic Hamiltonian (STO-3G basis, Jordan-Wigner, 4 qubits) is computed from
the atoms' coordinates. The ansatz has one angle: the double excitation of unitary coupled cluster,

    |psi(theta)> = cos(theta/2) |1100> + sin(theta/2) |0011>    (spin orbitals 0, 1, 2, 3)

It is a rotation whose generator has the eigenvalues +1/2 and -1/2, so the energy is a + b cos(theta) +
c sin(theta). Every job measures it at the same angles, and the sweep's reduction returns the minimum of
the fitted sinusoid. In this basis the ansatz contains the exact ground state: what differs from the
diagonalisation is an error of the pipeline or shot noise, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from shotbus.producers.parameters import choices, integer, number, read_parameters
from shotbus.producers.plan import JobPlan, Output, Plan, Reduction, SweepPlan
from shotbus.schemas.errors import fail
from shotbus.schemas.pub import Bindings, PauliSums, ProblemStatement

PARAMETERS = {
    "length_start": number(0.3, 0.2, 10.0, "Å"),
    "length_stop": number(3.0, 0.2, 10.0, "Å"),
    "length_count": integer(40, 8, 2000),
    "focus": number(0.74, 0.2, 10.0, "Å"),
    "thetas": integer(32, 3, 4096),
    "shots": integer(1024, 1, 1_000_000),
    "modes": choices(("exact", "shots"), "exact", "shots"),
    "seed": integer(7, 0, 2**31 - 1),
}

CHEMICAL_ACCURACY_MHA = 1.6
EV_PER_HARTREE = 27.211386
FOCUS_WIDTH = 0.12

# Occupied orbitals first (Hartree-Fock), then exp(-i theta/2 X0 X1 X2 Y3): bases, parity, rotation, back.
ANSATZ = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] theta;
qubit[4] q;
x q[0];
x q[1];
h q[0];
h q[1];
h q[2];
sdg q[3];
h q[3];
cx q[0], q[1];
cx q[1], q[2];
cx q[2], q[3];
rz(theta) q[3];
cx q[2], q[3];
cx q[1], q[2];
cx q[0], q[1];
h q[3];
s q[3];
h q[2];
h q[1];
h q[0];
"""

#: What the circuit is called among its like.
FAMILY, FAMILY_VERSION = "ucc-doubles", "1"

Terms = list[tuple[str, float]]


def plan(parameters: Mapping[str, Any]) -> Plan:
    """Return a sweep for each mode and one for the diagonalisation.

    Args:
        parameters: the run file's ``[parameters]``; see :data:`PARAMETERS`.

    Raises:
        ShotbusError: SB-2001, SB-2002 with everything that is wrong with the parameters.

    """
    values = read_parameters(parameters, PARAMETERS)
    lengths = bond_lengths(values)
    hamiltonians = [hamiltonian(length) for length in lengths.tolist()]
    sweeps = [energy_sweep(mode, hamiltonians, values) for mode in values["modes"]]
    sweeps.append(diagonalisation_sweep(lengths, hamiltonians))

    def report(reductions: Mapping[str, Reduction], output: Output) -> None:
        write_report(Curve.of(lengths, reductions), reductions, output)

    return Plan(tuple(sweeps), report)


# -- the problem ----------------------------------------------------------------------------------


def bond_lengths(values: Mapping[str, Any]) -> np.ndarray:
    """Return ascending lengths in Å: a quarter around the focus, the others evenly over the range."""
    start, stop, count = values["length_start"], values["length_stop"], values["length_count"]
    if start >= stop:
        raise fail("SB-2002", "$.parameters.length_stop", limit=f"more than {start:g}", actual=stop)
    near = count // 4 if start <= values["focus"] <= stop else 0
    close = values["focus"] + np.linspace(-FOCUS_WIDTH, FOCUS_WIDTH, near)
    wide = np.linspace(start, stop, count - near)
    lengths = np.unique(np.round(np.concatenate([wide, np.clip(close, start, stop)]), 6))
    while lengths.size < count:  # points that coincided are made up for in the widest gap
        gap = int(np.argmax(np.diff(lengths)))
        lengths = np.insert(lengths, gap + 1, lengths[gap : gap + 2].mean())
    return lengths


def hamiltonian(length: float) -> Terms:
    """Return the Hamiltonian of H2 at a bond length in Å: labels (qubit 0 rightmost) and weights in Ha."""
    import pennylane as qml  # takes seconds to import, and only planning needs it

    atoms = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length]])
    molecule = qml.qchem.Molecule(["H", "H"], atoms, unit="angstrom", basis_name="sto-3g")
    operator, qubits = qml.qchem.molecular_hamiltonian(molecule, mapping="jordan_wigner")
    terms: Terms = []
    for word, weight in operator.pauli_rep.items():
        letters = [word[wire] for wire in range(qubits)]  # absent wires read as "I"
        terms.append(("".join(reversed(letters)), float(np.real(weight))))
    return sorted(terms)


def commuting_groups(terms: Terms) -> list[Terms]:
    """Split terms into groups that one setting of the measured bases serves (qubit-wise commuting).

    Greedy: each term joins the first group none of whose letters it contradicts.
    """
    groups: list[Terms] = []
    for label, weight in terms:
        fitting = (group for group in groups if all(_agree(label, other) for other, _ in group))
        group = next(fitting, None)
        if group is None:
            groups.append(group := [])
        group.append((label, weight))
    return groups


def _agree(first: str, second: str) -> bool:
    return all(a == b or "I" in (a, b) for a, b in zip(first, second, strict=True))


# -- the jobs -------------------------------------------------------------------------------------


def energy_sweep(mode: str, hamiltonians: Sequence[Terms], values: Mapping[str, Any]) -> SweepPlan:
    """Return the sweep of a mode: for each length the energies at all angles, and their minimum.

    Every job carries the Hamiltonian as its problem, so that a classical solver could answer it as well.
    """
    thetas = np.linspace(-np.pi, np.pi, values["thetas"] + 1)[1:]
    jobs = tuple(
        JobPlan(
            circuit=ANSATZ,
            bindings=Bindings(("theta",), thetas[:, None]),
            observables=PauliSums.from_terms(commuting_groups(terms)),
            shots=values["shots"] if mode == "shots" else 0,
            seed=values["seed"] + index,
            group=index,
            axis=thetas,
            problem=ProblemStatement.hamiltonian(PauliSums.from_terms([terms])),
            family=FAMILY,
            family_version=FAMILY_VERSION,
        )
        for index, terms in enumerate(hamiltonians)
    )
    return SweepPlan(mode, jobs, "minimum", {"model": "sinusoid"})


def diagonalisation_sweep(lengths: np.ndarray, hamiltonians: Sequence[Terms]) -> SweepPlan:
    """Return the sweep that sends the same problems to the classical pool, which solves them exactly."""
    jobs = []
    for index, terms in enumerate(hamiltonians):
        whole = PauliSums.from_terms([terms])
        jobs.append(
            JobPlan(
                circuit=ANSATZ,
                bindings=None,
                observables=whole,
                shots=0,
                seed=0,
                group=index,
                axis=lengths[index : index + 1],
                backend="classical",
                problem=ProblemStatement.hamiltonian(whole),
                family=FAMILY,
                family_version=FAMILY_VERSION,
            )
        )
    return SweepPlan("diagonalisation", tuple(jobs), "expectation")


# -- the report -----------------------------------------------------------------------------------


class Curve(NamedTuple):
    """Energies in Ha, one entry a length (Å); NaN where a job failed, None for a mode that was not run."""

    lengths: np.ndarray
    reference: np.ndarray
    exact: np.ndarray | None
    sampled: np.ndarray | None
    stderr: np.ndarray | None

    @classmethod
    def of(cls, lengths: np.ndarray, reductions: Mapping[str, Reduction]) -> Curve:
        def minimum(mode: str, name: str) -> np.ndarray | None:
            return reductions[mode].arrays[name] if mode in reductions else None

        reference = reductions["diagonalisation"].arrays["values"]
        exact = minimum("exact", "minimum")
        return cls(lengths, reference, exact, minimum("shots", "minimum"), minimum("shots", "stderr"))

    @property
    def best(self) -> np.ndarray:
        """The curve to read geometry from: without shot noise if there is one."""
        return self.exact if self.exact is not None else self.sampled


class Equilibrium(NamedTuple):
    """Bottom of the curve: Å and Ha."""

    length: float
    energy: float


def equilibrium(curve: Curve) -> Equilibrium | None:
    """Return the bottom of a polynomial through the points nearest to the lowest, None if none is inside.

    Noiseless energies are interpolated (quartic, 5 points); sampled ones are smoothed (cubic, 11 points).
    """
    points, degree = (11, 3) if curve.exact is None else (5, 4)
    usable = np.isfinite(curve.best)
    lengths, energies = curve.lengths[usable], curve.best[usable]
    if lengths.size <= points:
        return None
    nearest = np.sort(np.argsort(np.abs(lengths - lengths[np.argmin(energies)]))[:points])
    x, y = lengths[nearest], energies[nearest]
    fit = np.polynomial.Polynomial.fit(x, y, degree)
    inside = [r.real for r in fit.deriv().roots() if abs(r.imag) < 1e-9 and x[0] < r.real < x[-1]]
    if not inside:
        return None
    length = min(inside, key=fit)
    return Equilibrium(float(length), float(fit(length)))


def write_report(curve: Curve, reductions: Mapping[str, Reduction], output: Output) -> None:
    """Print the curve and what follows from it; write the picture."""
    output.console.print(curve_table(curve))
    for line in findings(curve, reductions):
        output.console.print(line)
    if output.png is not None:
        draw(curve, output.png)
        output.console.print(f"Picture: {output.png}")


def curve_table(curve: Curve) -> Table:
    """Return the curve as a table; only the columns of modes that were run."""
    title = "H2, STO-3G: ground state by bond length (energies in Ha, Δ from diagonalisation and ± in mHa)"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    columns = [("length / Å", curve.lengths, "{:.4f}"), ("diagonalised", curve.reference, "{:.6f}")]
    if curve.exact is not None:
        columns.append(("exact mode", curve.exact, "{:.6f}"))
        columns.append(("Δ", 1e3 * (curve.exact - curve.reference), "{:+.4f}"))
    if curve.sampled is not None:
        columns.append(("shots", curve.sampled, "{:.6f}"))
        columns.append(("±", 1e3 * curve.stderr, "{:.2f}"))
        columns.append(("Δ", 1e3 * (curve.sampled - curve.reference), "{:+.2f}"))
    for title, _, _ in columns:
        table.add_column(title, justify="right")
    for row in range(curve.lengths.size):
        table.add_row(*(_cell(form, values[row]) for _, values, form in columns))
    return table


def _cell(form: str, value: float) -> str:
    return form.format(value) if np.isfinite(value) else "failed"


def findings(curve: Curve, reductions: Mapping[str, Reduction]) -> list[str]:
    """Return in words: equilibrium, dissociation, deviations and what was taken to get there."""
    lines = _geometry(curve)
    if curve.exact is not None:
        lines.append(_exact_verdict(1e3 * np.abs(curve.exact - curve.reference)))
    if curve.sampled is not None:
        lines.append(_sampled_verdict(np.abs(curve.sampled - curve.reference), curve.stderr))
    return [*lines, _taken(reductions)]


def _taken(reductions: Mapping[str, Reduction]) -> str:
    def total(name: str) -> int:
        return sum(getattr(reduction, name) for reduction in reductions.values())

    return (
        f"Taken: {total('points'):,} points and {total('shots'):,} shots in {total('done')} jobs, "
        f"{total('from_cache')} from the cache, {total('failed')} failed."
    )


def _geometry(curve: Curve) -> list[str]:
    bottom = equilibrium(curve)
    if bottom is None:
        return ["Equilibrium: no minimum inside the range of lengths."]
    lines = [f"Equilibrium: {bottom.length:.4f} Å, {bottom.energy:.6f} Ha."]
    if np.isfinite(curve.best[-1]):
        depth = curve.best[-1] - bottom.energy
        lines.append(
            f"Dissociation energy (to {curve.lengths[-1]:g} Å): "
            f"{depth:.4f} Ha = {depth * EV_PER_HARTREE:.2f} eV, without zero-point energy."
        )
    return lines


def _exact_verdict(deviations: np.ndarray) -> str:
    if not np.isfinite(deviations).any():
        return "Exact mode: no point with both energies."
    worst = float(np.nanmax(deviations))
    verdict = "within" if worst < CHEMICAL_ACCURACY_MHA else "OUTSIDE"
    return (
        f"Exact mode: largest deviation from diagonalisation {worst:.2g} mHa, "
        f"{verdict} chemical accuracy ({CHEMICAL_ACCURACY_MHA} mHa)."
    )


def _sampled_verdict(deviations: np.ndarray, stderr: np.ndarray) -> str:
    usable = np.isfinite(deviations) & (stderr > 0)
    if not usable.any():
        return "Shots: no point with both energies and a standard error."
    sigmas = deviations[usable] / stderr[usable]
    return (
        f"Shots: largest deviation {1e3 * deviations[usable].max():.2f} mHa, at most {sigmas.max():.1f} "
        f"sigma at any of {usable.sum()} points; {1e3 * np.median(stderr[usable]):.2f} mHa median "
        "standard error."
    )


def draw(curve: Curve, path: Any) -> None:
    """Write the curve, and below it what each mode deviates from diagonalisation, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
    _draw_energies(top, curve)
    _draw_deviations(below, curve)
    figure.savefig(path, format="png")


def _draw_energies(axes: Any, curve: Curve) -> None:
    axes.plot(curve.lengths, curve.reference, color="0.35", lw=1.4, label="exact diagonalisation", zorder=1)
    if curve.exact is not None:
        style = {"ls": "", "marker": "o", "ms": 6, "mfc": "none", "color": "tab:blue"}
        axes.plot(curve.lengths, curve.exact, label="circuits, exact expectation values", **style)
    if curve.sampled is not None:
        axes.errorbar(
            curve.lengths, curve.sampled, curve.stderr, label="circuits, shots ± standard error", **_SAMPLED
        )
    bottom = equilibrium(curve)
    if bottom is not None:
        words = f"{bottom.length:.3f} Å, {bottom.energy:.4f} Ha".replace("-", "\N{MINUS SIGN}")
        arrow = {"arrowstyle": "->", "color": "0.3"}
        axes.annotate(words, bottom, (75, -3), textcoords="offset points", va="center", arrowprops=arrow)
    axes.set_title("Dissociation of H$_2$ (STO-3G, 4 qubits, one-parameter UCC doubles)", loc="left")
    axes.set_ylabel("ground state energy / Ha")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


_SAMPLED = {"ls": "", "marker": ".", "ms": 5, "color": "tab:orange", "elinewidth": 1.2, "capsize": 2}


def _draw_deviations(axes: Any, curve: Curve) -> None:
    band = {"color": "tab:green", "alpha": 0.15, "label": f"chemical accuracy ±{CHEMICAL_ACCURACY_MHA} mHa"}
    axes.axhspan(-CHEMICAL_ACCURACY_MHA, CHEMICAL_ACCURACY_MHA, **band)
    axes.axhline(0, color="0.35", lw=1)
    if curve.exact is not None:
        deviation = 1e3 * (curve.exact - curve.reference)
        axes.plot(curve.lengths, deviation, ls="", marker="o", ms=6, mfc="none", color="tab:blue")
    if curve.sampled is not None:
        axes.errorbar(curve.lengths, 1e3 * (curve.sampled - curve.reference), 1e3 * curve.stderr, **_SAMPLED)
    axes.set_xlabel("bond length / Å")
    axes.set_ylabel("minus diagonalisation / mHa")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper right")
