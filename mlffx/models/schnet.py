"""SchNet: continuous-filter convolutions on invariant features.

Schuett et al., NIPS 2017; J. Chem. Phys. 148, 241722 (2018). The filter W(r) = W_2 ssp(W_1 g(r) + b_1) + b_2 is
multiplied by a smooth envelope, so that energies are twice continuously differentiable at the cutoff. Its last layer is
linear: the sums over neighbours are taken for each hidden function of the filter network first, and weighted by W_2
after (`mlffx.models.neighbourhood`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data.graph import Edges
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.neighbourhood import Neighbourhood
from mlffx.models.radial import GaussianBasis, polynomial_envelope


class ShiftedSoftplus(nn.Module):
    """ln(1 + e^x) - ln 2."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(x) - math.log(2.0)


class Convolution(nn.Module):
    """One interaction block: s_i + dense(ssp(dense(sum_j dense(s_j) * W(r_ij))))."""

    def __init__(self, n_hidden: int, n_radial: int, n_filter: int) -> None:
        super().__init__()
        self.filter_in = nn.Sequential(nn.Linear(n_radial, n_filter), ShiftedSoftplus())
        self.filter_out = nn.Linear(n_filter, n_hidden)
        self.before = nn.Linear(n_hidden, n_hidden, bias=False)
        self.after = nn.Sequential(nn.Linear(n_hidden, n_hidden), ShiftedSoftplus(), nn.Linear(n_hidden, n_hidden))

    def forward(self, s: Tensor, near: Neighbourhood, radial: Tensor, envelope: Tensor) -> Tensor:
        """s: [n_atoms, n_hidden]; radial: [n_edges, n_radial]; envelope: [n_edges, 1], normalisation included."""
        hidden = torch.cat([self.filter_in(radial) * envelope, envelope], dim=1)  # the last function carries the bias
        filters = torch.cat([self.filter_out.weight.T, self.filter_out.bias.unsqueeze(0)])
        received = near.sum(near.weights(hidden), self.before(s))
        return s + self.after((received * filters).sum(dim=1))


@MODELS.register("schnet")
class SchNet(AtomicModel):
    """Continuous-filter convolutional network.

    Args:
        species: atomic numbers.
        cutoff: A.
        n_hidden: width of the atoms' features.
        n_interactions: convolutions; the receptive field is n_interactions * cutoff.
        n_radial: Gaussians.
        n_filter: width of the filter networks.
        mean_neighbours: divides sums over neighbours by its square root.
    """

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float = 4.0,
        n_hidden: int = 64,
        n_interactions: int = 3,
        n_radial: int = 20,
        n_filter: int = 32,
        mean_neighbours: float = 40.0,
    ) -> None:
        super().__init__(species, cutoff)
        self.norm = float(mean_neighbours) ** 0.5
        self.n_features = n_hidden * n_interactions
        self.embedding = nn.Embedding(len(self.species), n_hidden)
        self.basis = GaussianBasis(n_radial, cutoff)
        self.convolutions = nn.ModuleList(Convolution(n_hidden, n_radial, n_filter) for _ in range(n_interactions))
        self.head = nn.Sequential(nn.Linear(n_hidden, n_hidden // 2), ShiftedSoftplus(), nn.Linear(n_hidden // 2, 1))
        for layer in self.modules():  # as in the paper; with torch's default the energy hardly depends on the positions
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        near = Neighbourhood(graph, edges)
        lengths = edges.lengths.to(self.dtype)
        radial = self.basis(lengths)
        envelope = polynomial_envelope(lengths / self.cutoff).unsqueeze(-1) / self.norm
        s, layers = self.embedding(self.species_index(graph)), []
        for convolution in self.convolutions:
            s = convolution(s, near, radial, envelope)
            layers.append(s)
        return torch.cat(layers, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        return self.head(features[:, -self.embedding.embedding_dim :]).squeeze(-1)
