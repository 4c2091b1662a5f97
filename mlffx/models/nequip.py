"""NequIP: E(3)-equivariant message passing with gated nonlinearities (Batzner et al., Nat. Commun. 13, 2453, 2022).

The equations of nequip 0.19 (with its default options) up to constant factors that the weights take up, computed in
the order that `convolution.py` explains. Irreps that no later layer can turn into a scalar are left out: their
weights could never get a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data.graph import Edges
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.convolution import (
    SILU_SCALE,
    Convolution,
    IrrepLinear,
    PathLinear,
    RadialNetwork,
    SpeciesConvolution,
)
from mlffx.models.edge_table import EdgeTable
from mlffx.models.irreps import Irrep, SphericalHarmonics, natural
from mlffx.models.radial import BesselBasis

TANH_SCALE = 1.5925374197228312  # 1/sqrt(<tanh(z)^2>) for normal z
SCALAR = Irrep(0, 1)


def layer_irreps(l_max: int, parity: bool, n_interactions: int) -> list[list[Irrep]]:
    """Irreps of the features after each layer: those that messages can make and that still matter to the energy."""
    both = [Irrep(l, p) for l in range(l_max + 1) for p in (1, -1)]
    allowed = both if parity else natural(l_max)
    edges = natural(l_max)

    def reached(start: Sequence[Irrep]) -> set[Irrep]:
        return {c for a in start for b in edges for c in a.couples(b)}

    made, states = [SCALAR], []
    for _ in range(n_interactions):
        made = [ir for ir in allowed if ir in reached(made)]
        states.append(made)
    useful = [SCALAR]
    for k in reversed(range(n_interactions)):
        states[k] = [ir for ir in states[k] if ir in useful]
        useful = [ir for ir in both if ir in reached(states[k])]  # coupling to a harmonic can be undone by the same one
    return states


class Gate(nn.Module):
    """Scalars through silu (even) or tanh (odd); every other irrep times an own even scalar through silu.

    Attributes:
        n_out: channels that the linear layer before must give each irrep: 0e carries the gates too.
    """

    def __init__(self, irreps: Sequence[Irrep], n_channels: int) -> None:
        super().__init__()
        self.irreps, self.n_channels = list(irreps), n_channels
        self.n_gates = sum(ir.l > 0 for ir in irreps)
        self.n_out = [n_channels * (1 + self.n_gates) if ir == SCALAR else n_channels for ir in irreps]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Per irrep [n_atoms, 2l+1, n_out] -> [n_atoms, m, n_channels]; 0e comes first."""
        scalars, *gates = (nn.functional.silu(parts[0]) * SILU_SCALE).split(self.n_channels, dim=-1)
        out, gate = [scalars], iter(gates)
        for ir, part in zip(self.irreps[1:], parts[1:], strict=True):
            out.append(part * next(gate) if ir.l > 0 else torch.tanh(part) * TANH_SCALE)
        return torch.cat(out, dim=1)


class SelfConnection(nn.Module):
    """Mixes the channels of each irrep by a matrix that is linear in the embedding of the species."""

    def __init__(
        self, irreps_in: Sequence[Irrep], irreps_out: Sequence[Irrep], n_channels: int, n_out: Sequence[int]
    ) -> None:
        super().__init__()
        self.sizes = [ir.dim for ir in irreps_in]
        self.sources = [irreps_in.index(ir) if ir in irreps_in else None for ir in irreps_out]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(n_channels, n_channels, out))  # embedding, in, out
            for source, out in zip(self.sources, n_out, strict=True)
            if source is not None
        )

    def forward(self, x: Tensor, embedding: Tensor, species: Tensor) -> list[Tensor | None]:
        """Features and embedding of each species [n_species, c] -> per output irrep [n_atoms, 2l+1, n_out], or None."""
        parts, weights = x.split(self.sizes, dim=1), iter(self.weights)
        out: list[Tensor | None] = []
        for source in self.sources:
            if source is None:
                out.append(None)
                continue
            matrix = torch.tensordot(embedding / embedding.shape[1], next(weights), dims=1)
            out.append(parts[source] @ (matrix[0] if len(matrix) == 1 else matrix.index_select(0, species)))
        return out


class FirstLayer(nn.Module):
    """Messages that depend on the species of the neighbours alone, and the gate."""

    def __init__(
        self, n_species: int, irreps: Sequence[Irrep], l_max: int, n_channels: int, n_radial: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.gate = Gate(irreps, n_channels)
        self.up = nn.Parameter(torch.randn(n_channels, n_channels))
        self.radial = RadialNetwork(n_radial, hidden)
        self.convolution = SpeciesConvolution(n_species, max(ir.l for ir in irreps), n_channels, self.radial.n_out)
        self.mix = PathLinear(self.convolution.n_paths, n_channels, self.gate.n_out)

    def forward(self, embedding: Tensor, species: Tensor, edges: EdgeTable, scale: float) -> Tensor:
        up = embedding @ (self.up / math.sqrt(len(self.up)))
        hidden = self.radial(edges.radial)
        return self.gate(self.convolution(up, self.mix.scaled(scale), hidden, self.radial.scale_out, species, edges))


class Layer(nn.Module):
    """Messages from the features of the neighbours, self-connection, gate."""

    def __init__(
        self,
        irreps_in: Sequence[Irrep],
        irreps: Sequence[Irrep],
        l_max: int,
        n_channels: int,
        n_radial: int,
        hidden: Sequence[int],
    ) -> None:
        super().__init__()
        self.gate = Gate(irreps, n_channels)
        self.up = IrrepLinear(irreps_in, n_channels, n_channels)
        self.radial = RadialNetwork(n_radial, hidden)
        self.convolution = Convolution(irreps_in, l_max, irreps, n_channels, self.radial.n_out)
        self.mix = PathLinear(self.convolution.n_paths, n_channels, self.gate.n_out)
        self.own = SelfConnection(irreps_in, irreps, n_channels, self.gate.n_out)

    def forward(self, x: Tensor, embedding: Tensor, species: Tensor, edges: EdgeTable, scale: float) -> Tensor:
        sums = self.convolution(self.up(x), self.radial(edges.radial), self.radial.scale_out, edges)
        own = self.own(x, embedding, species)
        mixed = self.mix(sums, scale)
        return self.gate([m if o is None else m + o for m, o in zip(mixed, own, strict=True)])


@MODELS.register("nequip")
class NequIP(AtomicModel):
    """NequIP with the same channels in every irrep.

    Args:
        species: atomic numbers.
        cutoff: A.
        n_channels: channels of every irrep.
        l_max: highest angular momentum of features and spherical harmonics.
        parity: also irreps of unnatural parity (0o, 1e, ...); they matter from four layers on.
        n_interactions: layers.
        n_radial: Bessel functions.
        envelope_power: p of the polynomial envelope.
        radial_hidden: hidden widths of the radial networks.
        mean_neighbours: divides message sums by its square root.
    """

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float = 4.0,
        n_channels: int = 32,
        l_max: int = 1,
        parity: bool = True,
        n_interactions: int = 3,
        n_radial: int = 8,
        envelope_power: int = 6,
        radial_hidden: Sequence[int] = (64,),
        mean_neighbours: float = 40.0,
    ) -> None:
        super().__init__(species, cutoff)
        self.scale = 1.0 / math.sqrt(mean_neighbours)
        self.n_channels, self.n_features = n_channels, n_channels * n_interactions
        self.embedding = nn.Parameter(torch.randn(len(self.species), n_channels))
        self.basis = BesselBasis(n_radial, cutoff, envelope_power)
        states = layer_irreps(l_max, parity, n_interactions)
        l_max = max(ir.l for ir in states[0])  # a single layer makes scalars alone
        self.harmonics = SphericalHarmonics(l_max)
        shape = (n_channels, n_radial, radial_hidden)
        self.first = FirstLayer(len(self.species), states[0], l_max, *shape)
        self.layers = nn.ModuleList(Layer(a, b, l_max, *shape) for a, b in itertools.pairwise(states))
        self.head = nn.Parameter(torch.randn(n_channels))

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        species = self.species_index(graph)
        table = EdgeTable.of(edges, len(species), self.cutoff, self.basis, self.harmonics, self.dtype)
        x = self.first(self.embedding, species, table, self.scale)
        scalars = [x[:, 0]]
        for layer in self.layers:
            x = layer(x, self.embedding, species, table, self.scale)
            scalars.append(x[:, 0])
        return torch.cat(scalars, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        return features[:, -self.n_channels :] @ (self.head / math.sqrt(self.n_channels))
