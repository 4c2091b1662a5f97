"""How a run's energies compare with its labels: residuals for parity plots, amplitude plots and their verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlffx.data.dataset import LabelledSet
from mlffx.data.splits import Split
from mlffx.evaluation.figures.energies import EnergyResiduals
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms, in_double


def residuals(
    members: Sequence[Potential],
    bases: Sequence[Potential] | None,
    data: LabelledSet,
    targets: np.ndarray,
    split: Split,
    noise: float | None = None,
) -> EnergyResiduals:
    """Predictions of the ensemble's mean for every labelled frame, constants removed.

    Args:
        members: potentials of the run.
        bases: their low level; its energies are taken off, so that the difference itself is judged. One base may serve
            all members.
        data: the labelled structures.
        targets: what the run was trained on, [n_frames], eV per cell, NaN without a label.
        split: frames that were held out are those of `test`, or of `validation` where there is no test set.
        noise: of the targets, eV per cell.
    """
    frames = np.flatnonzero(np.isfinite(targets))
    structures = [data.atoms[k] for k in frames]
    total = np.mean([energies(p, structures) for p in members], axis=0)
    if bases is not None:
        total = total - np.mean([energies(p, structures) for p in bases], axis=0)
    n_atoms = data.n_atoms[frames]
    held = split.test if len(split.test) else split.validation
    held_out = np.isin(frames, held)
    label, prediction = 1e3 * targets[frames] / n_atoms, 1e3 * total / n_atoms
    return EnergyResiduals(
        label=label,
        prediction=prediction,
        amplitude=data.amplitudes()[frames],
        held_out=held_out,
        noise=None if noise is None else 1e3 * noise / float(np.mean(n_atoms)),
    )


def energies(potential: Potential, structures: Sequence) -> np.ndarray:
    """[n_structures], eV."""
    return evaluate_atoms(in_double(potential), structures, forces=False).energies
