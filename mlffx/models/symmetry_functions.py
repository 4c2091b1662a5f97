"""Atom-centred symmetry functions of Behler and Parrinello, summed over neighbours instead of over pairs of them.

Radial (G2) and angular (G5, without the distance of the two neighbours), for elements Z, Z' and i's neighbours j, k:

    G2[Z, n]           = sum_(j in Z) g_n(r_ij)
    G5[ZZ', n, z, +-1] = 2^(1-z) sum_(j in Z, k in Z', j != k) (1 +- cos theta_jik)^z g_n(r_ij) g_n(r_ik)

with Gaussians g_n times a smooth envelope (Behler, J. Chem. Phys. 134, 074106, 2011). For integer z the power of the
cosine is a polynomial in u_j . u_k, and sum_jk g_j g_k (u_j . u_k)^p is the square of the moment tensor
sum_j g_j u_j x ... x u_j: exact, and linear in the number of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import comb, factorial

import numpy as np
import torch
from torch import Tensor, nn

from mlffx.errors import UserError
from mlffx.models.neighbourhood import Neighbourhood
from mlffx.models.radial import GaussianBasis, polynomial_envelope, segment_sum


def monomials(unit: Tensor, degree: int) -> Tensor:
    """x^a y^b z^c of all degrees a + b + c up to `degree`: [n, 3] -> [n, n_monomials], in the order of `exponents`."""
    x, y, z = unit.split(1, dim=-1)
    level = torch.ones_like(x)
    levels = [level]
    for p in range(1, degree + 1):  # the last p of a level are those without x, the last one z^(p-1)
        level = torch.cat([x * level, y * level[:, -p:], z * level[:, -1:]], dim=1)
        levels.append(level)
    return torch.cat(levels, dim=1)


def exponents(degree: int) -> np.ndarray:
    """(a, b, c) of `monomials`, [n_monomials, 3]."""
    level = np.zeros((1, 3), dtype=int)
    levels, unit = [level], np.eye(3, dtype=int)
    for p in range(1, degree + 1):
        level = np.concatenate([level + unit[0], level[-p:] + unit[1], level[-1:] + unit[2]])
        levels.append(level)
    return np.concatenate(levels)


def angular_coefficients(zetas: Sequence[int]) -> np.ndarray:
    """Weights of squared moments in 2^(1-z) (1 + cos)^z for all z, then for 1 - cos: [n_monomials, 2 n_zetas]."""
    powers = exponents(max(zetas))
    degree = powers.sum(axis=1)
    multinomial = np.array(
        [factorial(p) / np.prod([factorial(k) for k in row]) for p, row in zip(degree, powers, strict=True)]
    )
    columns = [
        [2.0 ** (1 - zeta) * comb(zeta, p) * sign**p * m for p, m in zip(degree, multinomial, strict=True)]
        for sign in (1, -1)
        for zeta in zetas
    ]
    return np.array(columns).T


class SymmetryFunctions(nn.Module):
    """All G2 and G5 of every atom.

    Args:
        n_species: elements.
        cutoff: A.
        n_radial: Gaussians of G2, from `start` to the cutoff.
        n_angular: Gaussians of G5, likewise.
        zetas: positive integer exponents z.
        start: A, centre of the first Gaussian.
    """

    def __init__(
        self, n_species: int, cutoff: float, n_radial: int, n_angular: int, zetas: Sequence[int], start: float
    ) -> None:
        super().__init__()
        if not zetas or any(int(z) != z or z < 1 for z in zetas):
            raise UserError(
                f"zetas {list(zetas)} are not positive integers", "take for instance [1, 2, 4]", "model.zetas"
            )
        if not 0 <= start < cutoff:
            raise UserError(f"a first Gaussian at {start:g} A lies outside 0 ... {cutoff:g} A", where="model.start")
        self.n_species, self.cutoff, self.degree = n_species, cutoff, int(max(zetas))
        self.radial, self.angular = GaussianBasis(n_radial, cutoff, start), GaussianBasis(n_angular, cutoff, start)
        self.pairs = list(combinations_with_replacement(range(n_species), 2))
        self.register_buffer("coefficients", torch.as_tensor(angular_coefficients(zetas)), persistent=False)
        self.n_features = n_species * n_radial + len(self.pairs) * n_angular * 2 * len(zetas)

    def forward(
        self, near: Neighbourhood, species: Tensor, receiver: Tensor, vectors: Tensor, lengths: Tensor
    ) -> Tensor:
        """[n_atoms, n_features]; species: element of each edge's neighbour, [n_edges]."""
        n_atoms, n_edges = near.n_atoms, len(lengths)
        envelope = polynomial_envelope(lengths / self.cutoff).unsqueeze(-1)
        is_element = nn.functional.one_hot(species, self.n_species).to(lengths.dtype).unsqueeze(-1)
        radial = (is_element * (self.radial(lengths) * envelope).unsqueeze(1)).reshape(n_edges, -1)
        angular = (is_element * (self.angular(lengths) * envelope).unsqueeze(1)).reshape(n_edges, -1)
        sums = segment_sum(torch.cat([radial, 2 * angular * angular], dim=1), receiver, n_atoms)
        g2, same = sums.split([radial.shape[1], angular.shape[1]], dim=1)
        same = same.reshape(n_atoms, self.n_species, -1)  # the terms j = k of (1 + cos)^z; those of (1 - cos)^z vanish

        moments = near.outer(angular, monomials(vectors / lengths.unsqueeze(-1), self.degree))
        moments = moments.reshape(n_atoms, self.n_species, -1, moments.shape[-1])
        g5 = []
        for a, b in self.pairs:
            plus, minus = ((moments[:, a] * moments[:, b]) @ self.coefficients.to(lengths.dtype)).chunk(2, dim=-1)  # type: ignore[operator]
            g5 += [plus - same[:, a].unsqueeze(-1) if a == b else plus, minus]
        return torch.cat([g2, *(g.flatten(1) for g in g5)], dim=1)
