"""Latent charges: read off each atom's local environment, learned from energies alone.

After the equations of latent Ewald summation (Cheng, npj Comput. Mater. 11, 80, 2025): q_i = f(features_i), and the
reciprocal-space energy of Gaussian charges is added to the short-range one. Nothing labels the charges; that long-range
energies are right is what makes them physical, up to their common sign. Two choices of ours: charges are made neutral
by subtracting their mean over each structure, and the interaction of a Gaussian with itself is removed, so that the
term is a pure pair interaction and tends to that of point charges beyond about 4 sigma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.electrostatics.base import ELECTROSTATICS, Electrostatics, head, per_species, split_for
from mlffx.electrostatics.ewald import neutralise


@ELECTROSTATICS.register("latent")
class LatentCharges(Electrostatics):
    """q_i = q0[species_i] + network(features_i), neutral in each structure.

    Args:
        species: atomic numbers.
        n_features: invariant features of each atom; the model's.
        charges: where the charges per element q0 begin, e, by symbol; None for zero. q0 is learned.
        n_hidden: width of the network.
        sigma: width of the Gaussian charges, A; 0 for point charges. The part of the interaction that the width removes
            has a range of about 4 sigma, and should fit into the cutoff of the short-range network.
        cutoff: range of the real-space sum of point charges (sigma 0), A; None takes that of the model.
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
        cutoff: float = 4.0,
        tolerance: float = 1e-7,
        method: str = "auto",
    ) -> None:
        super().__init__(species, split_for(sigma, cutoff, tolerance), method)
        self.charges = nn.Parameter(per_species(charges, self.species, "electrostatics.charges"))
        self.head = head(n_features, n_hidden, 1)

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        assert features is not None
        raw = self.charges[self.species_index(graph)] + self.head(features).squeeze(-1).to(self.charges.dtype)
        charges = neutralise(raw, graph)
        return {keys.CHARGES: charges, keys.ENERGY: self.coulomb(charges, graph, edges)}
