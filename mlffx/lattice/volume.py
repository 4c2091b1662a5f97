"""Phonons at several volumes: Grueneisen parameters, frequencies at another lattice constant, quasi-harmonic expansion.

Labels and experiments are rarely at one lattice constant (LiH: 4.017 against 4.08 A), and the shift between the two is
as large as the one between levels of theory. It is computed here, and it is an extrapolation wherever the potential was
trained on one volume: every result says so.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import phonopy_api
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.force_constants import autodiff, finite_displacement
from mlffx.lattice.nac import Nac
from mlffx.lattice.phonons import Phonons, lattice_constant
from mlffx.models.force_constants import ForceConstantModel
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms, in_double
from mlffx.units import EV_A3_TO_GPA

EXTRAPOLATION = "extrapolated: the potential was trained at one volume, and the volume dependence rests on its form"


@dataclass(frozen=True, eq=False)
class QuasiHarmonic:
    """Thermal expansion from free energies at several volumes (Vinet equation of state), at zero pressure.

    Attributes:
        temperature: [n], K.
        lattice_constant: [n], A; at 0 K with zero-point expansion.
        expansion: volumetric thermal expansion coefficient, [n], 1/K.
        bulk_modulus: [n], GPa.
        note: what the reader has to know.
    """

    temperature: np.ndarray
    lattice_constant: np.ndarray
    expansion: np.ndarray
    bulk_modulus: np.ndarray
    note: str


@dataclass(frozen=True, eq=False)
class Volumes:
    """One potential at several lattice constants.

    Attributes:
        lattice_constants: ascending, [n], A.
        energies: static energies, [n], eV per primitive cell.
        phonons: at each of them.
        reference: lattice constant the potential was made for, A.
    """

    lattice_constants: np.ndarray
    energies: np.ndarray
    phonons: list[Phonons]
    reference: float

    def grueneisen(self) -> dict[str, dict[str, float]]:
        """-d ln(omega) / d ln(V) of the named modes: label -> branch -> number (a line through all volumes)."""
        slopes: dict[str, dict[str, float]] = {}
        for label, branch, frequencies in self._named():
            if (frequencies > 0).all():
                slope = np.polyfit(3 * np.log(self.lattice_constants), np.log(frequencies), 1)[0]
                slopes.setdefault(label, {})[branch] = float(-slope)
        return slopes

    def shift(self, a: float) -> dict[str, dict[str, float]]:
        """Frequency at lattice constant `a`, A, minus that at `reference`: label -> branch -> cm-1.

        Interpolated in the logarithms by the parabola through the volumes (a line for two).
        """
        order = min(2, len(self.lattice_constants) - 1)
        shifts: dict[str, dict[str, float]] = {}
        for label, branch, frequencies in self._named():
            if (frequencies > 0).all():
                fit = np.polynomial.Polynomial.fit(np.log(self.lattice_constants), np.log(frequencies), order)
                change = np.exp(fit(np.log(a))) - np.exp(fit(np.log(self.reference)))
                shifts.setdefault(label, {})[branch] = float(change)
        return shifts

    def quasi_harmonic(self, temperatures: Sequence[float], mesh: int = 21) -> QuasiHarmonic:
        """Expansion at `temperatures` [n], K, ascending from 0.

        Raises:
            UserError: for fewer than five volumes, or imaginary modes, whose free energy does not exist.
        """
        if len(self.phonons) < 5:
            raise UserError(f"{len(self.phonons)} volumes", "give at least five", "phonons.volumes")
        for a, phonons in zip(self.lattice_constants, self.phonons, strict=True):
            if phonons.imaginary(mesh):
                raise UserError(
                    f"imaginary modes at a = {a:.4f} A", "take volumes nearer to the stable ones", "phonons.volumes"
                )
        found = phonopy_api.quasi_harmonic([p.ph for p in self.phonons], self.energies, temperatures, [mesh] * 3)
        unit = abs(np.linalg.det(self.phonons[0].crystal.cell)) / self.lattice_constants[0] ** 3
        return QuasiHarmonic(
            found["temperature"],
            (found["volume"] / unit) ** (1 / 3),
            found["expansion"],
            found["bulk_modulus"] * EV_A3_TO_GPA,
            EXTRAPOLATION,
        )

    def _named(self) -> list[tuple[str, str, np.ndarray]]:
        """Label, branch and frequencies [n] of the modes that carry one name at every volume."""
        tables = [labelled_frequencies(p) for p in self.phonons]
        return [
            (label, branch, np.array([t[label][branch] for t in tables]))
            for label, named in tables[0].items()
            for branch in named
            if all(branch in t[label] for t in tables)
        ]


def at_volumes(
    potential: Potential,
    crystal: Crystal,
    matrix: Sequence | np.ndarray | int,
    scales: Sequence[float] = (0.99, 0.995, 1.0, 1.005, 1.01),
    masses: Sequence[float] | np.ndarray | None = None,
    nac: Nac | None = None,
    method: str = "finite_displacement",
) -> Volumes:
    """Phonons of a cubic crystal with its lattice constant scaled; internal coordinates fixed by symmetry.

    Args:
        potential: any potential that knows other volumes.
        crystal: primitive cell at the lattice constant the potential was made for.
        matrix: supercell, see `force_constants.supercell_matrix`.
        scales: of the lattice constant, ascending.
        masses: [n_basis], amu; natural when None.
        nac: Born charges and dielectric tensor, taken not to change.
        method: `finite_displacement` or `autodiff`.

    Raises:
        UserError: for a potential that expands about fixed sites (force constants); `at_scale` gives its phonons alone.
    """
    if potential.crystal is not None:
        raise UserError(
            "force constants expand the energy about fixed sites and know no other volume",
            "take a network for volume dependence",
            "phonons.volumes",
        )
    scales = sorted(float(s) for s in scales)
    if len(scales) < 2 or scales[0] <= 0.8 or scales[-1] >= 1.2:
        raise UserError(f"scales {scales}", "give at least two between 0.8 and 1.2", "phonons.volumes")
    solve = autodiff if method == "autodiff" else finite_displacement
    cells = [crystal.scaled(s) for s in scales]
    phonons = [Phonons(solve(potential, cell, matrix), masses, nac) for cell in cells]
    ideal = [p.force_constants.supercell() for p in phonons]
    energies = evaluate_atoms(in_double(potential), ideal, forces=False).energies
    per_cell = energies * crystal.n_basis / np.array([len(atoms) for atoms in ideal])
    a = lattice_constant(phonons[0].force_constants) / scales[0]
    return Volumes(a * np.array(scales), per_cell, phonons, a)


def at_scale(potential: Potential, scale: float) -> Potential:
    """A copy for force constants of the crystal with its lattice constant times `scale`.

    Networks and charges see the other distances by themselves. Expansions about ideal sites start from stretched bonds
    (`ForceConstantModel.scale_lattice`): third order gives their Grueneisen shift, and their energies mean nothing.

    Raises:
        UserError: for an expansion of second order alone, which has no volume dependence.
    """
    potential = copy.deepcopy(potential)
    for module in potential.modules():
        if isinstance(module, ForceConstantModel):
            module.scale_lattice(scale)
        elif isinstance(module, Potential) and module.crystal is not None:
            module.crystal = module.crystal.scaled(scale)
    return potential


def frequency_shifts(start: Phonons, end: Phonons) -> dict[str, dict[str, float]]:
    """Frequencies of `end` minus `start`, label -> branch -> cm-1, of modes with a name in both and real in both."""
    before, after = labelled_frequencies(start), labelled_frequencies(end)
    return {
        label: {b: after[label][b] - f for b, f in named.items() if f > 0 and after[label].get(b, 0.0) > 0}
        for label, named in before.items()
    }
