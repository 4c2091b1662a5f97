"""How force constants fall off with distance: the range a potential has, and the tail that charges leave."""

from __future__ import annotations

import numpy as np

from mlffx.lattice.force_constants import ForceConstants

SAME_SHELL = 0.02  # A


def shell_norms(constants: ForceConstants, reach: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each shell of neighbours, A, and the root mean square norm of its matrices, eV/A^2.

    Shells are told apart by distance alone. Only pairs nearer than half the smallest width of the supercell count: from
    there on a matrix is the sum over several images.

    Args:
        constants: of a supercell.
        reach: leave out shells beyond it, A; None: half the supercell's smallest width.
    """
    supercell = constants.supercell()
    half = 0.5 / float(np.linalg.norm(np.linalg.inv(supercell.cell.array), axis=0).max())
    limit = half if reach is None else min(reach, half)
    distances, squares = [], []
    for i, row in enumerate(constants.rows):
        found = supercell.get_distances(row, np.arange(len(supercell)), mic=True)
        near = (found > 0.1) & (found < limit - SAME_SHELL)
        distances.append(found[near])
        squares.append((constants.values[i, near] ** 2).sum(axis=(1, 2)))
    r, square = np.concatenate(distances), np.concatenate(squares)
    order = np.argsort(r)
    shells = np.split(order, np.flatnonzero(np.diff(r[order]) > SAME_SHELL) + 1)
    return np.array([r[s].mean() for s in shells]), np.sqrt([square[s].mean() for s in shells])
