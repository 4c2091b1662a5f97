"""Latent charges: read off each atom's local environment, learned from energies alone.

After the equations of latent Ewald summation (Cheng, npj Comput. Mater. 11, 80, 2025): a network reads h_i off the
features of atom i, and the reciprocal-space energy of Gaussian charges is added to the short-range one. Nothing labels
the charges; that long-range energies are right is what makes them physical, up to their common sign. The interaction
of a Gaussian with itself is removed, so that the term is a pair interaction and tends to that of point charges beyond
about 4 sigma.

There are two ways to neutrality. `global`: q_i = c_i + h_i, less its mean over the structure (c one number per
element). It has a flaw at long wavelengths: where h responds to a local strain, an acoustic phonon carries net charge,
the acoustic sum rule of the Born charges fails and so does the acoustic branch near Gamma. `local`: what depends on the
environment flows along bonds,

    q_i = c_i - mean(c) + sum_j u(r_ij / d) g(r_ij / d) (p_i - p_j),    p_i = c_i + h_i,

with u(x) = (1 - x^2)^3 and g a learned sum of cosines. What one atom gives its neighbour gets, and the sum rule holds
exactly for every choice of the parameters.
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
N_COSINES = 5
FIRST_FLOW = 0.02  # g begins here, not at zero: charges that vanish have no gradient


@ELECTROSTATICS.register("latent")
class LatentCharges(Electrostatics):
    """Charges of each element plus what the environment does to them; neutral in each structure.

    Args:
        species: atomic numbers.
        n_features: invariant features of each atom; the model's.
        charges: where c begins, e, by symbol; None for zero. c is learned.
        n_hidden: width of the network; 0 for none: then c and g alone are learned (`local`), few enough numbers for a
            few hundred energies.
        sigma: width of the Gaussian charges, A; 0 for point charges. The part of the interaction that the width removes
            has a range of about 4 sigma, and should fit into the cutoff of the short-range network.
        neutrality: `local` or `global`.
        cutoff: d, range of charge flow and of the real-space sum of point charges, A; None takes that of the model.
        tolerance: of the Ewald sum.
        method: `auto`, `ewald` or `pme`.
    """

    def __init__(
        self,
        species: Sequence[int],
        n_features: int = 0,
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
        start = per_species(charges, self.species, "electrostatics.charges")
        if n_hidden == 0 and not (self.local and bool((start != 0).any())):
            raise UserError(
                "without a network charges need a start other than zero, and local neutrality",
                "give electrostatics.charges, or n_hidden",
                "electrostatics.n_hidden",
            )
        self.needs_features = n_hidden > 0
        self.charges = nn.Parameter(start)
        self.head = head(n_features, n_hidden, 1, bias=False) if n_hidden > 0 else None
        if self.local:
            self.cutoff = self.range = float(cutoff)
            flow = torch.zeros(N_COSINES, dtype=torch.float64)
            flow[0] = FIRST_FLOW
            self.flow = nn.Parameter(flow)

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        per_element = self.charges[self.species_index(graph)]
        source = per_element
        if self.head is not None:
            assert features is not None
            source = per_element + self.head(features).squeeze(-1).to(per_element.dtype)
        if self.local:
            charges = neutralise(per_element, graph) + self._along_bonds(source, edges)
        else:
            charges = neutralise(source, graph)
        return {keys.CHARGES: charges, keys.ENERGY: self.coulomb(charges, graph, edges)}

    def _along_bonds(self, source: Tensor, edges: Edges) -> Tensor:
        edges = edges.within(self.range)
        x = edges.lengths / self.range
        order = torch.arange(N_COSINES, dtype=x.dtype, device=x.device)
        weight = (1 - x**2) ** 3 * (torch.cos(math.pi * x.unsqueeze(-1) * order) @ self.flow)
        flow = weight * (source[edges.receiver] - source[edges.sender])
        return torch.zeros_like(source).index_add(0, edges.receiver, flow)
