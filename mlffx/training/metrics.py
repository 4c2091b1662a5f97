"""Errors of a trained potential on held-out frames, with the unit in every name."""

from __future__ import annotations

import numpy as np

from mlffx.potentials.base import Potential
from mlffx.training.task import Task, predictions


def held_out_errors(potential: Potential, task: Task, level: str) -> dict[str, float]:
    """Errors on the test frames.

    Energies are compared up to a constant for the composition (their mean error), which no phonon depends on; the
    constant is reported. Forces are those of the level if it has them; a potential trained on energies alone is
    judged by forces it never saw.
    """
    frames, data = task.split.test, task.dataset
    if not len(frames):
        return {}
    label_level = level if level in data.forces else None
    predicted = predictions(potential, task, frames, forces=label_level is not None)
    per_atom = 1e3 / data.n_atoms[frames]
    metrics: dict[str, float] = {"test_frames": float(len(frames))}

    def energy(name: str, error: np.ndarray) -> None:
        meV = error * per_atom
        metrics[f"test_{name}_rmse_meV_per_atom"] = float(np.sqrt(np.mean(meV**2)))
        metrics[f"test_{name}_mae_meV_per_atom"] = float(np.mean(np.abs(meV)))
        metrics[f"test_{name}_bias_meV_per_atom"] = float(np.mean(meV))

    energy("energy", predicted["energies"] - data.energies[level][frames])
    if task.low is not None and "delta" in predicted["parts"]:
        energy("difference_energy", predicted["parts"]["delta"] - task.energies[frames])
    if label_level is not None:
        error = np.concatenate([p - data.forces[level][k] for p, k in zip(predicted["forces"], frames, strict=True)])
        metrics["test_forces_rmse_meV_per_A"] = float(1e3 * np.sqrt(np.mean(error**2)))
        metrics["test_forces_mae_meV_per_A"] = float(1e3 * np.mean(np.abs(error)))
    return metrics
