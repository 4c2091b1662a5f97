"""Quantum and thermal renormalisation of phonons by the stochastic self-consistent harmonic approximation of phonopy.

The trial crystal is the harmonic one whose free energy with the true potential is lowest (I. Errea, M. Calandra, F.
Mauri, Phys. Rev. B 89, 064302 (2014)); its force constants include zero-point and thermal motion at fixed cell, not the
bubble (dynamic) correction. phonopy's driver only asks its model for `evaluate(cells)`, so the batched potential
serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from phonopy.sscha.core import MLPSSCHA
from phonopy.structure.atoms import PhonopyAtoms

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import phonopy_api
from mlffx.lattice.force_constants import ForceConstants, finite_displacement
from mlffx.lattice.isotopes import masses_of
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms


class PhonopyModel:
    """A potential in the shape of phonopy's machine-learned potentials: `evaluate(cells)` in batches."""

    def __init__(self, potential: Potential, chunk: int | None = None) -> None:
        self.potential, self.chunk = potential, chunk
        self.n_evaluated = 0

    def evaluate(self, cells: Sequence[PhonopyAtoms]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies [n], eV, forces [n, n_atoms, 3], eV/A, and stresses, which the driver does not use, [n, 6] zeros."""
        atoms = [Atoms(numbers=c.numbers, cell=c.cell, scaled_positions=c.scaled_positions, pbc=True) for c in cells]
        options: dict[str, Any] = {} if self.chunk is None else {"chunk": self.chunk}
        energies, forces, _ = evaluate_atoms(self.potential, atoms, forces=True, **options)
        self.n_evaluated += len(atoms)
        return energies, np.array(forces), np.zeros((len(atoms), 6))


@dataclass(frozen=True, eq=False)
class Sscha:
    """A self-consistent harmonic crystal.

    Attributes:
        temperature: K.
        force_constants: mean over the kept iterations; use with `Phonons` as any others.
        iterations: force constants after each kept iteration; their scatter is the sampling error.
        free_energy, free_energy_error: of the last kept iterations, eV per primitive cell, measured from the ideal
            crystal.
        history: free energy of every iteration and its error, [n_iterations, 2], eV per primitive cell.
    """

    temperature: float
    force_constants: ForceConstants
    iterations: list[ForceConstants]
    free_energy: float
    free_energy_error: float
    history: np.ndarray

    def estimate(self, measure: Callable[[ForceConstants], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Any quantity of the mean force constants, and its standard error from the scatter of the iterations.

        Iterations sample independently, but each starts from the last, so the error is a lower bound far from
        convergence.
        """
        values = np.array([measure(fc) for fc in self.iterations])
        error = (
            values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full_like(values[0], np.nan)
        )
        return np.asarray(measure(self.force_constants)), error


def run_sscha(
    potential: Potential,
    crystal: Crystal,
    matrix: Sequence | np.ndarray | int,
    temperature: float,
    n_snapshots: int = 100,
    n_iterations: int = 8,
    keep: int = 4,
    isotopes: dict[str, str | float] | None = None,
    start: ForceConstants | None = None,
    mesh: Sequence[int] = (11, 11, 11),
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sscha:
    """Self-consistent phonons at a temperature, K (0 gives zero-point renormalisation alone), at fixed cell.

    Args:
        potential: any potential; evaluated in the precision it has.
        matrix: supercell, see `mlffx.lattice.force_constants.supercell_matrix`.
        n_snapshots: displaced supercells of each iteration.
        n_iterations: iterations; the last `keep` are averaged.
        isotopes: see `masses_of`; quantum motion depends on them.
        start: harmonic force constants to begin with; computed where None.
        report: called with (iterations done, n_iterations).

    Raises:
        UserError: for harmonic force constants with imaginary modes at commensurate points, which cannot be sampled.
    """
    if temperature < 0 or n_snapshots < 2 or not 1 <= keep <= n_iterations:
        raise UserError(
            f"SSCHA at {temperature:g} K with {n_snapshots} snapshots, {keep} of {n_iterations} iterations kept",
            "temperature >= 0, two snapshots or more, keep between 1 and the number of iterations",
            "dynamics.sscha",
        )
    harmonic = start if start is not None else finite_displacement(potential, crystal, matrix)
    ph = phonopy_api.lattice(harmonic.crystal, harmonic.matrix, masses_of(harmonic.crystal.numbers, isotopes))
    phonopy_api.set_force_constants(ph, harmonic.full())
    driver = MLPSSCHA(
        ph,
        PhonopyModel(potential),  # type: ignore[arg-type]
        temperature=temperature,
        number_of_snapshots=n_snapshots,
        max_iterations=n_iterations,
        mesh=list(mesh),
        random_seed=seed,
        log_level=0,
    )
    kept: list[ForceConstants] = []
    for iteration in driver:
        values = np.array(driver.force_constants)[harmonic.rows]
        if iteration > n_iterations - keep:
            kept.append(replace(harmonic, values=values, method=f"sscha {temperature:g} K", displacement=None, raw={}))
        report(iteration, n_iterations)
    history = np.array([[h.free_energy, h.free_energy_error] for h in driver.history])
    mean = replace(kept[0], values=np.mean([fc.values for fc in kept], axis=0))
    errors = history[-keep:, 1]
    return Sscha(
        temperature,
        mean,
        kept,
        float(history[-keep:, 0].mean()),
        float(np.sqrt((errors**2).sum()) / keep),
        history,
    )
