"""What force constants must obey, and by how much raw ones miss it."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Operation:
    """How an operation of the space group moves force constants: Phi[target[i], column[i, j]] = R Phi[i, j] R^T.

    Attributes:
        rotation: Cartesian R, [3, 3].
        target: basis atom each basis atom becomes, [n_basis].
        column: where each pair's second atom goes, seen from the row of the target, [n_basis, n_supercell].
    """

    rotation: np.ndarray
    target: np.ndarray
    column: np.ndarray


class SupercellSymmetry:
    """What compact force constants of a crystal in a supercell must obey.

    Three laws: the space group (operations of the crystal that the supercell has), Phi_ij = Phi_ji^T, and
    sum_j Phi_ij = 0. The projections onto each commute, so one after the other they project onto all at once. The
    result is that of symfc's projector (a test holds them together) without a basis, whose making takes 20 s for 512
    atoms.

    Args:
        crystal: primitive cell.
        supercell: ideal supercell in the order of the columns, with `site_type`.
        rows: supercell index of each primitive atom, [n_basis].
    """

    def __init__(self, crystal: Crystal, supercell: Atoms, rows: np.ndarray) -> None:
        self.site_type: np.ndarray = supercell.arrays["site_type"]
        find, positions = SiteIndex(supercell), supercell.positions
        # Phi(j, i) is a row of the primitive atom that j repeats, seen from there.
        seen_from = positions[rows[self.site_type]] - positions
        self.transposed = np.stack([_found(find(seen_from + positions[row])) for row in rows])
        self.operations: list[Operation] = []
        group = space_group(crystal)
        for rotation, shift in zip(group.rotations, group.translations, strict=True):
            cartesian = _cartesian(crystal, rotation)
            if not _has(supercell.cell.array, cartesian):
                continue
            moved = positions @ cartesian.T + shift @ crystal.cell
            target = self.site_type[_found(find(moved[rows]))]
            columns = [
                _found(find(moved + positions[rows[t]] - moved[row])) for t, row in zip(target, rows, strict=True)
            ]
            self.operations.append(Operation(cartesian, target, np.stack(columns)))

    def violations(self, values: np.ndarray) -> dict[str, float]:
        """Largest violation of each law by compact force constants [n_basis, n_supercell, 3, 3], eV/A^2.

        `acoustic_sum_rule` |sum_j Phi_ij|, `permutation` |Phi_ij - Phi_ji^T|, `space_group` |Phi - R Phi R^T|.
        """
        worst = 0.0
        for op in self.operations:
            moved = values[op.target[:, None], op.column]
            worst = max(worst, float(np.abs(moved - _rotated(op.rotation, values)).max()))
        return {
            "acoustic_sum_rule": float(np.abs(values.sum(axis=1)).max()),
            "permutation": float(np.abs(values - self._transpose(values)).max()),
            "space_group": worst,
        }

    def project(self, values: np.ndarray) -> np.ndarray:
        """The nearest compact force constants [n_basis, n_supercell, 3, 3] that obey every law."""
        average = np.zeros_like(values)
        for op in self.operations:
            average[op.target[:, None], op.column] += _rotated(op.rotation, values)
        average /= len(self.operations)
        average = 0.5 * (average + self._transpose(average))
        # (1 - T) Phi (1 - T) with T the mean over atoms; sums over rows are transposes of those over columns by now.
        n_basis, n = average.shape[:2]
        sums = average.sum(axis=1)
        total = sums.sum(axis=0) / (n_basis * n)
        return average - sums[:, None] / n - np.swapaxes(sums, 1, 2)[self.site_type][None] / n + total

    def _transpose(self, values: np.ndarray) -> np.ndarray:
        """Phi_ji^T in the place of Phi_ij."""
        return np.swapaxes(values[self.site_type[None], self.transposed], -1, -2)


def _rotated(rotation: np.ndarray, values: np.ndarray) -> np.ndarray:
    return rotation @ values @ rotation.T


def _found(index: np.ndarray | None) -> np.ndarray:
    if index is None:
        raise UserError("the supercell does not repeat the crystal", "is the crystal's cell primitive?", "data.crystal")
    return index


def _cartesian(crystal: Crystal, rotation: np.ndarray) -> np.ndarray:
    """Rotation of fractional coordinates -> Cartesian matrix, [3, 3]."""
    return crystal.cell.T @ rotation @ np.linalg.inv(crystal.cell.T)


def _has(cell: np.ndarray, rotation: np.ndarray) -> bool:
    """Whether a Cartesian rotation maps the lattice `cell` onto itself."""
    turned = cell @ rotation.T @ np.linalg.inv(cell)
    return bool(np.abs(turned - np.rint(turned)).max() < 1e-5)
