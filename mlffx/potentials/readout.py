"""A difference as a linear head on the base's features: many forces taught them, few energies weigh them.

    E = E_base + sum_i (offset + w_species(i) . f_i)

f_i are the invariant features the base's network computes anyway, so the difference costs nothing to evaluate. Basis
functions of force constants have one weight for all species: only their sum over all atoms is translation invariant.
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
        self.coefficient = _coefficient(len(species), np.array(base.only_sums() or [False] * n_features))
        n = int(self.coefficient.max()) + 1
        self.register_buffer("weights", torch.zeros(len(species), n_features, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(n, n, dtype=torch.float64))

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        """What each coefficient of the head multiplies, [n_atoms, n_coefficients]."""
        blocks = self._blocks(self.base(graph, edges)[keys.FEATURES], graph)
        if blocks.shape[1] == len(self.spread):
            return blocks
        target = torch.as_tensor(self.coefficient.ravel(), device=blocks.device)
        return blocks.new_zeros(len(blocks), len(self.spread)).index_add(1, target, blocks)

    def _blocks(self, features: Tensor, graph: Data) -> Tensor:
        """Features in the block of the atom's species, zero elsewhere: [n_atoms, n_species * n_features]."""
        numbers = graph[keys.NUMBERS]
        own = torch.stack([numbers == z for z in self.species], dim=1).to(torch.float64)
        return (own.unsqueeze(-1) * features.to(torch.float64).unsqueeze(1)).flatten(1)

    def set_head(self, fit: LinearFit) -> None:
        """Store what `fit_linear` found."""
        self.weights.copy_(torch.as_tensor(fit.coefficients)[self.coefficient])
        self.spread.copy_(torch.as_tensor(fit.spread))
        self.offset.fill_(fit.offset)

    def feature_sizes(self) -> list[int]:
        return self.base.feature_sizes()

    def only_sums(self) -> list[bool]:
        return self.base.only_sums()

    def blocks(self) -> np.ndarray:
        """Term of the base that each coefficient of the head reads, [n_coefficients]."""
        sizes = self.base.feature_sizes() or [self.n_features]
        terms = np.tile(np.repeat(np.arange(len(sizes)), sizes), len(self.species))
        return terms[np.unique(self.coefficient, return_index=True)[1]]

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        generator = torch.Generator().manual_seed(seed)
        bases = self.base.posterior_samples(n, seed) or [self.base] * n
        samples: list[Potential] = []
        for base in bases:
            sample = ReadoutPotential(base, self.species, self.n_features)
            draw = self.spread @ torch.randn(len(self.spread), generator=generator, dtype=torch.float64)
            sample.weights.copy_(self.weights + draw[self.coefficient])
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


def _coefficient(n_species: int, only_sums: np.ndarray) -> np.ndarray:
    """Number of the coefficient behind each weight, [n_species, n_features]."""
    number = np.zeros((n_species, len(only_sums)), dtype=int)
    number[0] = np.arange(len(only_sums))
    n_own = int((~only_sums).sum())
    for row in range(1, n_species):
        number[row] = number[0]
        number[row, ~only_sums] = len(only_sums) + (row - 1) * n_own + np.arange(n_own)
    return number
