"""Which q-points a supercell holds: there its energies and forces fix the phonons, elsewhere these are interpolated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.lattice.paths import labelled_points
from mlffx.lattice.symmetry import space_group

TOLERANCE = 1e-6  # cycles


def holds(crystal: Crystal, matrix: Sequence[Sequence[int]] | np.ndarray, q: Sequence[float] | np.ndarray) -> bool:
    """Whether exp(2 pi i q.R) = 1 for every lattice vector R of the supercell.

    q stands for its star: one arm that fits is enough, because phonons at all arms are those of one by symmetry. A
    cell of 2x2x1 cubes holds W, though not every arm of it.

    Args:
        matrix: supercell rows in primitive rows, [3, 3].
        q: fractions of the reciprocal primitive cell, [3].
    """
    star = np.array([rotation.T @ np.asarray(q, dtype=float) for rotation in space_group(crystal).rotations])
    cycles = star @ np.asarray(matrix, dtype=float).T
    return bool((np.abs(cycles - np.rint(cycles)).max(axis=1) < TOLERANCE).any())


def held_points(crystal: Crystal, matrices: Sequence[np.ndarray]) -> dict[str, bool]:
    """Labelled point -> whether any of the supercells holds it."""
    return {label: any(holds(crystal, m, q) for m in matrices) for label, q in labelled_points(crystal).items()}
