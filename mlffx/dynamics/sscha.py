"""Quantum and thermal renormalisation of phonons by the stochastic self-consistent harmonic approximation of phonopy.

The trial crystal is the harmonic one whose free energy with the true potential is lowest (I. Errea, M. Calandra, F.
Mauri, Phys. Rev. B 89, 064302 (2014)); its force constants include zero-point and thermal motion at fixed cell, not the
bubble (dynamic) correction. phonopy's driver only asks its model for `evaluate(cells)`, so the batched potential
serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from phonopy import Phonopy
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


class _PairedSampling(MLPSSCHA):
    """phonopy's driver with every snapshot u taken together with -u.

    Odd forces cancel in the fit of the force constants and odd energies in the free energy: most of the noise.
    """

    def __init__(self, ph: Phonopy, model: PhonopyModel, seed: int, **options: Any) -> None:
        super().__init__(ph, model, random_seed=seed, **options)  # type: ignore[arg-type]
        self.seed, self.errors = seed, list[float]()

    def sample_supercells(self) -> None:
        """Displacements of the harmonic ensemble of the current force constants, their energies and forces."""
        ph, phi = self.phonopy, self.force_constants
        seed = np.random.SeedSequence([self.seed, len(self.history)]).generate_state(1)[0]
        ph.generate_displacements(
            number_of_snapshots=self.number_of_snapshots,
            temperature=self.temperature,
            is_plusminus=True,
            random_seed=int(seed),
        )
        ph.evaluate_mlp()
        ph.force_constants = phi
        u = np.asarray(ph.displacements)
        harmonic = 0.5 * np.einsum("sia,ijab,sjb->s", u, phi, u, optimize=True)
        pairs = (np.asarray(ph.supercell_energies) - harmonic).reshape(2, -1).mean(axis=0)
        self.errors.append(float(pairs.std(ddof=1) / np.sqrt(len(pairs))) / self.n_cell)


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


def save_sscha(result: Sscha, path: Path, stamp: str) -> None:
    """Write a result with the `stamp` of what it was made from; the file appears whole or not at all."""
    partial = path.with_name("part-" + path.name)
    np.savez(
        partial,
        stamp=stamp,
        temperature=result.temperature,
        values=result.force_constants.values,
        iterations=np.array([fc.values for fc in result.iterations]),
        free_energy=[result.free_energy, result.free_energy_error],
        history=result.history,
    )
    partial.replace(path)


def load_sscha(path: Path, stamp: str, harmonic: ForceConstants) -> Sscha | None:
    """What `save_sscha` wrote, or None where nothing with this stamp is there.

    Args:
        harmonic: force constants of the same crystal and supercell.
    """
    if not path.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["stamp"]) != stamp:
            return None
        temperature = float(stored["temperature"])
        kept = [_renormalised(harmonic, values, temperature) for values in stored["iterations"]]
        mean = _renormalised(harmonic, stored["values"], temperature)
        free_energy, error = (float(x) for x in stored["free_energy"])
        return Sscha(temperature, mean, kept, free_energy, error, stored["history"])


def _renormalised(harmonic: ForceConstants, values: np.ndarray, temperature: float) -> ForceConstants:
    return replace(harmonic, values=values, method=f"sscha {temperature:g} K", displacement=None, raw={})


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
        n_snapshots: displaced supercells of each iteration; they come in pairs u, -u.
        n_iterations: iterations; the last `keep` are averaged.
        isotopes: see `masses_of`; quantum motion depends on them.
        start: harmonic force constants to begin with; computed where None.
        report: called with (iterations done, n_iterations).

    Raises:
        UserError: for harmonic force constants with imaginary modes at commensurate points, which cannot be sampled.
    """
    if temperature < 0 or n_snapshots < 4 or not 1 <= keep <= n_iterations:
        raise UserError(
            f"SSCHA at {temperature:g} K with {n_snapshots} snapshots, {keep} of {n_iterations} iterations kept",
            "temperature >= 0, four snapshots or more, keep between 1 and the number of iterations",
            "dynamics.sscha",
        )
    harmonic = start if start is not None else finite_displacement(potential, crystal, matrix)
    ph = phonopy_api.lattice(harmonic.crystal, harmonic.matrix, masses_of(harmonic.crystal.numbers, isotopes))
    phonopy_api.set_force_constants(ph, harmonic.full())
    driver = _PairedSampling(
        ph,
        PhonopyModel(potential),
        seed,
        temperature=temperature,
        number_of_snapshots=n_snapshots // 2,
        max_iterations=n_iterations,
        mesh=list(mesh),
        log_level=0,
    )
    kept: list[ForceConstants] = []
    for iteration in driver:
        values = np.array(driver.force_constants)[harmonic.rows]
        if iteration > n_iterations - keep:
            kept.append(_renormalised(harmonic, values, temperature))
        report(iteration, n_iterations)
    history = np.array([[h.free_energy, error] for h, error in zip(driver.history, driver.errors, strict=True)])
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
