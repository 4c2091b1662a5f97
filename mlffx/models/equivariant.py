"""What the equivariant architectures share: irreps, spherical harmonics, padded neighbourhoods, radial network,
convolution.

Features are [n_atoms, m, channels]: the irreps one after the other along m, every one with the same channels. Real
spherical harmonics and Wigner 3j symbols are those of e3nn >= 0.6 (component normalisation: |Y_l|^2 = 2l + 1).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from mlffx.data.graph import Edges
from mlffx.models.radial import BesselBasis

SILU_SCALE = 1.6765324703310907  # 1/sqrt(<silu(z)^2>) for normal z: keeps the second moment at one


class Irrep(NamedTuple):
    """Angular momentum and parity (+1 or -1) of an irreducible representation of O(3)."""

    l: int
    p: int

    @property
    def dim(self) -> int:
        return 2 * self.l + 1

    def couples(self, other: Irrep) -> list[Irrep]:
        """The irreps in the product of two."""
        return [Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1)]


def natural(l_max: int) -> list[Irrep]:
    """0e, 1o, 2e, ...: the irreps of the spherical harmonics."""
    return [Irrep(l, (-1) ** l) for l in range(l_max + 1)]


def dimension(irreps: Sequence[Irrep]) -> int:
    """Length of the m axis."""
    return sum(ir.dim for ir in irreps)


def slices(irreps: Sequence[Irrep]) -> list[slice]:
    """Where each irrep lies on the m axis."""
    ends = list(itertools.accumulate((ir.dim for ir in irreps), initial=0))
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def coupling(a: Irrep, b: Irrep, c: Irrep) -> Tensor:
    """Clebsch-Gordan tensor with component normalisation: sqrt(2 l_c + 1) times the 3j symbol, [dim a, dim b,
    dim c].
    """
    return math.sqrt(c.dim) * o3.wigner_3j(a.l, b.l, c.l, dtype=torch.float64)


class Constant:
    """A float64 tensor, cast once for each type and device it meets:
    casting a model down and up again loses nothing.
    """

    def __init__(self, exact: Tensor) -> None:
        self.exact = exact
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The constant in the type and on the device of x."""
        key = (x.dtype, x.device)
        if key not in self._cast:
            self._cast[key] = self.exact.to(dtype=x.dtype, device=x.device)
        return self._cast[key]


class SphericalHarmonics(nn.Module):
    """Y_0 ... Y_lmax of unit vectors as one product of monomials with constant coefficients.

    The coefficients follow from Y_l = const * (Y_{l-1} x Y_1)_l, with |Y_l|^2 = 2l + 1 and the signs of e3nn.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        steps, blocks = _harmonic_polynomials(l_max)
        for l, (parent, axis) in enumerate(steps, start=2):
            self.register_buffer(f"parent_{l}", parent, persistent=False)
            self.register_buffer(f"axis_{l}", axis, persistent=False)
        self.coefficients = [Constant(block) for block in blocks]

    def forward(self, unit: Tensor) -> Tensor:
        """[..., 3] unit vectors -> [..., (l_max + 1)^2]."""
        monomials, parts = unit, [torch.ones_like(unit[..., :1])]
        if self.l_max > 0:
            parts.append(unit * math.sqrt(3.0))
        for l in range(2, self.l_max + 1):
            monomials = monomials[..., getattr(self, f"parent_{l}")] * unit[..., getattr(self, f"axis_{l}")]
            parts.append(monomials @ self.coefficients[l].like(unit))
        return torch.cat(parts, dim=-1)


@functools.cache
def _harmonic_polynomials(l_max: int) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """How to multiply up the monomials of each degree, and the coefficients of Y_l in them, [n_monomials, 2l + 1]."""
    exponents: list[tuple[int, ...]] = [(0,), (1,), (2,)]
    blocks = [torch.ones(1, 1, dtype=torch.float64), math.sqrt(3.0) * torch.eye(3, dtype=torch.float64)]
    steps = []
    for l in range(2, l_max + 1):
        longer = list(itertools.combinations_with_replacement(range(3), l))
        position = {m: i for i, m in enumerate(longer)}
        products = torch.zeros(len(longer), 2 * l - 1, 3, dtype=torch.float64)  # Y_{l-1} times x, y, z
        for i, shorter in enumerate(exponents):
            for axis in range(3):
                products[position[tuple(sorted((*shorter, axis)))], :, axis] += blocks[-1][i]
        block = torch.einsum("qab,abc->qc", products, o3.wigner_3j(l - 1, 1, l, dtype=torch.float64))
        along_y = torch.tensor([1.0 if set(m) == {1} else 0.0 for m in longer], dtype=torch.float64) @ block
        block = block * math.sqrt(2 * l + 1) / along_y.norm() * torch.sign(along_y[l])  # e3nn's polar axis is y
        steps.append(
            (
                torch.tensor([exponents.index(m[:-1]) for m in longer]),
                torch.tensor([m[-1] for m in longer], dtype=torch.int64),
            )
        )
        exponents, blocks = longer, [*blocks, block]
    return steps, blocks[: l_max + 1]


@dataclass(frozen=True)
class Neighbourhoods:
    """Edges as a rectangle: every atom has n_slots neighbours, the missing ones with zero harmonics.

    Sums over neighbours become batched matrix products. Rows are nearly full in crystals, where all atoms have about
    the same number of neighbours.

    Attributes:
        sender: [n_atoms * n_slots], neighbour in each slot (0 in empty ones).
        harmonics: [n_atoms, n_slots, (l_max + 1)^2].
        radial: [n_atoms, n_slots, n_radial].
    """

    sender: Tensor
    harmonics: Tensor
    radial: Tensor

    @classmethod
    def of(
        cls,
        edges: Edges,
        n_atoms: int,
        cutoff: float,
        basis: BesselBasis,
        harmonics: SphericalHarmonics,
        dtype: torch.dtype,
    ) -> Neighbourhoods:
        """From edges sorted by receiver, shorter than the cutoff."""
        counts = torch.bincount(edges.receiver, minlength=n_atoms)
        n_slots = max(int(counts.max()), 1) if len(counts) else 1
        slot = torch.arange(n_slots, device=counts.device)
        filled = slot < counts.unsqueeze(1)
        edge = (counts.cumsum(0) - counts).unsqueeze(1) + slot
        vectors = edges.vectors
        if not bool(filled.all()):
            edge = torch.where(filled, edge, len(edges.sender)).flatten()
            empty = vectors.new_tensor([[cutoff, 0.0, 0.0]])
            vectors = torch.cat([vectors, empty]).index_select(0, edge)
            sender = torch.cat([edges.sender, edges.sender.new_zeros(1)])[edge]
        else:
            sender = edges.sender
        lengths = torch.linalg.vector_norm(vectors, dim=-1)
        y = harmonics((vectors / lengths.unsqueeze(-1)).to(dtype)).unflatten(0, (n_atoms, n_slots))
        return cls(sender, y * filled.unsqueeze(-1), basis(lengths).to(dtype).unflatten(0, (n_atoms, n_slots)))

    def gather(self, x: Tensor) -> Tensor:
        """Features of the neighbours: [n_atoms, ...] -> [n_atoms, n_slots, ...]."""
        return x.index_select(0, self.sender).unflatten(0, self.harmonics.shape[:2])


class RadialNetwork(nn.Module):
    """Hidden layers of the network that makes path weights from the radial basis; no biases, so zero at the cutoff.

    Weights are normal with unit variance and scaled in use by 1/sqrt(fan in), as in e3nn: learning rates carry over.
    """

    def __init__(self, n_radial: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [n_radial, *hidden]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in itertools.pairwise(sizes))
        self.n_out = sizes[-1]

    def forward(self, radial: Tensor) -> Tensor:
        """[..., n_radial] -> [..., n_out]."""
        scale = 1.0
        for weight in self.weights:
            radial = nn.functional.silu(radial @ (weight * (scale / math.sqrt(len(weight)))))
            scale = SILU_SCALE  # of the activation just applied, folded into the next weights
        return radial if not self.weights else radial * scale


class IrrepLinear(nn.Module):
    """Mixes channels within each irrep: weight [n_in, n_out] for each, scaled in use by 1/sqrt(n_in)."""

    def __init__(self, irreps: Sequence[Irrep], n_in: int, n_out: int) -> None:
        super().__init__()
        self.sizes, self.scale = [ir.dim for ir in irreps], 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.randn(len(self.sizes), n_in, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """[n_atoms, m, n_in] -> [n_atoms, m, n_out]."""
        weight = self.weight * self.scale
        if len(self.sizes) == 1:
            return x @ weight[0]
        return torch.cat([part @ w for part, w in zip(x.split(self.sizes, dim=1), weight, strict=True)], dim=1)


class Convolution(nn.Module):
    """sum_j R_p(r_ij) (x_j x Y(r_ij))_p for every path p = (irrep of the neighbour, l of the edge -> output irrep).

    Neighbours are summed before the Clebsch-Gordan coefficients are applied, which then cost one small product an atom
    instead of one an edge: for each pair (input irrep, l of the edge)
    D[i, m2, p, m1, c] = sum_j Y[ij, m2] R[ij, p, c] x[j, m1, c] is a batched matrix product.

    Args:
        irreps_in: irreps of the features.
        l_max: of the spherical harmonics.
        irreps_out: irreps to keep.
        n_channels: channels of the features.
        n_hidden: width of the last layer of the radial network.

    Attributes:
        paths: (input irrep, edge irrep, output irrep) in the order of the columns of `weight`.
        n_paths: paths that end in each output irrep.
    """

    def __init__(
        self, irreps_in: Sequence[Irrep], l_max: int, irreps_out: Sequence[Irrep], n_channels: int, n_hidden: int
    ) -> None:
        super().__init__()
        self.n_channels, self.irreps_in = n_channels, list(irreps_in)
        self.l_sizes = [2 * l + 1 for l in range(l_max + 1)]
        self.in_sizes = [ir.dim for ir in irreps_in]
        self.pairs: list[tuple[int, int]] = []  # (index of the input irrep, l of the edge)
        self.pair_paths: list[int] = []
        self.paths: list[tuple[Irrep, Irrep, Irrep]] = []
        for (i, a), b in itertools.product(enumerate(irreps_in), natural(l_max)):
            found = [(a, b, c) for c in a.couples(b) if c in irreps_out]
            if found:
                self.pairs.append((i, b.l))
                self.pair_paths.append(len(found))
                self.paths += found
        self.irreps_out = [ir for ir in irreps_out if any(path[2] == ir for path in self.paths)]
        self.n_paths = [sum(path[2] == ir for path in self.paths) for ir in self.irreps_out]
        self.weight = nn.Parameter(torch.randn(n_hidden, len(self.paths) * n_channels))
        self.couplings = Constant(self._couplings())

    def _couplings(self) -> Tensor:
        """Constant matrix from (pair, m2, path, m1) to (output irrep, m3, path)."""
        rows = sum(path[2].dim for path in self.paths)
        columns = sum(path[0].dim * path[1].dim for path in self.paths)
        matrix = torch.zeros(rows, columns, dtype=torch.float64)
        row_of, start = {}, 0
        for ir, n in zip(self.irreps_out, self.n_paths, strict=True):
            ending = [k for k, path in enumerate(self.paths) if path[2] == ir]
            for k, path_index in enumerate(ending):
                row_of[path_index] = start + k + n * torch.arange(ir.dim)
            start += n * ir.dim
        column, first = 0, 0
        for n in self.pair_paths:
            a, b, _ = self.paths[first]
            block = torch.zeros(b.dim, n, a.dim, rows, dtype=torch.float64)
            for k in range(n):
                block[:, k][..., row_of[first + k]] = coupling(*self.paths[first + k]).transpose(0, 1)
            matrix[:, column : column + b.dim * n * a.dim] = block.reshape(-1, rows).T
            column, first = column + b.dim * n * a.dim, first + n
        return matrix

    def forward(self, x: Tensor, hidden: Tensor, around: Neighbourhoods) -> list[Tensor]:
        """Features [n_atoms, m, c], radial network [n_atoms, n_slots, n_hidden] -> per output irrep [n_atoms, 2l+1,
        paths * c].
        """
        c = self.n_channels
        weights = (hidden @ (self.weight / math.sqrt(len(self.weight)))).split([n * c for n in self.pair_paths], dim=-1)
        harmonics = around.harmonics.transpose(1, 2).split(self.l_sizes, dim=1)
        neighbours = [around.gather(part) for part in x.split(self.in_sizes, dim=1)]
        sums = []
        for (i, l), n, weight in zip(self.pairs, self.pair_paths, weights, strict=True):
            # [atom, slot, path, m1, channel]
            weighted = weight.unflatten(-1, (n, 1, c)) * neighbours[i].unsqueeze(2)
            sums.append((harmonics[l] @ weighted.flatten(2)).reshape(len(x), -1, c))
        coupled = self.couplings.like(x) @ torch.cat(sums, dim=1)
        sizes = [ir.dim * n for ir, n in zip(self.irreps_out, self.n_paths, strict=True)]
        return [
            part.reshape(len(x), ir.dim, n * c)
            for part, ir, n in zip(coupled.split(sizes, dim=1), self.irreps_out, self.n_paths, strict=True)
        ]


class PathLinear(nn.Module):
    """Mixes the paths and channels that end in each irrep: weight [n_paths * n_in, n_out],
    scaled by 1/sqrt(n_paths * n_in).
    """

    def __init__(self, n_paths: Sequence[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(n * n_in, n_out)) for n in n_paths)

    def forward(self, parts: list[Tensor], scale: float = 1.0) -> Tensor:
        """Per irrep [n_atoms, 2l+1, paths * n_in] -> [n_atoms, m, n_out], times `scale`."""
        return torch.cat(
            [part @ (w * (scale / math.sqrt(len(w)))) for part, w in zip(parts, self.weights, strict=True)], dim=1
        )


class SpeciesConvolution(nn.Module):
    """The first convolution, whose neighbour features depend on their species alone.

    sum_j R_l(r_ij) Y_l(r_ij) x_{z_j}: the radial network is linear in its last layer, so its hidden units are summed
    over the neighbours of each species first, and the last layer, the features and the mixing of channels act on the
    sums.
    """

    def __init__(self, n_species: int, l_max: int, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.n_species, self.n_channels = n_species, n_channels
        self.l_sizes = [2 * l + 1 for l in range(l_max + 1)]
        self.paths = [(Irrep(0, 1), ir, ir) for ir in natural(l_max)]
        self.n_paths = [1] * len(self.paths)
        self.weight = nn.Parameter(torch.randn(n_hidden, len(self.paths) * n_channels))

    def forward(
        self,
        features: Tensor,
        mixing: PathLinear,
        scale: float,
        hidden: Tensor,
        species: Tensor,
        around: Neighbourhoods,
    ) -> Tensor:
        """Features of each species [n_species, c], mixed by `mixing` times `scale` -> [n_atoms, m, n_out]."""
        n, s, harmonics = len(species), self.n_species, around.harmonics
        if s > 1:
            of_species = nn.functional.one_hot(around.gather(species), s).to(harmonics.dtype)
            harmonics = (of_species.unsqueeze(-1) * harmonics.unsqueeze(2)).flatten(2)
        sums = (harmonics.transpose(1, 2) @ hidden).unflatten(1, (s, -1))  # [atom, species, m, hidden]
        sums = sums.squeeze(1) if s == 1 else sums.transpose(1, 2).flatten(2)
        radial = (self.weight / math.sqrt(len(self.weight))).unflatten(1, (-1, self.n_channels))
        parts = []
        for l, part in enumerate(sums.split(self.l_sizes, dim=1)):
            mix = mixing.weights[l] * (scale / math.sqrt(self.n_channels))
            matrix = torch.einsum("hc,sc,cd->shd", radial[:, l], features, mix).flatten(0, 1)
            parts.append((part.reshape(-1, part.shape[-1]) @ matrix).unflatten(0, (n, -1)))
        return torch.cat(parts, dim=1)
