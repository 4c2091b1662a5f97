"""Latent charges: read off each atom's local environment, learned from energies alone.

After the equations of latent Ewald summation (Cheng, npj Comput. Mater. 11, 80, 2025): a network reads h_i off the
features of atom i, and the reciprocal-space energy of Gaussian charges is added to the short-range one. Nothing labels
the charges; that long-range energies are right is what makes them physical, up to their common sign. The interaction
of a Gaussian with itself is removed, so that the term is a pair interaction and tends to that of point charges beyond
about 4 sigma.

There are two ways to neutrality. `global`: q_i = h_i - mean(h) of the structure. It has a flaw at long wavelengths:
where h responds to a local strain, an acoustic phonon carries net charge, the acoustic sum rule of the Born charges
fails and so does the acoustic branch near Gamma. `local`: charge flows along bonds only,

    q_i = sum_j w_ij (h_i - h_j),    w_ij = u(r_ij / c) g(r_ij / c) / sqrt(W_i W_j),    W_i = sum_j u(r_ij / c),

u = (1 - x^2)^3 and g a learned polynomial in cosines that begins at 1. What one atom gives its neighbour gets: every
region is neutral to its own first order, and the sum rule holds exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.electrostatics.base import ELECTROSTATICS, Electrostatics, head, per_species, split_for
from mlffx.electrostatics.ewald import neutralise
from mlffx.errors import UserError, nearest

NEUTRALITY = ("local", "global")
N_COSINES = 4
LONELY = 1e-6  # keeps the weights finite for an atom without neighbours, which then has no charge


@ELECTROSTATICS.register("latent")
class LatentCharges(Electrostatics):
    """h_i = h0[species_i] + network(features_i), turned into neutral charges.

    Args:
        species: atomic numbers.
        n_features: invariant features of each atom; the model's.
        charges: where h0 begins, e, by symbol; None for zero. h0 is learned.
        n_hidden: width of the network.
        sigma: width of the Gaussian charges, A; 0 for point charges. The part of the interaction that the width removes
            has a range of about 4 sigma, and should fit into the cutoff of the short-range network.
        neutrality: `local` or `global`.
        cutoff: c, range of charge flow and of the real-space sum of point charges, A; None takes that of the model.
        tolerance: of the Ewald sum.
        method: `auto`, `ewald` or `pme`.
    """

    needs_features = True

    def __init__(
        self,
        species: Sequence[int],
        n_features: int,
        charges: Mapping[Any, float] | None = None,
        n_hidden: int = 32,
        sigma: float = 0.8,
        neutrality: str = "local",
        cutoff: float = 4.0,
        tolerance: float = 1e-7,
        method: str = "auto",
    ) -> None:
        super().__init__(species, split_for(sigma, cutoff, tolerance), method)
        if neutrality not in NEUTRALITY:
            raise UserError(f"unknown '{neutrality}'", nearest(neutrality, NEUTRALITY), "electrostatics.neutrality")
        self.local = neutrality == "local"
        self.charges = nn.Parameter(per_species(charges, self.species, "electrostatics.charges"))
        self.head = head(n_features, n_hidden, 1)
        if self.local:
            self.cutoff = self.range = float(cutoff)
            self.cosines = nn.Parameter(torch.zeros(N_COSINES, dtype=torch.float64))

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        assert features is not None
        raw = self.charges[self.species_index(graph)] + self.head(features).squeeze(-1).to(self.charges.dtype)
        charges = self._along_bonds(raw, edges) if self.local else neutralise(raw, graph)
        return {keys.CHARGES: charges, keys.ENERGY: self.coulomb(charges, graph, edges)}

    def _along_bonds(self, raw: Tensor, edges: Edges) -> Tensor:
        edges = edges.within(self.range)
        x = edges.lengths / self.range
        reach = (1 - x**2) ** 3  # zero with two derivatives at the cutoff, weights near neighbours more
        order = torch.arange(1, N_COSINES + 1, dtype=x.dtype, device=x.device)
        shape = 1 + torch.cos(math.pi * x.unsqueeze(-1) * order) @ self.cosines
        root = torch.sqrt(torch.zeros_like(raw).index_add(0, edges.receiver, reach) + LONELY)
        weight = reach * shape / (root[edges.receiver] * root[edges.sender])
        flow = weight * (raw[edges.receiver] - raw[edges.sender])
        return torch.zeros_like(raw).index_add(0, edges.receiver, flow)
