"""Phonons in a second: the modes at GAMMA and X of every potential of a run, kept beside its checkpoints.

Both points fit the conventional 2x2x2 supercell, so nothing is interpolated. Enough to hold many runs against each
other; `evaluate.py` is for one run and everything else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.evaluation.members import gather
from mlffx.evaluation.uncertainty import over_members
from mlffx.files import write_atomically
from mlffx.lattice import Phonons, conventional_matrix, finite_displacement
from mlffx.lattice.paths import point
from mlffx.potentials.base import Potential
from mlffx.training.run_directory import RunDirectory, load_members

POINTS = ("GAMMA", "X")
SUPERCELL = 2  # conventional cells along each axis
ACOUSTIC = 3  # at GAMMA, zero
FILE = "modes.json"


@dataclass(frozen=True)
class KeyModes:
    """Frequencies at GAMMA (optical) and X, ascending at each, cm-1, imaginary negative.

    Attributes:
        mean: over the members, [n_modes].
        sigma: of the mean, [n_modes]; NaN where nothing is known about it.
        n_optical: how many of them are at GAMMA.
    """

    mean: np.ndarray
    sigma: np.ndarray
    n_optical: int

    def mae(self, other: KeyModes) -> float:
        """Mean absolute difference, cm-1."""
        return float(np.mean(np.abs(self.mean - other.mean)))

    @property
    def optical(self) -> float:
        """Mean of the optical modes at GAMMA, cm-1."""
        return float(self.mean[: self.n_optical].mean())


def frequencies(potential: Potential, crystal: Crystal) -> np.ndarray:
    """Optical modes at GAMMA, then all at X, ascending at each, cm-1."""
    phonons = Phonons(finite_displacement(potential, crystal, conventional_matrix(crystal, SUPERCELL)))
    found = {label: np.sort(phonons.frequencies([point(crystal, label)])[0]) for label in POINTS}
    gamma = found["GAMMA"]
    optical = np.delete(gamma, np.argsort(np.abs(gamma))[:ACOUSTIC])
    return np.concatenate([optical, found["X"]])


def modes_of(potentials: list[Potential], crystal: Crystal) -> KeyModes:
    """Modes of some potentials and the spread between them."""
    estimate = over_members(np.array([frequencies(p, crystal) for p in potentials]))
    return KeyModes(estimate.mean, estimate.sigma, 3 * crystal.n_basis - ACOUSTIC)


def run_modes(run: RunDirectory, crystal: Crystal, draws: int = 0) -> KeyModes:
    """Modes of a run, computed once for the checkpoints it has.

    Args:
        draws: from the posterior of closed-form fits, for a sigma; 0: only the fitted potentials.
    """
    digest = _digest(run.path, draws)
    path = run.path / FILE
    try:
        stored = json.loads(path.read_text())
        if stored["of"] == digest:
            return KeyModes(np.array(stored["mean"]), np.array(stored["sigma"], dtype=float), stored["n_optical"])
    except (OSError, ValueError, KeyError):
        pass
    found = modes_of(gather(run.path, draws).potentials if draws else load_members(run.path), crystal)
    sigma = [None if np.isnan(s) else float(s) for s in found.sigma]
    stored = {"of": digest, "mean": found.mean.tolist(), "sigma": sigma, "n_optical": found.n_optical}
    write_atomically(path, json.dumps(stored))
    return found


def _digest(run: Path, draws: int) -> str:
    """Of everything the modes depend on."""
    digest = hashlib.sha256(json.dumps([1, SUPERCELL, draws]).encode())
    for checkpoint in sorted(run.rglob("best.ckpt")):
        digest.update(checkpoint.read_bytes())
    return digest.hexdigest()
