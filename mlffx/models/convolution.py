"""Equivariant convolutions, the core of MACE and NequIP, arranged so that the sum over neighbours comes first.

A message is m_i = sum_j R_p(r_ij) (x_j x Y(r_ij))_p over paths p = (irrep of the neighbour, l of the edge -> output
irrep). R is a network of the distance, different for each path and channel. Clebsch-Gordan coefficients and channel
mixing are linear and the same for every edge, so they act on the sums over neighbours, once an atom instead of once
an edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlffx.models.edge_table import EdgeTable
from mlffx.models.irreps import Constant, Irrep, coupling, natural

SILU_SCALE = 1.6765324703310907  # 1/sqrt(<silu(z)^2>) for normal z: keeps the second moment at one


class _SiLU(torch.autograd.Function):
    """silu whose second derivative costs a few passes over memory; torch writes it out in a dozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.silu(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SiLUGradient.apply(gradient, *ctx.saved_tensors)


class _SiLUGradient(torch.autograd.Function):
    """gradient * silu'(x)."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, x)
        return torch.ops.aten.silu_backward(gradient, x)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor]:
        gradient, x = ctx.saved_tensors
        s = torch.sigmoid(x)  # silu'' = s (1 - s) (2 + x - 2 x s)
        bend = torch.addcmul(x, x, s, value=-2).add_(2)
        return _SiLUGradient.apply(outer, x), torch.ops.aten.sigmoid_backward(outer * gradient, s) * bend


class RadialNetwork(nn.Module):
    """Hidden layers of the network that makes path weights from the radial basis; no biases, so zero at the cutoff.

    Weights are normal with unit variance and scaled in use by 1/sqrt(fan in), as in e3nn: learning rates carry over.
    """

    def __init__(self, n_radial: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [n_radial, *hidden]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in itertools.pairwise(sizes))
        self.n_out = sizes[-1]
        # of the activations before the next weights, which `path_weights` takes along
        self.scale_out = SILU_SCALE if hidden else 1.0

    def forward(self, radial: Tensor) -> Tensor:
        """[..., n_radial] -> [..., n_out], to be multiplied by `scale_out`."""
        scale = 1.0
        for weight in self.weights:
            radial = _SiLU.apply(radial @ (weight * (scale / math.sqrt(len(weight)))))
            scale = SILU_SCALE
        return radial


class IrrepLinear(nn.Module):
    """Mixes channels within each irrep: weight [n_in, n_out] for each, scaled in use by 1/sqrt(n_in)."""

    def __init__(self, irreps: Sequence[Irrep], n_in: int, n_out: int) -> None:
        super().__init__()
        self.sizes, self.scale = [ir.dim for ir in irreps], 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.randn(len(self.sizes), n_in, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """[n_atoms, m, n_in] -> [n_atoms, m, n_out]."""
        weight = self.weight * self.scale
        return torch.cat([part @ w for part, w in zip(x.split(self.sizes, dim=1), weight, strict=True)], dim=1)


class PathLinear(nn.Module):
    """Mixes the paths and channels that end in each irrep.

    Weights [n_paths * n_in, n_out] for each irrep, scaled in use by 1/sqrt(n_paths * n_in).
    """

    def __init__(self, n_paths: Sequence[int], n_in: int, n_out: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(n * n_in, out)) for n, out in zip(n_paths, n_out, strict=True)
        )

    def scaled(self, scale: float) -> list[Tensor]:
        """The matrices, times `scale`."""
        return [w * (scale / math.sqrt(len(w))) for w in self.weights]

    def forward(self, parts: Sequence[Tensor], scale: float = 1.0) -> list[Tensor]:
        """Per irrep [n_atoms, 2l+1, paths * n_in] -> [n_atoms, 2l+1, n_out], times `scale`."""
        return [part @ weight for part, weight in zip(parts, self.scaled(scale), strict=True)]


class Convolution(nn.Module):
    """The sum over neighbours for features of any irreps.

    For each path, component m1 of the features and component m2 of the harmonics,
    D[i, m2, c] = sum_j Y[ij, m2] (R[ij, c] x[j, m1, c]) is a batched matrix product; a constant matrix then couples
    (m1, m2) -> m3.

    Args:
        irreps_in: irreps of the features.
        l_max: of the spherical harmonics.
        irreps_out: irreps to keep.
        n_channels: channels of the features.
        n_hidden: width of the last layer of the radial network.

    Attributes:
        paths: (input irrep, edge irrep, output irrep) in the order of the columns of `weight`.
        irreps_out: those of `irreps_out` that a path ends in.
        n_paths: number of paths that end in each of them.
    """

    def __init__(
        self, irreps_in: Sequence[Irrep], l_max: int, irreps_out: Sequence[Irrep], n_channels: int, n_hidden: int
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.l_sizes = [2 * l + 1 for l in range(l_max + 1)]
        self.paths = [
            (a, b, c) for a, b in itertools.product(irreps_in, natural(l_max)) for c in a.couples(b) if c in irreps_out
        ]
        starts = dict(zip(irreps_in, itertools.accumulate((ir.dim for ir in irreps_in), initial=0), strict=False))
        self.components = [range(starts[a], starts[a] + a.dim) for a, _, _ in self.paths]
        self.irreps_out = [ir for ir in irreps_out if any(path[2] == ir for path in self.paths)]
        self.n_paths = [sum(path[2] == ir for path in self.paths) for ir in self.irreps_out]
        self.weight = nn.Parameter(torch.randn(n_hidden, len(self.paths) * n_channels))
        self.couplings = Constant(self._couplings())

    def _couplings(self) -> Tensor:
        """Constant matrix from (path, m1, m2) to (output irrep, m3, path)."""
        rows = []
        for ir, n in zip(self.irreps_out, self.n_paths, strict=True):
            ending = [k for k, path in enumerate(self.paths) if path[2] == ir]
            blocks = [
                torch.zeros(ir.dim, n, a.dim * b.dim, dtype=torch.float64) for a, b, _ in self.paths
            ]  # [m3, place among the paths that end here, (m1, m2)]
            for place, k in enumerate(ending):
                blocks[k][:, place] = coupling(*self.paths[k]).flatten(0, 1).T
            rows.append(torch.cat(blocks, dim=2).flatten(0, 1))
        return torch.cat(rows)

    def forward(self, x: Tensor, hidden: Tensor, scale: float, edges: EdgeTable) -> list[Tensor]:
        """Sums over neighbours.

        Args:
            x: features, [n_atoms, m, c].
            hidden: last hidden layer of the radial network, [n_pairs, n_hidden].
            scale: of `hidden`.
            edges: harmonics and neighbours.

        Returns:
            for each output irrep [n_atoms, 2l + 1, paths * c].
        """
        c = self.n_channels
        weights = (hidden @ (self.weight * (scale / math.sqrt(len(self.weight))))).split(c, dim=-1)
        harmonics = edges.harmonics.split(self.l_sizes, dim=1)
        neighbours = [edges.gather(component) for component in x.unbind(1)]
        sums = [
            harmonics[path[1].l] @ (weight * neighbours[m])
            for path, weight, components in zip(self.paths, map(edges.spread, weights), self.components, strict=True)
            for m in components
        ]
        coupled = self.couplings.like(x) @ torch.cat(sums, dim=1)
        sizes = [ir.dim * n for ir, n in zip(self.irreps_out, self.n_paths, strict=True)]
        parts = zip(coupled.split(sizes, dim=1), self.irreps_out, self.n_paths, strict=True)
        return [part.reshape(len(x), ir.dim, n * c) for part, ir, n in parts]


class SpeciesConvolution(nn.Module):
    """The sum over neighbours in the first layer, where features depend on the species alone.

    The path weights are linear in the hidden units of the radial network, so those are summed over the neighbours of
    each species: G[i, s, m, h] = sum_(j of species s) Y[ij, m] hidden[ij, h]. All the rest acts on G.
    """

    def __init__(self, n_species: int, l_max: int, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.n_species, self.n_channels = n_species, n_channels
        self.irreps_out = natural(l_max)
        self.paths = [(Irrep(0, 1), ir, ir) for ir in self.irreps_out]
        self.n_paths = [1] * len(self.paths)
        self.weight = nn.Parameter(torch.randn(n_hidden, len(self.paths) * n_channels))

    def forward(
        self,
        features: Tensor,
        mixing: Sequence[Tensor],
        hidden: Tensor,
        scale: float,
        species: Tensor,
        edges: EdgeTable,
    ) -> list[Tensor]:
        """Sums over neighbours with their channels mixed.

        Args:
            features: of each species, [n_species, c].
            mixing: matrix [c, n_out] for each output irrep.
            hidden, scale, edges: as in `Convolution`.
            species: index of each atom, [n_atoms].

        Returns:
            for each output irrep [n_atoms, 2l + 1, n_out].
        """
        n, s, harmonics = len(species), self.n_species, edges.harmonics
        if s > 1:
            of_species = nn.functional.one_hot(species.index_select(0, edges.sender), s).to(harmonics.dtype)
            of_species = of_species.T.reshape(s, 1, n, -1).transpose(0, 2)  # [atom, 1, species, slot]
            harmonics = (of_species.transpose(1, 2) * harmonics.unsqueeze(1)).flatten(1, 2)
        sums = (harmonics @ edges.spread(hidden)).unflatten(1, (s, -1))  # [atom, species, m, hidden]
        sums = sums.squeeze(1) if s == 1 else sums.transpose(1, 2).flatten(2)
        radial = (self.weight * (scale / math.sqrt(len(self.weight)))).split(self.n_channels, dim=1)
        parts = []
        for part, weight, mix in zip(
            sums.split([ir.dim for ir in self.irreps_out], dim=1), radial, mixing, strict=True
        ):
            matrix = ((weight.unsqueeze(0) * features.unsqueeze(1)) @ mix).flatten(0, 1)  # [species * hidden, n_out]
            parts.append((part.reshape(-1, part.shape[-1]) @ matrix).unflatten(0, (n, -1)))
        return parts
