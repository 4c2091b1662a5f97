"""A network with its energy scale: the one owner of offset and unit of what is learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, sum_by_graph
from mlffx.models.base import AtomicModel, build_model
from mlffx.potentials.base import Potential


class NetworkPotential(Potential):
    """E = sum_i (offset[species_i] + scale * e_i), e_i from an architecture.

    Args:
        model: the architecture.
        offsets: energy of each species in `model.species`, eV. With one composition in the data only their sum over a
            cell is determined; the fit takes the least-norm solution (`mlffx.potentials.scaling`).
        scale: eV per model unit.
        model_spec: `{"name": ..., **options}` the model was built from.
    """

    offsets: Tensor
    scale: Tensor

    def __init__(self, model: AtomicModel, offsets: Tensor, scale: float, model_spec: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.model_spec = model, model_spec
        self.cutoff = model.cutoff
        self.crystal = getattr(model, "crystal", None)
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        out: dict[str, Any] = dict(self.model(graph, edges))
        per_atom = (
            out[keys.ATOMIC_ENERGY].to(torch.float64) * self.scale + self.offsets[self.model.species_index(graph)]
        )
        energy = sum_by_graph(per_atom, graph)
        return out | {keys.ENERGY: energy, keys.PARTS: {self.model.name: energy}}

    def feature_sizes(self) -> list[int]:
        return [self.model.n_features]

    def only_sums(self) -> list[bool]:
        return [self.model.only_sums] * self.model.n_features

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        draws = getattr(self.model, "posterior_draws", None)
        if draws is None:
            return []
        return [NetworkPotential(m, self.offsets, float(self.scale), self.model_spec).eval() for m in draws(n, seed)]

    def spec(self) -> dict[str, Any]:
        return {"kind": "network", "model": self.model_spec}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> NetworkPotential:
        """Untrained potential of `spec()`; weights and offsets come from a state dictionary."""
        model = build_model(spec["model"])
        return cls(model, torch.zeros(len(model.species)), 1.0, spec["model"])
