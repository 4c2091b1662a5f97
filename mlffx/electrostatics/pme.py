"""Particle-mesh Ewald for cells of thousands of atoms, through torch-pme (optional extra `pme`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, n_graphs
from mlffx.electrostatics.ewald import Splitting
from mlffx.errors import UserError
from mlffx.units import COULOMB_EV_A

NODES = 7  # interpolation nodes of torch-pme's mesh; odd, the largest it offers
SPACINGS_PER_SMEARING = 2.0  # with seven nodes: energies to 1e-7, forces to about 5e-5 eV/A at charges of 1 e


def pme_energy(charges: Tensor, graph: Data, edges: Edges, split: Splitting) -> Tensor:
    """As `ewald_energy`, with the reciprocal part on a mesh: O(N log N), one structure after the other.

    Forces are those of the interpolated mesh; second derivatives are less accurate than first ones, so force constants
    are better taken from `ewald_energy`.

    Raises:
        UserError: without torch-pme.
    """
    try:
        from torchpme import CoulombPotential, PMECalculator
    except ImportError as error:
        raise UserError("particle-mesh Ewald needs torch-pme", "pip install 'mlffx[pme]'", "electrostatics") from error
    smearing = 1 / (math.sqrt(2) * split.alpha)
    near = edges.within(split.real_cutoff) if split.real_cutoff > 0 else None
    potential = CoulombPotential(smearing=smearing, prefactor=COULOMB_EV_A)
    calculator = PMECalculator(potential, smearing / SPACINGS_PER_SMEARING, NODES, full_neighbor_list=True)
    calculator.to(device=charges.device, dtype=torch.float64)
    energies = []
    for index in range(n_graphs(graph)):
        atoms = torch.nonzero(graph[keys.BATCH] == index).squeeze(-1)
        first = int(atoms[0])
        if near is None:
            pairs, lengths = atoms.new_zeros((0, 2)), charges.new_zeros(0)
        else:
            mine = graph[keys.BATCH][near.receiver] == index
            pairs = torch.stack([near.receiver[mine], near.sender[mine]], dim=1) - first
            lengths = near.lengths[mine]
        q = charges[atoms]
        values = calculator(q.unsqueeze(-1), graph[keys.CELL][index], graph[keys.POSITIONS][atoms], pairs, lengths)
        energies.append((q * values.squeeze(-1)).sum())
    return torch.stack(energies)
