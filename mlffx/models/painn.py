"""PaiNN: equivariant message passing with scalar and vector features (Schuett, Unke, Gastegger, ICML 2021).

One deliberate change: the update uses squared norms and scalar products of vector features instead of |Vv|. The norm's
second derivative does not exist where the vectors vanish, and at the sites of a perfect crystal they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data.graph import Edges
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.radial import BesselBasis, segment_sum


class Interaction(nn.Module):
    """Message and update: scalars s [n_atoms, n_hidden], vectors v [n_atoms, 3, n_hidden]."""

    def __init__(self, n_hidden: int, n_radial: int, first: bool, last: bool) -> None:
        super().__init__()
        self.n_hidden, self.first, self.last = n_hidden, first, last
        n_filters = 2 if first else 3  # vectors are zero before the first message: nothing to propagate
        self.neighbour = nn.Sequential(
            nn.Linear(n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_filters * n_hidden)
        )
        self.filters = nn.Linear(n_radial, n_filters * n_hidden, bias=False)
        self.mix = nn.Linear(n_hidden, 2 * n_hidden, bias=False)
        n_gates = 2 if last else 3  # the vectors of the last layer are not read again
        self.update = nn.Sequential(
            nn.Linear(2 * n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_gates * n_hidden)
        )

    def forward(
        self, s: Tensor, v: Tensor | None, edges: Edges, radial: Tensor, unit: Tensor, norm: float
    ) -> tuple[Tensor, Tensor]:
        n = self.n_hidden
        weights = self.neighbour(s)[edges.sender] * self.filters(radial)
        ds = segment_sum(weights[:, :n], edges.receiver, len(s)) / norm
        message = unit.unsqueeze(-1) * weights[:, None, n : 2 * n]
        if v is not None:
            message = message + v[edges.sender] * weights[:, None, 2 * n :]
        dv = segment_sum(message, edges.receiver, len(s)) / norm
        s, v = s + ds, dv if v is None else v + dv
        left, right = self.mix(v).split(n, dim=-1)
        squared = (right * right).sum(dim=1)
        gates = self.update(torch.cat([s, squared], dim=-1))
        s = s + gates[:, :n] + gates[:, n : 2 * n] * (left * right).sum(dim=1)
        if not self.last:
            v = v + left * gates[:, None, 2 * n :]
        return s, v


@MODELS.register("painn")
class PaiNN(AtomicModel):
    """Polarisable atom interaction network.

    Args:
        species: atomic numbers.
        cutoff: A.
        n_hidden: width of scalar and vector features.
        n_interactions: message-passing layers; the receptive field is n_interactions * cutoff.
        n_radial: Bessel functions.
        mean_neighbours: divides message sums by its square root.
    """

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float = 4.0,
        n_hidden: int = 64,
        n_interactions: int = 2,
        n_radial: int = 8,
        mean_neighbours: float = 40.0,
    ) -> None:
        super().__init__(species, cutoff)
        self.norm = float(mean_neighbours) ** 0.5
        self.n_features = n_hidden * n_interactions
        self.embedding = nn.Embedding(len(self.species), n_hidden)
        self.basis = BesselBasis(n_radial, cutoff)
        self.interactions = nn.ModuleList(
            Interaction(n_hidden, n_radial, first=k == 0, last=k == n_interactions - 1) for k in range(n_interactions)
        )
        self.head = nn.Sequential(nn.Linear(n_hidden, n_hidden // 2), nn.SiLU(), nn.Linear(n_hidden // 2, 1))

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        s = self.embedding(self.species_index(graph))
        radial = self.basis(edges.lengths).to(self.dtype)
        unit = (edges.vectors / edges.lengths.unsqueeze(-1)).to(self.dtype)
        v, layers = None, []
        for interaction in self.interactions:
            s, v = interaction(s, v, edges, radial, unit, self.norm)
            layers.append(s)
        return torch.cat(layers, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        last = features[:, -self.embedding.embedding_dim :]
        return self.head(last).squeeze(-1)
