"""What force constants must obey, and by how much raw ones miss it."""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms
from scipy.spatial import cKDTree

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError


def space_group(crystal: Crystal, symprec: float = 1e-5) -> spglib.SpglibDataset:
    """Space group of a primitive cell (spglib's dataset: number, rotations, translations, transformation_matrix...)."""
    found = spglib.get_symmetry_dataset(
        (crystal.cell.tolist(), crystal.scaled_positions.tolist(), crystal.numbers.tolist()), symprec=symprec
    )
    if found is None:
        raise UserError(f"no symmetry found within {symprec:g} A in the primitive cell", where="data.crystal")
    return found


class SiteIndex:
    """Finds the atom of an ideal supercell at a position, lattice translations folded away."""

    def __init__(self, supercell: Atoms) -> None:
        self.inverse = np.linalg.inv(supercell.cell.array)
        self.positions = supercell.positions
        self.tree = cKDTree(self._fold(self.positions), boxsize=1.0)

    def __call__(self, positions: np.ndarray) -> np.ndarray | None:
        """[n, 3] A -> indices [n]; None when a position is no site."""
        distance, index = self.tree.query(self._fold(positions))
        return index if distance.max() < 1e-3 else None

    def _fold(self, positions: np.ndarray) -> np.ndarray:
        fractions = positions @ self.inverse
        fractions = fractions - np.floor(fractions)
        return np.where(fractions >= 1.0, 0.0, fractions)


def keeps_symmetry(crystal: Crystal, matrix: np.ndarray) -> bool:
    """Whether a supercell with rows `matrix @ crystal.cell` has every rotation of the crystal."""
    supercell = np.asarray(matrix) @ crystal.cell
    return all(_has(supercell, _cartesian(crystal, rotation)) for rotation in space_group(crystal).rotations)


def violations(values: np.ndarray, crystal: Crystal, supercell: Atoms, rows: np.ndarray) -> dict[str, float]:
    """Largest violation of each law by compact force constants, eV/A^2.

    Args:
        values: [n_basis, n_supercell, 3, 3].
        crystal: primitive cell.
        supercell: ideal supercell in the order of the columns, with `site_type`.
        rows: supercell index of each primitive atom, [n_basis].

    Returns:
        `acoustic_sum_rule` |sum_j Phi_ij|, `permutation` |Phi_ij - Phi_ji^T|, `space_group` |Phi - R Phi R^T| over the
        operations of the crystal that the supercell has.
    """
    find = SiteIndex(supercell)
    return {
        "acoustic_sum_rule": float(np.abs(values.sum(axis=1)).max()),
        "permutation": _permutation(values, supercell, rows, find),
        "space_group": _space_group(values, crystal, supercell, rows, find),
    }


def _permutation(values: np.ndarray, supercell: Atoms, rows: np.ndarray, find: SiteIndex) -> float:
    worst = 0.0
    site_type, positions = supercell.arrays["site_type"], supercell.positions
    for i, row in enumerate(rows):
        # Phi(j, i) is a row of the primitive atom that j repeats, seen from there.
        back = positions[rows[site_type]] + positions[row] - positions
        column = find(back)
        assert column is not None
        transposed = np.swapaxes(values[site_type, column], -1, -2)
        worst = max(worst, float(np.abs(values[i] - transposed).max()))
    return worst


def _space_group(values: np.ndarray, crystal: Crystal, supercell: Atoms, rows: np.ndarray, find: SiteIndex) -> float:
    group = space_group(crystal)
    worst, site_type = 0.0, supercell.arrays["site_type"]
    for rotation, shift in zip(group.rotations, group.translations, strict=True):
        cartesian = _cartesian(crystal, rotation)
        if not _has(supercell.cell.array, cartesian):
            continue
        moved = supercell.positions @ cartesian.T + shift @ crystal.cell
        image = find(moved)
        assert image is not None
        for i, row in enumerate(rows):
            target = site_type[image[row]]
            column = find(moved + supercell.positions[rows[target]] - moved[row])
            assert column is not None
            rotated = cartesian @ values[i] @ cartesian.T
            worst = max(worst, float(np.abs(values[target, column] - rotated).max()))
    return worst


def _cartesian(crystal: Crystal, rotation: np.ndarray) -> np.ndarray:
    """Rotation of fractional coordinates -> Cartesian matrix, [3, 3]."""
    return crystal.cell.T @ rotation @ np.linalg.inv(crystal.cell.T)


def _has(cell: np.ndarray, rotation: np.ndarray) -> bool:
    """Whether a Cartesian rotation maps the lattice `cell` onto itself."""
    turned = cell @ rotation.T @ np.linalg.inv(cell)
    return bool(np.abs(turned - np.rint(turned)).max() < 1e-5)
