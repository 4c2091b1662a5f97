"""Losses on energies and forces, each residual in units of the standard deviation of its target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import atoms_per_graph
from mlffx.training.datamodule import share_of
from mlffx.training.settings import ForceTerm, LossSettings, LossTerm


class EnergyForceLoss:
    """Weighted sum of the energy term (per atom) and the force term (per component).

    Args:
        settings: weights and kinds.
        with_forces: whether the targets have forces.
        energy_scale: standard deviation of the target energies, eV/atom.
        force_scale: root mean square of the target forces, eV/A.
    """

    def __init__(self, settings: LossSettings, with_forces: bool, energy_scale: float, force_scale: float) -> None:
        self.energy, self.forces = settings.energy, settings.forces
        self.force_weight = force_weight(settings, with_forces)
        self.energy_scale, self.force_scale = energy_scale, force_scale

    @property
    def needs_forces(self) -> bool:
        """Whether training must differentiate twice; energies alone cost one backward pass."""
        return self.force_weight > 0

    def __call__(self, out: dict[str, Any], target: Data) -> Tensor:
        """Scalar loss of the results of a batch; of a process's part of one, its share of the mean over the whole."""
        share = share_of(target)
        per_atom = (out[keys.ENERGY] - target[keys.ENERGY]) / atoms_per_graph(target)
        loss = self.energy.weight * share.of_structures * _term(per_atom / self.energy_scale, self.energy)
        if self.needs_forces:
            residual = (out[keys.FORCES] - target[keys.FORCES]) / self.force_scale
            loss = loss + self.force_weight * share.of_atoms * _term(residual, self.forces)
        return loss


def force_weight(settings: LossSettings, with_forces: bool) -> float:
    """The weight of the force term: as set, or automatic where the level has forces."""
    if settings.forces.weight is not None:
        return settings.forces.weight
    return settings.forces.auto_weight if with_forces else 0.0


def _term(residual: Tensor, term: LossTerm | ForceTerm) -> Tensor:
    if term.kind == "huber":
        return 2 * huber_loss(residual, torch.zeros_like(residual), delta=term.delta)
    return (residual**2).mean()
