"""A difference as a linear head on the base's features: many forces taught them, few energies weigh them.

    E = E_base + sum_i (offset + w_species(i) . f_i)

f_i are the invariant features the base's network computes anyway, so the difference costs nothing to evaluate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, sum_by_graph
from mlffx.potentials.base import Potential
from mlffx.potentials.linear_fit import LinearFit


class ReadoutPotential(Potential):
    """Base plus linear head.

    Args:
        base: a potential that returns FEATURES.
        species: atomic numbers, one row of weights each.
        n_features: of the base's network.
    """

    weights: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, base: Potential, species: list[int], n_features: int) -> None:
        super().__init__()
        self.base, self.species, self.n_features = base, sorted(species), n_features
        self.cutoff, self.crystal = base.cutoff, base.crystal
        self.register_buffer("weights", torch.zeros(len(species), n_features, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))
        n = len(species) * n_features
        self.register_buffer("spread", torch.zeros(n, n, dtype=torch.float64))

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        """Features in the block of the atom's species, zero elsewhere: [n_atoms, n_species * n_features]."""
        return self._blocks(self.base(graph, edges)[keys.FEATURES], graph)

    def _blocks(self, features: Tensor, graph: Data) -> Tensor:
        numbers = graph[keys.NUMBERS]
        own = torch.stack([numbers == z for z in self.species], dim=1).to(torch.float64)
        return (own.unsqueeze(-1) * features.to(torch.float64).unsqueeze(1)).flatten(1)

    def set_head(self, fit: LinearFit) -> None:
        """Store what `fit_linear` found."""
        self.weights.copy_(torch.as_tensor(fit.coefficients).reshape(self.weights.shape))
        self.spread.copy_(torch.as_tensor(fit.spread))
        self.offset.fill_(fit.offset)

    def feature_sizes(self) -> list[int]:
        return self.base.feature_sizes()

    def blocks(self) -> np.ndarray:
        """Term of the base that each coefficient of the head reads, [n_species * n_features]."""
        sizes = self.base.feature_sizes() or [self.n_features]
        return np.tile(np.repeat(np.arange(len(sizes)), sizes), len(self.species))

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        generator = torch.Generator().manual_seed(seed)
        bases = self.base.posterior_samples(n, seed) or [self.base] * n
        samples: list[Potential] = []
        for base in bases:
            sample = ReadoutPotential(base, self.species, self.n_features)
            draw = self.spread @ torch.randn(len(self.spread), generator=generator, dtype=torch.float64)
            sample.weights.copy_(self.weights + draw.reshape(self.weights.shape))
            sample.offset.copy_(self.offset)
            samples.append(sample.eval())
        return samples

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        out = self.base(graph, edges)
        blocks = self._blocks(out[keys.FEATURES], graph)
        delta = sum_by_graph(blocks @ self.weights.flatten() + self.offset, graph)
        parts = {"base": out[keys.ENERGY], "delta": delta}
        return out | {keys.ENERGY: parts["base"] + delta, keys.PARTS: parts}

    def set_precision(self, dtype: torch.dtype) -> Potential:
        self.base.set_precision(dtype)
        return self

    def spec(self) -> dict[str, Any]:
        return {"kind": "readout", "base": self.base.spec(), "species": self.species, "n_features": self.n_features}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> ReadoutPotential:
        from mlffx.potentials.build import build_potential  # it builds this class

        return cls(build_potential(spec["base"]), spec["species"], spec["n_features"])
