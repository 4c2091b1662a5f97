"""Force constants with charges, fitted in closed form: the linear counterpart of training a charge-aware network."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlffx.potentials.charge_aware import ChargeAwarePotential, with_charges
from mlffx.potentials.charged_fit import fit_charged
from mlffx.potentials.linear_fit import LinearFit
from mlffx.potentials.network import NetworkPotential
from mlffx.training.task import Task


def fit_charged_constants(
    learned: NetworkPotential, electrostatics: dict[str, Any], task: Task, frames: np.ndarray, weight: float
) -> tuple[ChargeAwarePotential, LinearFit]:
    """Fit force constants and charges to the targets of the frames.

    Args:
        learned: untrained force-constant model.
        electrostatics: as in conf/electrostatics.
        task: data and targets.
        frames: to train on; a frame may occur more than once.
        weight: of the force term against the energies', as in the loss.
    """
    potential = with_charges(learned, electrostatics, task.dataset.species)
    graphs = task.graphs(potential.cutoff)
    n_atoms = task.dataset.n_atoms[frames].astype(float)
    forces = None
    if weight > 0 and task.forces is not None:
        forces = np.concatenate([task.forces[int(k)].reshape(-1) for k in frames])
    per_force = float(np.sqrt(weight / 3) * task.energy_scale() / task.force_scale() * np.sqrt(n_atoms.mean()))
    structures = [graphs[int(k)] for k in frames]
    found = fit_charged(
        potential, structures, task.energies[frames], forces, per_force, difference=task.low is not None
    )
    return potential, found.linear
