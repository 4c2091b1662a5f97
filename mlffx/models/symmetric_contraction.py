"""Symmetric contraction of MACE (Batatia et al., NeurIPS 2022, eqs. 10-11) as one polynomial.

Every product basis function is a homogeneous polynomial of the message components x_1 ... x_m of one channel. A
complete, linearly independent set is built once by coupling x degree by degree; the learned weights combine them for
each species and channel into one polynomial, evaluated by a single matrix product an atom and channel.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlffx.models.irreps import Constant, Irrep, coupling, dimension, slices


def monomials(n: int, degree: int) -> list[tuple[int, ...]]:
    """Sorted index tuples of the monomials of one degree in n variables."""
    return list(itertools.combinations_with_replacement(range(n), degree))


def _multiplicity(monomial: tuple[int, ...]) -> float:
    return math.factorial(len(monomial)) / math.prod(math.factorial(k) for k in Counter(monomial).values())


def _longer(n: int, degree: int) -> Tensor:
    """[n_monomials(degree), n]: index of monomial times variable among the monomials of the next degree."""
    position = {m: i for i, m in enumerate(monomials(n, degree + 1))}
    return torch.tensor([[position[tuple(sorted((*m, k)))] for k in range(n)] for m in monomials(n, degree)])


@functools.lru_cache(maxsize=32)
def equivariant_polynomials(irreps: tuple[Irrep, ...], degree: int) -> dict[Irrep, Tensor]:
    """Basis of the homogeneous polynomials of x that transform as an irrep.

    Candidates are (basis of one degree less) x (one irrep of x), coupled; they are made orthonormal one after the
    other in the norm of the symmetric tensor behind a polynomial, and dependent ones dropped. Squared norm of each:
    2l + 1.

    Args:
        irreps: of x, one after the other.
        degree: 1 or more.

    Returns:
        irrep -> coefficients [n_basis, 2l + 1, n_monomials].
    """
    n = dimension(irreps)
    if degree == 1:
        out = {ir: torch.zeros(irreps.count(ir), ir.dim, n, dtype=torch.float64) for ir in irreps}
        seen: Counter[Irrep] = Counter()
        for ir, where in zip(irreps, slices(irreps), strict=True):
            out[ir][seen[ir], :, where] = torch.eye(ir.dim, dtype=torch.float64)
            seen[ir] += 1
        return out
    longer = _longer(n, degree - 1)
    weights = torch.tensor([_multiplicity(m) for m in monomials(n, degree)], dtype=torch.float64).rsqrt()
    candidates: dict[Irrep, list[Tensor]] = {}
    for left, shorter in equivariant_polynomials(irreps, degree - 1).items():
        for right, where in zip(irreps, slices(irreps), strict=True):
            for ir in left.couples(right):
                products = torch.einsum("baq,akc->bcqk", shorter, coupling(left, right, ir)).flatten(2)
                out_coefficients = products.new_zeros(len(shorter), ir.dim, len(weights))
                candidates.setdefault(ir, []).append(
                    out_coefficients.index_add(2, longer[:, where].flatten(), products)
                )
    return {ir: basis for ir, found in candidates.items() if len(basis := _independent(torch.cat(found), weights))}


def _independent(candidates: Tensor, weights: Tensor) -> Tensor:
    """Gram-Schmidt in the given order (twice, for accuracy), so that the basis is the same on every machine."""
    dim = candidates.shape[1]
    basis = candidates.new_zeros(0, dim * len(weights))
    for candidate in (candidates * weights).flatten(1):
        size = candidate.norm()
        if size < 1e-8:
            continue
        for _ in range(2):
            candidate = candidate - (candidate @ basis.T) @ basis
        if candidate.norm() > 1e-6 * size:
            basis = torch.cat([basis, candidate[None] / candidate.norm()])
    return (basis * math.sqrt(dim)).unflatten(1, (dim, -1)) / weights


class SymmetricContraction(nn.Module):
    """out_w = sum_b W[species, b, channel] P_{b,w}(x), polynomials of degrees 1 ... correlation.

    Evaluated as out_w = sum_k x_k (T_wk + sum_q T_qwk q(x)), q running over monomials of lower degree: one matrix
    product for each channel. Of the pairs x_i x_j only those with both in the same half of the components are needed,
    since two of any three components are in the same half.

    Args:
        irreps_in: of x.
        irreps_out: of the result.
        correlation: highest degree; body order minus one.
        n_channels: channels, not mixed here.
        n_species: chemical elements, each with its own weights.

    Attributes:
        terms: (output irrep, degree, number of polynomials) in the order of the rows of `weight[species]`.
    """

    def __init__(
        self, irreps_in: Sequence[Irrep], irreps_out: Sequence[Irrep], correlation: int, n_channels: int, n_species: int
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.correlation = tuple(irreps_in), tuple(irreps_out), correlation
        self.n_in, self.n_out = dimension(irreps_in), dimension(irreps_out)
        self.halves = [self.n_in - self.n_in // 2, self.n_in // 2]
        self.lower = self._lower_monomials()
        self.sizes = [len(rows) for rows in self.lower]
        self.terms: list[tuple[Irrep, int, int]] = []
        tables, initial = [], []
        for (ir, where), degree in itertools.product(
            zip(irreps_out, slices(irreps_out), strict=True), range(1, correlation + 1)
        ):
            basis = equivariant_polynomials(self.irreps_in, degree).get(ir)
            if basis is None:
                continue
            self.terms.append((ir, degree, len(basis)))
            tables.append(self._table(basis, where, degree))
            initial.append(torch.randn(n_species, len(basis), n_channels) / len(basis))
        self.weight = nn.Parameter(torch.cat(initial, dim=1))
        self.table = Constant(torch.cat(tables).flatten(1))
        for degree in range(3, correlation):
            position = {m: i for i, m in enumerate(self.lower[degree - 1])}
            made = [next((position[m[:i] + m[i + 1 :]], m[i]) for i in range(degree) if m[:i] + m[i + 1 :] in position)
                    for m in self.lower[degree]]  # fmt: skip
            self.register_buffer(f"left_{degree}", torch.tensor([left for left, _ in made]), persistent=False)
            self.register_buffer(f"right_{degree}", torch.tensor([right for _, right in made]), persistent=False)

    def _lower_monomials(self) -> list[list[tuple[int, ...]]]:
        """Sorted index tuples that stand for the rows of each degree below the correlation."""
        first = self.halves[0]
        pairs = [*itertools.product(range(first), repeat=2), *itertools.product(range(first, self.n_in), repeat=2)]
        rows: list[list[tuple[int, ...]]] = [[()], monomials(self.n_in, 1), [tuple(sorted(pair)) for pair in pairs]]
        rows += [monomials(self.n_in, degree) for degree in range(3, self.correlation)]
        return rows[: self.correlation]

    def _table(self, basis: Tensor, where: slice, degree: int) -> Tensor:
        """Coefficients as [n_basis, rows of all lower degrees, n_out, n_in], split evenly over the ways to factor."""
        table = basis.new_zeros(len(basis), sum(self.sizes), self.n_out, self.n_in)
        first = sum(self.sizes[: degree - 1])
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, factors in enumerate(self.lower[degree - 1], start=first):
            rows.setdefault(factors, []).append(row)
        for q, factors in enumerate(monomials(self.n_in, degree)):
            ways = [
                (row, k)
                for i, k in enumerate(factors)
                if i == 0 or k != factors[i - 1]
                for row in rows.get(factors[:i] + factors[i + 1 :], [])
            ]
            for row, k in ways:
                table[:, row, where, k] += basis[:, :, q] / len(ways)
        return table

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[n_atoms, n_in, c], species index [n_atoms] -> [n_atoms, n_out, c]."""
        y = x.permute(1, 2, 0).contiguous()  # [m, channel, atom]: rows of many numbers, fast to multiply
        if len(self.weight) == 1:
            return self._evaluate(y, 0).permute(2, 1, 0)
        present = species.unique().tolist()
        members = [(species == s).nonzero().squeeze(1) for s in present]
        parts = [self._evaluate(y.index_select(2, rows), s) for s, rows in zip(present, members, strict=True)]
        order = torch.cat(members).argsort()
        return torch.cat(parts, dim=2).index_select(2, order).permute(2, 1, 0)

    def _evaluate(self, y: Tensor, species: int) -> Tensor:
        """[n_in, channel, atom] of one species -> [channel, n_out, atom]."""
        polynomial = (self.weight[species].T @ self.table.like(y)).unflatten(1, (-1, self.n_out * self.n_in))
        constant, *slopes_of = polynomial.transpose(1, 2).split(self.sizes, dim=2)  # [channel, (n_out, n_in), q]
        slopes, power = constant, y
        for degree, coefficients in enumerate(slopes_of, start=1):
            if degree == 2:
                power = torch.cat([(half.unsqueeze(1) * half).flatten(0, 1) for half in y.split(self.halves)])
            elif degree > 2:
                left, right = getattr(self, f"left_{degree}"), getattr(self, f"right_{degree}")
                power = power.index_select(0, left) * y.index_select(0, right)
            slopes = torch.baddbmm(slopes, coefficients, power.transpose(0, 1))
        return (slopes.unflatten(1, (self.n_out, self.n_in)) * y.transpose(0, 1).unsqueeze(1)).sum(dim=2)
