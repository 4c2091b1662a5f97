"""Force constants of a file as a potential that works in any supercell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mlffx.errors import UserError
from mlffx.lattice.force_constants import ForceConstants, autodiff, load_force_constants
from mlffx.models.base import build_model
from mlffx.potentials.network import NetworkPotential

LARGEST_MISFIT = 0.05  # of the norm of the force constants


def potential_of(constants: ForceConstants) -> NetworkPotential:
    """The second-order `force_constants` model nearest to the given ones.

    Its range is that of the supercell (half its smallest height): longer pairs are not resolved by the supercell.

    Raises:
        UserError: when more than LARGEST_MISFIT of the force constants is lost, e.g. for a supercell that is too small.
    """
    cell = constants.supercell().cell.array
    reach = 0.5 / np.linalg.norm(np.linalg.inv(cell), axis=0).max()
    spec = {
        "name": "force_constants",
        "species": sorted({int(z) for z in constants.crystal.numbers}),
        "crystal": constants.crystal.to_arrays(),
        "cutoff": float(reach) + 1e-3,
        "orders": [],
    }
    model = build_model(spec)
    potential = NetworkPotential(model, torch.zeros(len(model.species)), 1.0, spec)
    weights: torch.nn.Parameter = model.coefficients  # type: ignore[assignment]
    columns = []
    for k in range(model.n_features):
        weights.data.zero_()
        weights.data[k] = 1.0
        columns.append(autodiff(potential, constants.crystal, constants.matrix, symmetrise=False).values.ravel())
    target = constants.values.ravel()
    solution, *_ = np.linalg.lstsq(np.stack(columns, axis=1), target, rcond=None)
    lost = np.linalg.norm(np.stack(columns, axis=1) @ solution - target) / np.linalg.norm(target)
    if lost > LARGEST_MISFIT:
        raise UserError(
            f"{100 * lost:.0f} % of the force constants reach further than the supercell resolves ({reach:.2f} A)",
            "compute them in a larger supercell",
            "potential.base",
        )
    weights.data.copy_(torch.as_tensor(solution))
    return potential.eval()


def load_potential_of(path: Path) -> NetworkPotential:
    """`potential_of` the force constants in a phonopy file."""
    return potential_of(load_force_constants(path))
