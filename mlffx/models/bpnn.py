"""High-dimensional neural network potential: symmetry functions and one network an element (Behler, Parrinello, 2007).

Phys. Rev. Lett. 98, 146401. The functions are in `mlffx.models.symmetry_functions`; they are standardised with the
means and deviations of the training structures, an element at a time, before the networks see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data.graph import Edges
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.neighbourhood import Neighbourhood
from mlffx.models.symmetry_functions import SymmetryFunctions

SMALLEST_DEVIATION = 1e-3  # of the size of a function: one that hardly varies is not blown up beyond this


@MODELS.register("bpnn")
class BehlerParrinello(AtomicModel):
    """Behler-Parrinello network.

    Args:
        species: atomic numbers.
        cutoff: A.
        n_hidden: widths of the hidden layers of each element's network.
        n_radial: Gaussians of the radial functions, for each element of the neighbour.
        n_angular: Gaussians of the angular functions, for each pair of elements.
        zetas: integer exponents of the angular functions.
        start: centre of the first Gaussian, A.
        mean_neighbours: scale of the functions until `fit_features` has seen training structures.
    """

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float = 4.0,
        n_hidden: Sequence[int] = (32, 32),
        n_radial: int = 10,
        n_angular: int = 5,
        zetas: Sequence[int] = (1, 2, 4),
        start: float = 1.0,
        mean_neighbours: float = 40.0,
    ) -> None:
        super().__init__(species, cutoff)
        self.functions = SymmetryFunctions(len(self.species), self.cutoff, n_radial, n_angular, zetas, start)
        self.n_features = self.functions.n_features
        widths = [self.n_features, *n_hidden]
        self.networks = nn.ModuleList(_network(widths) for _ in self.species)
        shape, n_two_body = (len(self.species), self.n_features), len(self.species) * n_radial
        deviation = torch.full(shape, float(mean_neighbours) / 4, dtype=torch.float64)
        deviation[:, :n_two_body] = mean_neighbours**0.5
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("deviation", deviation)

    def raw_features(self, graph: Data, edges: Edges) -> Tensor:
        """Symmetry functions in float64, [n_atoms, n_features]."""
        near = Neighbourhood(graph, edges, dense=False)
        species = self.species_index(graph)
        return self.functions(near, species[edges.sender], edges.receiver, edges.vectors, edges.lengths)

    @torch.no_grad()
    def fit_features(self, graph: Data, edges: Edges) -> None:
        features, species = self.raw_features(graph, edges.within(self.cutoff)), self.species_index(graph)
        for k in range(len(self.species)):
            mine = features[species == k]
            if len(mine) > 1:
                size = mine.square().mean(dim=0).sqrt()
                self.mean[k] = mine.mean(dim=0)  # type: ignore[index, operator]
                self.deviation[k] = torch.maximum(mine.std(dim=0), SMALLEST_DEVIATION * size).clamp(min=1e-9)  # type: ignore[index, operator]

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        species = self.species_index(graph)
        features = self.raw_features(graph, edges)
        return ((features - self.mean[species]) / self.deviation[species]).to(self.dtype)  # type: ignore[index]

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        if len(self.species) == 1:
            return self.networks[0](features).squeeze(-1)
        species, energy = self.species_index(graph), features.new_zeros(len(features))
        for k, network in enumerate(self.networks):
            mine = (species == k).nonzero().squeeze(-1)
            energy = energy.index_add(0, mine, network(features[mine]).squeeze(-1))
        return energy


def _network(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))
