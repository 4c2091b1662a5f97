"""Symmetry-invariant polynomials of displacements on the bonds of a crystal: the basis of the force-constant expansion.

A *cluster* is a pair of sites (i, j) or two bonds (i; j, k) that share the centre i. Space-group operations carry a
representative cluster into all clusters of its orbit; those that carry it into itself (or into itself with its sites
exchanged) leave only some polynomials of its displacements free. They are found numerically: the action of an
operation on monomials by least squares on random points, the invariants as eigenvectors of the averaged action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import spglib

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError

TOLERANCE = 1e-4  # A; sites closer than this are the same site


@dataclass(frozen=True)
class Symmetry:
    """Space group of a crystal acting on sites.

    Attributes:
        rotations: Cartesian, [n_ops, 3, 3]; x -> rotation @ x.
        images: site each basis atom is carried to, [n_ops, n_basis].
    """

    rotations: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, crystal: Crystal) -> Symmetry:
        structure = (crystal.cell, crystal.scaled_positions, crystal.numbers)
        found = spglib.get_symmetry(structure, symprec=TOLERANCE)  # type: ignore[arg-type]  # arrays do
        if found is None:
            raise UserError("no symmetry found", "check data.crystal", "data.crystal")
        to_cartesian, to_fraction = crystal.cell.T, np.linalg.inv(crystal.cell.T)
        rotations = np.array([to_cartesian @ w @ to_fraction for w in found["rotations"]])
        images = np.empty((len(rotations), crystal.n_basis), dtype=int)
        for k, (w, t) in enumerate(zip(found["rotations"], found["translations"], strict=True)):
            moved = crystal.scaled_positions @ w.T + t
            difference = moved[:, None] - crystal.scaled_positions[None]
            distance = np.linalg.norm((difference - np.rint(difference)) @ crystal.cell, axis=-1)
            images[k] = distance.argmin(axis=1)
        # Pure translations of a non-primitive cell repeat rotations; they do no harm, only work.
        return cls(rotations, images)


@dataclass(frozen=True)
class PairOrbit:
    """All pairs of sites that symmetry carries into each other.

    Attributes:
        length: A.
        centre, neighbour: basis atoms of each member, [n_members].
        vectors: from centre to neighbour, [n_members, 3], A.
        rotations: carry the representative (member 0) to each member, [n_members, 3, 3].
        reversed: whether the member is the representative with its ends exchanged, [n_members].
        stabiliser: list of (rotation, reversed) that leave the representative as it is.
    """

    length: float
    centre: np.ndarray
    neighbour: np.ndarray
    vectors: np.ndarray
    rotations: np.ndarray
    reversed: np.ndarray
    stabiliser: list[tuple[np.ndarray, bool]]


def pairs_within(crystal: Crystal, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered pairs of sites closer than `cutoff`: centre [n], neighbour [n], vectors [n, 3]."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell), axis=0)
    reach = [np.arange(-r, r + 1) for r in np.ceil(cutoff / heights).astype(int) + 1]
    translations = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3) @ crystal.cell
    positions = crystal.scaled_positions @ crystal.cell
    vectors = positions[None, :, None] + translations[None, None] - positions[:, None, None]  # [i, j, n, 3]
    lengths = np.linalg.norm(vectors, axis=-1)
    i, j, n = np.nonzero((lengths < cutoff) & (lengths > TOLERANCE))
    return i, j, vectors[i, j, n]


def pair_orbits(crystal: Crystal, cutoff: float, symmetry: Symmetry) -> list[PairOrbit]:
    """Orbits of the pairs within `cutoff`, shortest first."""
    centre, neighbour, vectors = pairs_within(crystal, cutoff)
    lengths = np.linalg.norm(vectors, axis=1)
    unseen = set(np.argsort(lengths, kind="stable").tolist())
    orbits = []
    for first in np.argsort(lengths, kind="stable"):
        if first not in unseen:
            continue
        members: dict[int, tuple[np.ndarray, bool]] = {int(first): (np.eye(3), False)}
        stabiliser = []
        for rotation, image in zip(symmetry.rotations, symmetry.images, strict=True):
            vector = rotation @ vectors[first]
            for swap in (False, True):
                i, j = image[centre[first]], image[neighbour[first]]
                i, j, target = (j, i, -vector) if swap else (i, j, vector)
                hit = (centre == i) & (neighbour == j) & (np.abs(vectors - target).max(axis=1) < TOLERANCE)
                found = int(np.flatnonzero(hit)[0])
                members.setdefault(found, (rotation, swap))
                if found == first:
                    stabiliser.append((rotation, swap))
        index = list(members)
        unseen -= set(index)
        orbits.append(
            PairOrbit(
                float(lengths[first]),
                centre[index],
                neighbour[index],
                vectors[index],
                np.array([members[k][0] for k in index]),
                np.array([members[k][1] for k in index]),
                stabiliser,
            )
        )
    return orbits


@dataclass(frozen=True)
class AngleOrbit:
    """All unordered pairs of bonds (i; j, k) with a common centre that symmetry carries into each other.

    Attributes:
        first, second: bonds of each member, as rows of `PairTable`, in the order the representative is carried to them.
        rotations: [n_members, 3, 3].
        stabiliser: list of (rotation, exchanged) that leave the representative as it is.
    """

    first: np.ndarray
    second: np.ndarray
    rotations: np.ndarray
    stabiliser: list[tuple[np.ndarray, bool]]


@dataclass(frozen=True)
class PairTable:
    """The members of all pair orbits, one after the other: what an edge of a graph is looked up in."""

    orbit: np.ndarray
    centre: np.ndarray
    neighbour: np.ndarray
    vectors: np.ndarray
    rotations: np.ndarray
    reversed: np.ndarray

    @classmethod
    def of(cls, orbits: list[PairOrbit]) -> PairTable:
        numbers = np.concatenate([np.full(len(o.centre), k) for k, o in enumerate(orbits)])
        stacked = [np.concatenate([getattr(o, name) for o in orbits]) for name in _MEMBER_ARRAYS]
        return cls(numbers, *stacked)


_MEMBER_ARRAYS = ("centre", "neighbour", "vectors", "rotations", "reversed")


def angle_orbits(table: PairTable, bonds: np.ndarray, symmetry: Symmetry) -> list[AngleOrbit]:
    """Orbits of the pairs of bonds, among the given rows of the table, that share their centre."""
    key = {
        (int(table.centre[b]), int(table.neighbour[b]), *np.rint(table.vectors[b] / TOLERANCE / 10).astype(int)): int(b)
        for b in bonds
    }

    def carried(rotation: np.ndarray, image: np.ndarray, bond: int) -> int:
        vector = np.rint(rotation @ table.vectors[bond] / TOLERANCE / 10).astype(int)
        centre, neighbour = int(image[table.centre[bond]]), int(image[table.neighbour[bond]])
        for step in _CORNERS:  # rounding may fall to either side
            if (found := key.get((centre, neighbour, *(vector + step)))) is not None:
                return found
        raise RuntimeError("symmetry carries a bond out of the table")

    unseen = {(int(a), int(b)) for a in bonds for b in bonds if a < b and table.centre[a] == table.centre[b]}
    orbits = []
    while unseen:
        a, b = min(unseen)
        members: dict[tuple[int, int], tuple[int, int, np.ndarray]] = {}
        stabiliser = []
        for rotation, image in zip(symmetry.rotations, symmetry.images, strict=True):
            p, q = carried(rotation, image, a), carried(rotation, image, b)
            pair = (min(p, q), max(p, q))
            members.setdefault(pair, (p, q, rotation))
            if pair == (a, b):
                stabiliser.append((rotation, p == b))
        unseen -= set(members)
        first, second, rotations = zip(*members.values(), strict=True)
        orbits.append(AngleOrbit(np.array(first), np.array(second), np.array(rotations), stabiliser))
    return orbits


_CORNERS = np.stack(np.meshgrid([0, 1, -1], [0, 1, -1], [0, 1, -1], indexing="ij"), axis=-1).reshape(-1, 3)


def invariant_tensors(orbit: PairOrbit) -> np.ndarray:
    """Basis [n, 3, 3] of the matrices Phi_ij the representative pair may have: S Phi S^T = Phi, or Phi^T if swapped."""
    projector = np.zeros((9, 9))
    transpose = np.arange(9).reshape(3, 3).T.reshape(-1)
    for rotation, swap in orbit.stabiliser:
        action = np.kron(rotation, rotation)
        projector += action[transpose] if swap else action
    return _fixed_space(projector / len(orbit.stabiliser)).reshape(-1, 3, 3)


def monomials(exponents: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Products of powers: x [n, d], exponents [m, d] -> [n, m]."""
    return np.prod(x[:, None, :] ** exponents[None], axis=-1)


def monomial_exponents(dimension: int, degree: int) -> np.ndarray:
    """Exponents of all monomials of a degree, [m, dimension]."""
    rows = [np.bincount(c, minlength=dimension) for c in combinations_with_replacement(range(dimension), degree)]
    return np.array(rows)


def invariant_polynomials(exponents: np.ndarray, actions: Sequence[Callable[[np.ndarray], np.ndarray]]) -> np.ndarray:
    """Polynomials in the given monomials unchanged by every linear map in `actions`: coefficients [n, m]."""
    points = np.random.default_rng(0).normal(size=(3 * len(exponents), exponents.shape[1]))
    plain = np.linalg.pinv(monomials(exponents, points))
    average = np.mean([plain @ monomials(exponents, act(points)) for act in actions], axis=0)
    return _fixed_space(average)


def _fixed_space(projector: np.ndarray) -> np.ndarray:
    """Rows spanning the range of a (not necessarily symmetric) projector onto invariants."""
    left, singular, _ = np.linalg.svd(projector)
    rank = int((singular > 1e-6).sum())
    basis = left[:, :rank]
    if not np.allclose(projector @ basis, basis, atol=1e-6):
        raise RuntimeError("the averaged symmetry action is no projector: the operations do not form a group")
    return basis.T
