"""What a trained run is in doubt about, and the structures of a pool whose labels would settle most of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from mlffx.active.selection import choose, conditioned, ensemble_factors
from mlffx.errors import UserError
from mlffx.evaluation.members import Members, gather
from mlffx.lattice.force_constants import finite_displacement
from mlffx.lattice.isotopes import masses_of
from mlffx.potentials.batched import energies_of_members, in_double
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

Criterion = Literal["phonons", "energy"]
NOISE = 1e-4  # eV an atom, where the run says nothing of it


@dataclass(frozen=True)
class Choice:
    """Structures to label.

    Attributes:
        indices: of the pool, the most telling first.
        doubt: standard deviation of the energy of each over the members, meV/atom.
        before, after: root-mean-square doubt about what was asked for (mass-weighted force constants as frequencies
            squared, or the energies of the pool), in its own unit: only their ratio means anything.
    """

    indices: np.ndarray
    doubt: np.ndarray
    before: float
    after: float


@dataclass(frozen=True)
class Learner:
    """A trained run that may ask for labels.

    Attributes:
        path: run directory.
        settings, task: of its training.
        members: an ensemble, or draws from the posterior of a closed-form fit.
    """

    path: Path
    settings: TrainSettings
    task: Task
    members: Members

    @classmethod
    def of(cls, run: Path | str, samples: int = 32) -> Learner:
        """Read a run.

        Raises:
            UserError: for one that has no doubts: a single network.
        """
        directory = RunDirectory(run)
        settings = TrainSettings.read(directory.read_config())
        members = gather(directory.path, samples, resampled=settings.resample == "bootstrap")
        if len(members.potentials) < 2:
            raise UserError(
                "one potential has no doubts", "train with ensemble=4, or a fit in closed form", f"run={run}"
            )
        return cls(directory.path, settings, prepare(settings), members)

    def unlabelled(self) -> np.ndarray:
        """Frames of the data set that the level has no label for."""
        level = self.settings.level.name
        return np.flatnonzero(~np.isfinite(self.task.dataset.energies[level]))

    def noise(self) -> float:
        """What a label differs by from what the model can describe, eV per atom: the run's held-out error."""
        try:
            metrics = RunDirectory(self.path).read_metrics()
        except OSError:
            return NOISE
        for name in ("test_difference_energy_rmse_meV_per_atom", "test_energy_rmse_meV_per_atom"):
            if metrics.get(name):
                return 1e-3 * float(metrics[name])
        return NOISE

    def choose(self, pool: Sequence[Atoms], n: int, by: Criterion = "phonons") -> Choice:
        """The n structures of the pool to label next.

        Args:
            by: `phonons` lowers the doubt about force constants, `energy` that about energies.

        Raises:
            UserError: for a pool that is too small, or of another crystal.
        """
        if not 1 <= n <= len(pool):
            raise UserError(f"{n} structures of a pool of {len(pool)}", "ask for fewer, or give a larger pool", "n")
        seen = [self.task.dataset.atoms[k] for k in self.task.split.train]
        energies = energies_of_members(self.members.potentials, [*pool, *seen])
        known = energies[:, len(pool) :]
        # The zero of the energy follows the labels: what all structures share is no doubt.
        factors = ensemble_factors(energies[:, : len(pool)] - known.mean(axis=1, keepdims=True))
        sizes = np.array([len(atoms) for atoms in pool])
        noise = self.noise() * sizes
        targets = self._constants(pool[0]) if by == "phonons" else None
        indices = choose(factors, n, noise, targets)
        wanted = factors if targets is None else targets
        doubt = 1e3 * np.linalg.norm(factors[indices], axis=1) / sizes[indices]
        return Choice(indices, doubt, _rms(wanted), _rms(_settled(factors, indices, noise, wanted)))

    def _constants(self, structure: Atoms) -> np.ndarray:
        """Factors of the mass-weighted force constants in the structure's own supercell, [n_entries, n_members]."""
        crystal = self.task.dataset.crystal
        if crystal is None:
            raise UserError("phonons need the ideal crystal", "declare data.crystal, or take by=energy", "data.crystal")
        matrix = crystal.repetitions(structure.cell.array)
        found = [finite_displacement(in_double(p), crystal, matrix, extrapolate=False) for p in self.members.potentials]
        masses = masses_of(crystal.numbers)
        columns = masses[found[0].supercell().arrays["site_type"]]
        weight = 1 / np.sqrt(masses[:, None] * columns[None])
        values = np.array([fc.values * weight[..., None, None] for fc in found])
        return ensemble_factors(values.reshape(len(values), -1))


def _settled(factors: np.ndarray, indices: np.ndarray, noise: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Factors of what was wanted once the chosen structures are labelled."""
    for k in indices:
        variance = float(noise[k] ** 2)
        factors, left = conditioned(factors, int(k), variance, wanted)
        assert left is not None
        wanted = left
    return wanted


def _rms(factors: np.ndarray) -> float:
    return float(np.sqrt((factors**2).sum(axis=1).mean()))
