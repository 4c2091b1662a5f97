"""Irreducible representations of O(3): couplings and spherical harmonics, with the conventions of e3nn >= 0.6.

Features are [n_atoms, m, channels], the irreps one after the other along m. Component normalisation: |Y_l|^2 = 2l + 1.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn


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
        self.coefficients = [Constant(block.T.contiguous()) for block in blocks]

    def forward(self, unit: Tensor) -> Tensor:
        """Unit vectors [3, n] -> [(l_max + 1)^2, n]."""
        parts = [torch.ones_like(unit[:1])]
        if self.l_max > 0:
            parts.append(unit * math.sqrt(3.0))
        monomials = unit
        for l in range(2, self.l_max + 1):
            parent, axis = getattr(self, f"parent_{l}"), getattr(self, f"axis_{l}")
            monomials = monomials.index_select(0, parent) * unit.index_select(0, axis)
            parts.append(self.coefficients[l].like(unit) @ monomials)
        return torch.cat(parts)


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
