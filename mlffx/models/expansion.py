"""Basis functions of an expansion about a crystal: every polynomial of displacements that its symmetry allows.

A basis function is the same for all bonds or angles of one orbit (`mlffx.models.clusters`).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import null_space
from torch import Tensor, nn

from mlffx.data.crystal import Crystal
from mlffx.models import clusters
from mlffx.models.radial import segment_sum


class Harmonic(nn.Module):
    """1/2 u_i . B (u_j - u_i) for every free element B of the force-constant matrices."""

    tensors: Tensor
    owner: Tensor
    combinations: Tensor

    def __init__(self, crystal: Crystal, orbits: list[clusters.PairOrbit], table: clusters.PairTable) -> None:
        super().__init__()
        tensors = [clusters.invariant_tensors(orbit) for orbit in orbits]
        owner = np.concatenate([np.full(len(t), k) for k, t in enumerate(tensors)])
        constant(self, "tensors", np.concatenate(tensors))
        constant(self, "owner", owner)
        constant(self, "combinations", _rigid(crystal, np.concatenate(tensors), owner, table))
        self.n = self.combinations.shape[1]

    def forward(self, absolute: Tensor, relative: Tensor, swapped: Tensor, orbit: Tensor) -> Tensor:
        """[n_edges, 3] twice, [n_edges, 1], [n_edges] -> [n_edges, n]."""
        left, right = torch.where(swapped, relative, absolute), torch.where(swapped, absolute, relative)
        values = 0.5 * torch.einsum("ea,pab,eb->ep", left, self.tensors, right)
        values = values * (orbit[:, None] == self.owner[None])
        return values @ self.combinations


class Bonds(nn.Module):
    """Invariant polynomials of one order of the relative displacement along the bonds of one orbit."""

    exponents: Tensor
    polynomials: Tensor

    def __init__(self, number: int, orbit: clusters.PairOrbit, order: int) -> None:
        super().__init__()
        self.orbit = number
        exponents = clusters.monomial_exponents(3, order)
        actions = [lambda x, s=s, swap=swap: (-x if swap else x) @ s.T for s, swap in orbit.stabiliser]
        constant(self, "exponents", exponents)
        constant(self, "polynomials", clusters.invariant_polynomials(exponents, actions))
        self.n = len(self.polynomials)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * monomials(x, self.exponents) @ self.polynomials.T


class Angles(nn.Module):
    """Invariant polynomials of one order in the relative displacements of two bonds that share an atom."""

    exponents: Tensor
    polynomials: Tensor
    first: Tensor
    second: Tensor
    rotations: Tensor

    def __init__(self, orbit: clusters.AngleOrbit, order: int) -> None:
        super().__init__()
        exponents = clusters.monomial_exponents(6, order)
        mixed = exponents[(exponents[:, :3].sum(axis=1) > 0) & (exponents[:, 3:].sum(axis=1) > 0)]
        actions = [
            lambda x, s=s, swap=swap: (
                (x.reshape(-1, 2, 3)[:, ::-1] if swap else x.reshape(-1, 2, 3)).reshape(-1, 6) @ np.kron(np.eye(2), s).T
            )
            for s, swap in orbit.stabiliser
        ]
        constant(self, "exponents", mixed)
        constant(self, "polynomials", clusters.invariant_polynomials(mixed, actions))
        constant(self, "first", orbit.first)
        constant(self, "second", orbit.second)
        constant(self, "rotations", orbit.rotations)
        self.n = len(self.polynomials)

    def forward(self, difference: Tensor, bond_of: Tensor, receiver: Tensor) -> Tensor:
        """[n_edges, 3], [n_atoms, n_members], [n_edges] -> [n_atoms, n]."""
        one, two = bond_of[:, self.first], bond_of[:, self.second]  # [n_atoms, n_angles]
        present = (one >= 0) & (two >= 0)
        rotation = self.rotations.expand(len(bond_of), -1, -1, -1)[present]
        pair = torch.stack([difference[one[present]], difference[two[present]]], dim=1)
        x = torch.einsum("nba,nkb->nka", rotation, pair).reshape(-1, 6)
        values = monomials(x, self.exponents) @ self.polynomials.T
        return segment_sum(values, receiver[one[present]], len(bond_of))


def constant(module: nn.Module, name: str, array: np.ndarray) -> None:
    """A table that follows the module's device but is neither a weight nor stored: it comes from the crystal."""
    module.register_buffer(name, torch.as_tensor(np.ascontiguousarray(array)), persistent=False)


def monomials(x: Tensor, exponents: Tensor) -> Tensor:
    """Products of powers, [n, d] and [m, d] -> [n, m]; no pow(x, 0), whose second derivative at zero is undefined."""
    powers = [torch.ones_like(x)]
    for _ in range(int(exponents.max())):
        powers.append(powers[-1] * x)
    table = torch.stack(powers)  # [power, n, d]
    out = table[exponents[:, 0], :, 0]
    for d in range(1, x.shape[1]):
        out = out * table[exponents[:, d], :, d]
    return out.T


def _rigid(crystal: Crystal, tensors: np.ndarray, owner: np.ndarray, table: clusters.PairTable) -> np.ndarray:
    """Combinations [n_tensors, n] of the tensors for which a rigid translation costs nothing.

    The form u_i Phi_ij (u_j - u_i) is translation invariant where the antisymmetric parts of Phi_ij cancel around every
    atom; in most crystals symmetry sees to it, in the others this condition removes parameters.
    """
    moments = np.zeros((crystal.n_basis, 3, 3, len(tensors)))
    for k in range(len(table.orbit)):
        for p in np.flatnonzero(owner == table.orbit[k]):
            phi = table.rotations[k] @ tensors[p] @ table.rotations[k].T
            phi = phi.T if table.reversed[k] else phi
            moments[table.centre[k], :, :, p] += phi - phi.T
    moments[np.abs(moments) < 1e-9] = 0.0  # rcond is relative: rounding alone would count as conditions
    return null_space(moments.reshape(-1, len(tensors)), rcond=1e-9)
