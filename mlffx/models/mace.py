"""MACE: higher-body-order equivariant message passing (Batatia et al., NeurIPS 2022; arXiv:2206.07697).

The equations of mace-torch's ScaleShiftMACE without its pair repulsion: with the same weights
(`mlffx.models.mace_import`) energies and forces are the same. Only the order of operations differs, to do less work.
"""

from __future__ import annotations

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
from mlffx.models.irreps import Irrep, SphericalHarmonics, dimension, natural
from mlffx.models.radial import BesselBasis
from mlffx.models.symmetric_contraction import SymmetricContraction


class SpeciesLinear(nn.Module):
    """Mixes channels within each irrep by a matrix for each species: weight [n_irreps, n_species, n_in, n_out]."""

    def __init__(self, irreps: Sequence[Irrep], n_species: int, n_channels: int) -> None:
        super().__init__()
        self.sizes, self.scale = [ir.dim for ir in irreps], 1.0 / math.sqrt(n_channels * n_species)
        self.weight = nn.Parameter(torch.randn(len(self.sizes), n_species, n_channels, n_channels))

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[n_atoms, m, c], species index [n_atoms] -> [n_atoms, m, c]."""
        weight = self.weight * self.scale
        parts = []
        for part, w in zip(x.split(self.sizes, dim=1), weight, strict=True):
            parts.append(part @ (w[0] if len(w) == 1 else w.index_select(0, species)))
        return torch.cat(parts, dim=1)


class FirstLayer(nn.Module):
    """Messages from species alone, their symmetric contraction, and the species' own features.

    Args:
        self_connection: `residual` adds a linear map of the embedding of the species to the new scalars; `message`
        mixes the
            channels of the message by the species instead.
    """

    def __init__(
        self,
        n_species: int,
        n_channels: int,
        edge_l_max: int,
        irreps_out: Sequence[Irrep],
        n_radial: int,
        radial_hidden: Sequence[int],
        correlation: int,
        self_connection: str,
    ) -> None:
        super().__init__()
        edge_irreps = natural(edge_l_max)
        self.up = IrrepLinear([Irrep(0, 1)], n_channels, n_channels)
        self.radial = RadialNetwork(n_radial, radial_hidden)
        self.convolution = SpeciesConvolution(n_species, edge_l_max, n_channels, self.radial.n_out)
        self.mix = PathLinear(self.convolution.n_paths, n_channels, [n_channels] * len(edge_irreps))
        residual = self_connection == "residual"
        self.skip = SpeciesLinear([Irrep(0, 1)] if residual else edge_irreps, n_species, n_channels)
        self.residual = residual
        self.contraction = SymmetricContraction(edge_irreps, irreps_out, correlation, n_channels, n_species)
        self.out = IrrepLinear(irreps_out, n_channels, n_channels)

    def forward(self, embedding: Tensor, species: Tensor, edges: EdgeTable, mean_neighbours: float) -> Tensor:
        """Embedding of each species [n_species, c] -> features [n_atoms, m, c]."""
        up = self.up(embedding.unsqueeze(1)).squeeze(1)
        hidden, mixing = self.radial(edges.radial), self.mix.scaled(1.0 / mean_neighbours)
        message = torch.cat(self.convolution(up, mixing, hidden, self.radial.scale_out, species, edges), dim=1)
        if not self.residual:
            return self.out(self.contraction(self.skip(message, species), species))
        new = self.out(self.contraction(message, species))
        kinds = torch.arange(len(embedding), device=species.device)
        own = self.skip(embedding.unsqueeze(1), kinds).index_select(0, species)
        return new + nn.functional.pad(own, (0, 0, 0, new.shape[1] - 1))


class Layer(nn.Module):
    """Messages from the neighbours' features, their symmetric contraction, and a residual connection by species."""

    def __init__(
        self,
        n_species: int,
        n_channels: int,
        edge_l_max: int,
        irreps_in: Sequence[Irrep],
        irreps_out: Sequence[Irrep],
        n_radial: int,
        radial_hidden: Sequence[int],
        correlation: int,
    ) -> None:
        super().__init__()
        edge_irreps = natural(edge_l_max)
        self.m_out = dimension(irreps_out)
        self.up = IrrepLinear(irreps_in, n_channels, n_channels)
        self.radial = RadialNetwork(n_radial, radial_hidden)
        self.convolution = Convolution(irreps_in, edge_l_max, edge_irreps, n_channels, self.radial.n_out)
        self.mix = PathLinear(self.convolution.n_paths, n_channels, [n_channels] * len(edge_irreps))
        self.skip = SpeciesLinear(irreps_out, n_species, n_channels)
        self.contraction = SymmetricContraction(edge_irreps, irreps_out, correlation, n_channels, n_species)
        self.out = IrrepLinear(irreps_out, n_channels, n_channels)

    def forward(self, x: Tensor, species: Tensor, edges: EdgeTable, mean_neighbours: float) -> Tensor:
        """Features [n_atoms, m, c] -> [n_atoms, m_out, c]."""
        messages = self.convolution(self.up(x), self.radial(edges.radial), self.radial.scale_out, edges)
        message = torch.cat(self.mix(messages, 1.0 / mean_neighbours), dim=1)
        return self.out(self.contraction(message, species)) + self.skip(x[:, : self.m_out], species)


@MODELS.register("mace")
class MACE(AtomicModel):
    """MACE with hidden irreps 0e + 1o + ... of equal channels.

    Args:
        species: atomic numbers.
        cutoff: A.
        n_channels: channels of every irrep.
        l_max: highest angular momentum of the features passed between layers (0: invariant, 1: 0e + 1o, ...).
        edge_l_max: of the spherical harmonics and messages.
        correlation: highest degree of the product basis; body order minus one.
        n_interactions: layers.
        n_radial: Bessel functions.
        envelope_power: p of the polynomial envelope.
        radial_hidden: hidden widths of the radial networks.
        readout_hidden: width of the readout of the last layer; the earlier ones are linear.
        mean_neighbours: divides message sums.
        self_connection: of the first layer, `residual` or `message` (mace-torch's RealAgnosticInteractionBlock).
    """

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float = 4.0,
        n_channels: int = 32,
        l_max: int = 1,
        edge_l_max: int = 3,
        correlation: int = 3,
        n_interactions: int = 2,
        n_radial: int = 8,
        envelope_power: int = 5,
        radial_hidden: Sequence[int] = (64, 64, 64),
        readout_hidden: int = 16,
        mean_neighbours: float = 40.0,
        self_connection: str = "residual",
    ) -> None:
        super().__init__(species, cutoff)
        n_species = len(self.species)
        self.n_channels, self.mean_neighbours = n_channels, float(mean_neighbours)
        self.n_features = n_channels * n_interactions
        self.embedding = nn.Parameter(torch.randn(n_species, n_channels))
        self.basis = BesselBasis(n_radial, cutoff, envelope_power)
        self.harmonics = SphericalHarmonics(edge_l_max)
        features, scalars = natural(l_max), natural(0)
        shape = (n_radial, radial_hidden, correlation)
        last = n_interactions == 1
        self.first = FirstLayer(
            n_species, n_channels, edge_l_max, scalars if last else features, *shape, self_connection
        )
        self.layers = nn.ModuleList(
            Layer(n_species, n_channels, edge_l_max, features, scalars if k == n_interactions - 1 else features, *shape)
            for k in range(1, n_interactions)
        )
        self.linear_readouts = nn.ParameterList(
            nn.Parameter(torch.randn(n_channels)) for _ in range(n_interactions - 1)
        )
        self.readout_in = nn.Parameter(torch.randn(n_channels, readout_hidden))
        self.readout_out = nn.Parameter(torch.randn(readout_hidden))

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        species = self.species_index(graph)
        table = EdgeTable.of(edges, len(species), self.cutoff, self.basis, self.harmonics, self.dtype)
        embedding = self.embedding / math.sqrt(len(self.species))
        x = self.first(embedding, species, table, self.mean_neighbours)
        scalars = [x[:, 0]]
        for layer in self.layers:
            x = layer(x, species, table, self.mean_neighbours)
            scalars.append(x[:, 0])
        return torch.cat(scalars, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        *earlier, last = features.split(self.n_channels, dim=-1)
        hidden = nn.functional.silu(last @ (self.readout_in / math.sqrt(self.n_channels))) * SILU_SCALE
        energy = hidden @ (self.readout_out / math.sqrt(len(self.readout_out)))
        for x, weight in zip(earlier, self.linear_readouts, strict=True):
            energy = energy + x @ (weight / math.sqrt(self.n_channels))
        return energy
