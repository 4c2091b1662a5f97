"""PaiNN: equivariant message passing with scalar and vector features (Schuett, Unke, Gastegger, ICML 2021).

One deliberate change: the update uses squared norms and scalar products of vector features instead of |Vv|. The norm's
second derivative does not exist where the vectors vanish, and at the sites of a perfect crystal they do.

The filters are linear in the radial functions, W(r) = sum_k R_k(r) W_k. So the sums over neighbours are taken for each
R_k and each R_k r/|r| first, as products of matrices, and weighted by W_k after (`mlffx.models.neighbourhood`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data.graph import Edges
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.neighbourhood import Neighbourhood
from mlffx.models.radial import BesselBasis, segment_sum


def perceptron(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))


class FirstMessage(nn.Module):
    """From the neighbours' elements: they send one of `n_species` messages, and their vectors are still zero."""

    def __init__(self, n_hidden: int, n_radial: int) -> None:
        super().__init__()
        self.neighbour = perceptron(n_hidden, n_hidden, 2 * n_hidden)
        self.filters = nn.Parameter(torch.empty(2, n_radial, n_hidden).uniform_(-1, 1) / n_radial**0.5)

    def forward(self, embedding: Tensor, summed: Tensor) -> tuple[Tensor, Tensor]:
        """Changes of scalars [n_atoms, n_hidden] and vectors [n_atoms, 3, n_hidden].

        Args:
            embedding: of each element, [n_species, n_hidden].
            summed: R_k and R_k r/|r| over the neighbours of each element, [n_atoms, 1 + 3, n_radial * n_species].
        """
        n_hidden = embedding.shape[1]
        sent = self.neighbour(embedding).reshape(-1, 2, n_hidden)
        to_scalar, to_vector = (self.filters.unsqueeze(2) * sent.transpose(0, 1).unsqueeze(1)).flatten(1, 2)
        radial, angular = summed.split([1, 3], dim=1)
        return radial.squeeze(1) @ to_scalar, angular @ to_vector


class Message(nn.Module):
    """From the neighbours' scalars and vectors."""

    def __init__(self, n_hidden: int, n_radial: int) -> None:
        super().__init__()
        self.neighbour = perceptron(n_hidden, n_hidden, 3 * n_hidden)
        self.filters = nn.Parameter(torch.empty(3, n_radial, n_hidden).uniform_(-1, 1) / n_radial**0.5)

    def forward(
        self, s: Tensor, v: Tensor, near: Neighbourhood, radial: Tensor, angular: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Changes of s [n_atoms, n_hidden] and v [n_atoms, 3, n_hidden]; `radial`, `angular` are blocks of `near`."""
        (n_atoms, n_hidden), n_radial = s.shape, self.filters.shape[1]
        to_scalar, to_vector, gate = self.neighbour(s).split(n_hidden, dim=-1)
        sent = torch.cat([to_scalar.unsqueeze(1), v * gate.unsqueeze(1)], dim=1).flatten(1)
        received = near.sum(radial, sent).reshape(n_atoms, n_radial, 4, n_hidden)
        from_vector = near.sum(angular, to_vector).reshape(n_atoms, 3, n_radial, n_hidden)
        scalar, vector, directed = self.filters.unsqueeze(2).unbind(0)
        ds, dv = (received * torch.cat([scalar, vector.expand(-1, 3, -1)], dim=1)).sum(dim=1).split([1, 3], dim=1)
        return ds.squeeze(1), dv + (from_vector * directed.squeeze(1)).sum(dim=2)


class Update(nn.Module):
    """Of each atom by itself: scalars and vectors of one atom act on each other."""

    def __init__(self, n_hidden: int, last: bool) -> None:
        super().__init__()
        self.last = last  # the vectors of the last layer are not read again
        self.mix = nn.Linear(n_hidden, 2 * n_hidden, bias=False)
        self.gates = perceptron(2 * n_hidden, n_hidden, (2 if last else 3) * n_hidden)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.mix(v).split(s.shape[1], dim=-1)
        shift, product, *stretch = self.gates(torch.cat([s, (right * right).sum(dim=1)], dim=-1)).split(
            s.shape[1], dim=-1
        )
        s = s + shift + product * (left * right).sum(dim=1)
        return s, v if self.last else v + left * stretch[0].unsqueeze(1)


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
        self.first = FirstMessage(n_hidden, n_radial)
        self.messages = nn.ModuleList(Message(n_hidden, n_radial) for _ in range(n_interactions - 1))
        self.updates = nn.ModuleList(Update(n_hidden, last=k == n_interactions - 1) for k in range(n_interactions))
        self.head = perceptron(n_hidden, n_hidden // 2, 1)

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        near, species = Neighbourhood(graph, edges), self.species_index(graph)
        waves = self.basis(edges.lengths.to(self.dtype)) / self.norm
        unit = (edges.vectors / edges.lengths.unsqueeze(-1)).to(self.dtype)
        directed = (unit.unsqueeze(-1) * waves.unsqueeze(1)).flatten(1)
        element = edges.receiver * len(self.species) + species[edges.sender]
        summed = segment_sum(torch.cat([waves, directed], dim=1), element, len(species) * len(self.species))
        summed = summed.reshape(len(species), len(self.species), 4, -1).permute(0, 2, 3, 1).flatten(2)
        ds, v = self.first(self.embedding.weight, summed)
        radial, angular = near.weights(waves), near.weights(directed)
        s, v = self.updates[0](self.embedding(species) + ds, v)
        layers = [s]
        for message, update in zip(self.messages, self.updates[1:], strict=True):
            ds, dv = message(s, v, near, radial, angular)
            s, v = update(s + ds, v + dv)
            layers.append(s)
        return torch.cat(layers, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        last = features[:, -self.embedding.embedding_dim :]
        return self.head(last).squeeze(-1)
