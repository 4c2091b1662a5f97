"""The harmonic crystal as a potential: molecular dynamics with a model's own force constants runs by the same code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, n_graphs
from mlffx.errors import UserError
from mlffx.potentials.base import Potential

NO_NEIGHBOURS = 0.1  # A; the energy needs no edges, but a neighbour list wants a positive range


class HarmonicPotential(Potential):
    """E = E0 + 1/2 sum_ij u_i . Phi_ij . u_j for supercells of one size, atoms in the order of `sites`.

    Displacements are taken to the nearest image of the site, so positions may be wrapped or not; sites move with the
    cell of the graph, so a homogeneous strain alone costs no energy.

    Args:
        force_constants: Phi of the whole supercell, [n, n, 3, 3], eV/A^2.
        sites: ideal positions, [n, 3], A.
        cell: lattice vectors of the supercell as rows, [3, 3], A.
        energy: E0, eV.

    Raises:
        UserError: for force constants that do not have the shape [n, n, 3, 3].
    """

    def __init__(
        self,
        force_constants: np.ndarray | Tensor,
        sites: np.ndarray | Tensor,
        cell: np.ndarray | Tensor,
        energy: float = 0.0,
    ) -> None:
        super().__init__()
        phi, ideal, lattice = (torch.as_tensor(x, dtype=torch.float64) for x in (force_constants, sites, cell))
        n = len(ideal)
        if phi.shape != (n, n, 3, 3):
            raise UserError(
                f"force constants of shape {list(phi.shape)} for {n} atoms",
                f"give the full matrix [{n}, {n}, 3, 3] of the supercell",
                "force_constants",
            )
        self.cutoff = NO_NEIGHBOURS
        flat = phi.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
        self.register_buffer("matrix", 0.5 * (flat + flat.T))
        self.register_buffer("scaled_sites", ideal @ torch.linalg.inv(lattice))
        self.register_buffer("reference_energy", torch.as_tensor(energy, dtype=torch.float64))

    @property
    def n_atoms(self) -> int:
        """Atoms of the supercell."""
        return len(self.scaled_sites)  # type: ignore[arg-type]

    @property
    def force_constants(self) -> Tensor:
        """Symmetrised force constants, [n, n, 3, 3], eV/A^2."""
        n = self.n_atoms
        return self.matrix.reshape(n, 3, n, 3).permute(0, 2, 1, 3)  # type: ignore[operator, union-attr]

    def displacements(self, graph: Data) -> Tensor:
        """Displacements from the nearest image of the sites, [n_graphs, n, 3], A."""
        count, total = n_graphs(graph), graph[keys.POSITIONS].shape[0]
        if total != count * self.n_atoms:
            raise UserError(
                f"{total / count:g} atoms a cell, but the force constants are those of {self.n_atoms}",
                "use the supercell of the force constants",
                "HarmonicPotential",
            )
        cell = graph[keys.CELL]
        offset = graph[keys.POSITIONS].reshape(count, -1, 3) - self.scaled_sites @ cell  # type: ignore[operator]
        image = torch.round(offset.detach() @ torch.linalg.inv(cell.detach()))
        return offset - image @ cell

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        u = self.displacements(graph).flatten(1)
        energy = 0.5 * ((u @ self.matrix) * u).sum(dim=1) + self.reference_energy  # type: ignore[operator]
        return {keys.ENERGY: energy, keys.PARTS: {"harmonic": energy}}

    def set_precision(self, dtype: torch.dtype) -> Potential:
        """Nothing to cast: lattice dynamics stays in float64."""
        return self

    def spec(self) -> dict[str, Any]:
        return {"kind": "harmonic", "n_atoms": self.n_atoms}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> HarmonicPotential:
        """Without its force constants, which come from a state dictionary."""
        n = spec["n_atoms"]
        return cls(torch.zeros(n, n, 3, 3), torch.zeros(n, 3), torch.eye(3))
