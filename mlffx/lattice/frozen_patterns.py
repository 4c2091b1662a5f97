"""Frozen-phonon patterns of a supercell, by symmetry alone: which displacements give every frequency at its q-points.

A real pattern moves one atom of the primitive cell along one axis, with the sign exp(2 pi i q.R) = +-1 in each cell.
Patterns that symmetry couples form a *block*; energies along its patterns and along their sums give its force-constant
matrix, and with the masses of any isotope its frequencies. No eigenvector of any level of theory goes in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import paths
from mlffx.lattice.symmetry import SiteIndex, space_group

COUPLED = 1e-8  # of symmetry-averaged products of unit patterns
LONGITUDINAL = 0.5  # |axis . q|^2 above this


@dataclass(frozen=True)
class Ray:
    """A direction in which energies are computed.

    Attributes:
        name: `H`, or `Li+H` for the sum of two patterns.
        pattern: displacements with a largest one of 1, [n_atoms, 3].
        even: symmetry makes the energies at +A and -A equal.
    """

    name: str
    pattern: np.ndarray
    even: bool


@dataclass(frozen=True)
class Block:
    """Patterns that symmetry couples, once for each set of degenerate modes.

    Attributes:
        label: GAMMA, X...
        branches: names of its modes by ascending frequency.
        rays: of single patterns first, then of their pairwise sums.
    """

    label: str
    branches: tuple[str, ...]
    rays: tuple[Ray, ...]


def blocks(crystal: Crystal, supercell: Atoms) -> list[Block]:
    """Blocks of every labelled q-point whose modes are real and fit the supercell; acoustic ones at GAMMA left out.

    Args:
        crystal: primitive.
        supercell: ideal, as of `Crystal.supercell`.

    Raises:
        UserError: where no labelled point fits.
    """
    operations = _operations(crystal, supercell)
    found: list[Block] = []
    for label, q in paths.labelled_points(crystal).items():
        phases = _phases(crystal, supercell, q)
        if phases is None:
            continue
        direction = paths.cartesian(crystal, q)
        axes = _axes(direction)
        seen: list[np.ndarray] = []
        for group in _coupled(_patterns(crystal, supercell, phases, axes), operations):
            weight = sum(_average(p, p, operations) for _, _, p in group)
            if any(np.allclose(weight, other, atol=COUPLED) for other in seen):
                continue  # degenerate with one that is there
            seen.append(np.asarray(weight))
            at_gamma = bool(np.abs(q).max() < 1e-8)
            if at_gamma:
                group = group[1:]  # a rigid translation costs nothing: the first atom may stay where it is
            if not group:
                continue
            longitudinal = (
                not at_gamma and float((group[0][1] @ direction) ** 2 / (direction @ direction)) > LONGITUDINAL
            )
            found.append(Block(label, _branches(crystal, at_gamma, longitudinal, len(group)), _rays(group, operations)))
    if not found:
        raise UserError("no labelled q-point fits into the supercell", "take a larger one", "supercell")
    return _told_apart(found)


def _told_apart(found: list[Block]) -> list[Block]:
    """Blocks of one name are named after what moves: L(B) and L(N) at X of zincblende, whichever is LA."""
    names = [(block.label, block.branches) for block in found]
    return [
        replace(block, branches=tuple(f"{branch[0]}({block.rays[0].name})" for branch in block.branches))
        if names.count((block.label, block.branches)) > 1 and len(block.branches) == 1
        else block
        for block in found
    ]


def _rays(group: list[tuple[str, np.ndarray, np.ndarray]], operations: list) -> tuple[Ray, ...]:
    single = [(name, pattern) for name, _, pattern in group]
    sums = [(f"{a}+{b}", p + q) for (a, p), (b, q) in combinations(single, 2)]
    return tuple(
        Ray(name, unit, _is_even(unit, operations))
        for name, p in [*single, *sums]
        for unit in [p / np.linalg.norm(p, axis=1).max()]
    )


def _branches(crystal: Crystal, at_gamma: bool, longitudinal: bool, n: int) -> tuple[str, ...]:
    """By ascending frequency: acoustic first; at GAMMA optical modes only, whose frequency is the transverse one."""
    if at_gamma:
        kind = "LTO" if len(set(crystal.numbers.tolist())) == 1 else "TO"
        return (kind,) if n == 1 else tuple(f"{kind}_{k + 1}" for k in range(n))
    names = ("LA", "LO") if longitudinal else ("TA", "TO")
    return names[:n] if n <= 2 else (names[0], *[f"{names[1]}_{k}" for k in range(1, n)])


def _phases(crystal: Crystal, supercell: Atoms, q: np.ndarray) -> np.ndarray | None:
    """exp(2 pi i q.R) of each atom's primitive cell, [n_atoms], where it is +-1 and fits the supercell; else None."""
    if np.abs(2 * q - np.rint(2 * q)).max() > 1e-6:
        return None
    matrix = np.rint(supercell.cell.array @ np.linalg.inv(crystal.cell))
    if np.abs(matrix @ q - np.rint(matrix @ q)).max() > 1e-6:
        return None
    basis = (crystal.scaled_positions @ crystal.cell)[supercell.arrays["site_type"]]
    translations = np.rint((supercell.positions - basis) @ np.linalg.inv(crystal.cell))
    return np.rint(np.cos(2 * np.pi * translations @ q))


def _axes(direction: np.ndarray) -> np.ndarray:
    """Along q and two axes across, [3, 3]; Cartesian axes at GAMMA."""
    if np.linalg.norm(direction) < 1e-8:
        return np.eye(3)
    along = direction / np.linalg.norm(direction)
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    across /= np.linalg.norm(across)
    return np.stack([along, across, np.cross(along, across)])


def _patterns(
    crystal: Crystal, supercell: Atoms, phases: np.ndarray, axes: np.ndarray
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, axis, pattern) of every basis atom along every axis."""
    symbols = [chemical_symbols[z] for z in crystal.numbers]
    names = [s if symbols.count(s) == 1 else f"{s}{k + 1}" for k, s in enumerate(symbols)]
    types = supercell.arrays["site_type"]
    return [(names[k], axis, np.outer(phases * (types == k), axis)) for axis in axes for k in range(crystal.n_basis)]


def _coupled(patterns: list[tuple[str, np.ndarray, np.ndarray]], operations: list) -> list[list]:
    """Patterns whose product some invariant force constants can contain, together."""
    groups: list[list] = []
    for item in patterns:
        joined = [g for g in groups if any(np.abs(_average(item[2], p, operations)).max() > COUPLED for _, _, p in g)]
        merged = [entry for g in joined for entry in g]
        groups = [g for g in groups if all(g is not j for j in joined)] + [[*merged, item]]
    order = {id(p[2]): k for k, p in enumerate(patterns)}
    return sorted((sorted(g, key=lambda e: order[id(e[2])]) for g in groups), key=lambda g: order[id(g[0][2])])


def _average(a: np.ndarray, b: np.ndarray, operations: list) -> np.ndarray:
    """Symmetrised product of two patterns averaged over the group, [3 n_atoms, 3 n_atoms]: <Phi, a b> depends on it."""
    total = np.zeros((a.size, a.size))
    for rotation, image in operations:
        x, y = np.empty_like(a), np.empty_like(b)
        x[image], y[image] = a @ rotation.T, b @ rotation.T
        total += np.outer(x, y)
    return (total + total.T) / (2 * len(operations) * np.linalg.norm(a) * np.linalg.norm(b))


def _is_even(pattern: np.ndarray, operations: list) -> bool:
    for rotation, image in operations:
        moved = np.empty_like(pattern)
        moved[image] = pattern @ rotation.T
        if np.allclose(moved, -pattern, atol=1e-6):
            return True
    return False


def _operations(crystal: Crystal, supercell: Atoms) -> list[tuple[np.ndarray, np.ndarray]]:
    """(Cartesian rotation, image of each atom) of every operation of the crystal that the supercell has."""
    find, group, found = SiteIndex(supercell), space_group(crystal), []
    inverse = np.linalg.inv(supercell.cell.array)
    basis = crystal.scaled_positions @ crystal.cell
    shifts = supercell.positions[supercell.arrays["site_type"] == 0] - basis[0]
    for rotation, shift in zip(group.rotations, group.translations, strict=True):
        cartesian = crystal.cell.T @ rotation @ np.linalg.inv(crystal.cell.T)
        turned = supercell.cell.array @ cartesian.T @ inverse
        if np.abs(turned - np.rint(turned)).max() > 1e-5:
            continue
        for translation in shifts:
            image = find(supercell.positions @ cartesian.T + shift @ crystal.cell + translation)
            if image is not None:
                found.append((cartesian, image))
    return found
