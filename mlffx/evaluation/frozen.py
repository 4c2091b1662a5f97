"""Frozen phonons: the energy along each optical eigenvector at GAMMA, against its harmonic parabola."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlffx.data.crystal import Crystal
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.figures import style
from mlffx.evaluation.harmonic import PhononSettings, constants
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms, in_double
from mlffx.units import AMU_A2_FS2_TO_EV, THZ_TO_CM1

AMPLITUDES = np.linspace(-0.12, 0.12, 25)  # A, largest displacement of an atom
NEAR = 0.045  # A; displacements for the curvature
TOLERANCE = 0.005  # relative, of the frequency from the curvature


@dataclass(frozen=True)
class FrozenMode:
    """Energies along one eigenvector.

    Attributes:
        name: `mode 4`.
        amplitude: largest atomic displacement, A, [n].
        energy: meV per primitive cell above the perfect crystal, [n].
        harmonic: what the force constants give, meV, [n].
        frequency: of the mode, cm-1.
        curvature: frequency from the second order of a polynomial through the small displacements, cm-1.
        wide: the same from all displacements; another value means that the curvature is special to the perfect crystal.
        quartic: share of the fourth-order term in the energy at the largest amplitude.
    """

    name: str
    amplitude: np.ndarray
    energy: np.ndarray
    harmonic: np.ndarray
    frequency: float
    curvature: float
    wide: float
    quartic: float


def frozen_modes(potential: Potential, crystal: Crystal, settings: PhononSettings) -> list[FrozenMode]:
    """Energies of the crystal displaced along each optical eigenvector at GAMMA.

    Args:
        potential: any potential; float64 where it can.
        crystal: primitive cell, repeated as in the settings, so that no atom sees its own image.
    """
    masses = masses_of(crystal.numbers, settings.isotopes)
    phonons = Phonons(constants(potential, crystal, settings), masses)
    modes = phonons.modes(np.zeros(3))
    supercell = crystal.supercell(settings.matrix(crystal))
    n_cells = len(supercell) // crystal.n_basis
    site = supercell.arrays["site_type"]
    found = []
    for k in np.argsort(np.abs(modes.frequencies[0]))[3:]:
        pattern = np.real(modes.eigenvectors[0, k]) / np.sqrt(masses)[:, None]
        if np.abs(pattern).max() < 1e-8:
            pattern = np.imag(modes.eigenvectors[0, k]) / np.sqrt(masses)[:, None]
        pattern /= np.linalg.norm(pattern, axis=1).max()
        cells = []
        for amplitude in AMPLITUDES:
            cell = supercell.copy()
            cell.positions = supercell.positions + amplitude * pattern[site]
            cells.append(cell)
        energies = evaluate_atoms(in_double(potential), cells, forces=False).energies / n_cells
        found.append(_analyse(f"mode {k + 1}", energies, pattern, masses, float(modes.frequencies[0, k])))
    return found


def _analyse(name: str, energies: np.ndarray, pattern: np.ndarray, masses: np.ndarray, frequency: float) -> FrozenMode:
    """Polynomials of even and odd orders to the sixth, over small displacements and over all; E = 1/2 M w^2 A^2 + ...

    M = sum_i m_i |pattern_i|^2.
    """
    mass = float((masses[:, None] * pattern**2).sum()) * AMU_A2_FS2_TO_EV  # eV fs^2 / A^2
    to_cm1 = 1e3 * THZ_TO_CM1 / (2 * np.pi)  # 1/fs -> cm-1
    above = energies - energies[len(energies) // 2]
    near = np.abs(AMPLITUDES) < NEAR

    def polynomial(points: np.ndarray) -> np.ndarray:
        reduced = AMPLITUDES[points] / AMPLITUDES.max()
        return np.polynomial.polynomial.polyfit(reduced, above[points], 6)

    def curvature(coefficients: np.ndarray) -> float:
        second = 2 * coefficients[2] / AMPLITUDES.max() ** 2
        return float(np.sign(second) * np.sqrt(abs(second) / mass) * to_cm1)

    wide = polynomial(np.ones_like(near))
    omega = frequency / to_cm1
    return FrozenMode(
        name=name,
        amplitude=AMPLITUDES,
        energy=1e3 * above,
        harmonic=1e3 * 0.5 * np.sign(omega) * mass * omega**2 * AMPLITUDES**2,
        frequency=frequency,
        curvature=curvature(polynomial(near)),
        wide=curvature(wide),
        quartic=float(wide[4] / wide[2]),
    )


def frozen_phonons(potential: Potential, crystal: Crystal, settings: PhononSettings, directory: Path) -> Verdict:
    """Verdict and figure: the curvature of the energies is the phonon, and the energy stays single-welled."""
    modes = frozen_modes(potential, crystal, settings)
    style.save(figure(modes), directory / "frozen_phonons")
    off = [abs(m.curvature - m.frequency) / abs(m.frequency) for m in modes]
    worst = int(np.argmax(off))
    numbers = {
        m.name: {
            "cm1": m.frequency,
            "from_energies_cm1": m.curvature,
            "from_wide_range_cm1": m.wide,
            "quartic_share": m.quartic,
        }
        for m in modes
    }
    mode = modes[worst]
    statement = (
        f"{mode.curvature:.1f} against {mode.frequency:.1f} cm⁻¹ ({mode.name}); a polynomial over "
        f"±{AMPLITUDES.max():g} Å gives {mode.wide:.1f} and a fourth order of {100 * mode.quartic:+.0f} % there"
    )
    title = "Frozen-phonon energies have the curvature of the phonons"
    wells = all(m.energy.min() > -1e-3 for m in modes)
    if not wells:
        return Verdict("frozen", title, "fail", statement + "; the energy falls below that of the crystal", numbers)
    return Verdict("frozen", title, "pass" if off[worst] < TOLERANCE else "fail", statement, numbers)


def figure(modes: list[FrozenMode]) -> Figure:
    """Energies and parabolas of each mode; degenerate ones fall on each other."""
    with style.styled():
        drawn = style.new_figure(4.6, 3.3)
        axes = drawn.subplots()
        for i, mode in enumerate(modes):
            color = style.CYCLE[i % len(style.CYCLE)]
            axes.plot(
                mode.amplitude, mode.energy, "osD^v<"[i % 6], color=color, markersize=3.6 + 1.6 * (len(modes) - i)
            )
            axes.lines[-1].set_markerfacecolor("none")
            axes.lines[-1].set_label(f"{mode.name}, {mode.frequency:.0f} cm$^{{-1}}$")
        axes.plot(modes[0].amplitude, modes[0].harmonic, color=style.BLACK, linewidth=1.0, label="harmonic")
        axes.set_xlabel("largest displacement (Å)")
        axes.set_ylabel("energy (meV per primitive cell)")
        style.quiet_grid(axes)
        axes.legend()
    return drawn
