"""q-points that fit a supercell, against what is worked out by hand: q.R is an integer for every lattice vector R."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.data.crystal import Crystal
from mlffx.lattice.commensurate import held_points, holds
from mlffx.lattice.force_constants import conventional_matrix
from mlffx.lattice.paths import point

DIAMOND = Crystal.from_prototype("diamond", ["C"], 3.56)


def held(matrix: np.ndarray) -> set[str]:
    return {label for label, fits in held_points(DIAMOND, [matrix]).items() if fits}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (1, {"GAMMA", "X"}),  # 8 atoms
        ([2, 2, 1], {"GAMMA", "X", "W"}),  # 32 atoms: (1, 1/2, 0) fits, (0, 1/2, 1) does not, the star does
        (2, {"GAMMA", "X", "L", "W"}),  # 64 atoms
        (3, {"GAMMA", "X"}),  # odd: neither halves nor quarters
        (4, {"GAMMA", "X", "L", "W", "K"}),
    ],
)
def test_conventional_cells(cells: int | list[int], expected: set[str]) -> None:
    assert held(conventional_matrix(DIAMOND, cells)) == expected


def test_primitive_cells() -> None:
    assert held(np.eye(3, dtype=int)) == {"GAMMA"}
    assert held(2 * np.eye(3, dtype=int)) == {"GAMMA", "X", "L"}
    assert held(4 * np.eye(3, dtype=int)) == {"GAMMA", "X", "L", "W"}
    assert held(8 * np.eye(3, dtype=int)) == {"GAMMA", "X", "L", "W", "K"}


def test_one_of_several_cells_is_enough_and_no_cell_holds_nothing() -> None:
    small, other = conventional_matrix(DIAMOND, 1), 2 * np.eye(3, dtype=int)
    assert held_points(DIAMOND, [small, other])["L"] and not held_points(DIAMOND, [small])["L"]
    assert not any(held_points(DIAMOND, []).values())


def test_an_arm_of_the_star_may_be_given_whole_reciprocal_vectors_away() -> None:
    matrix = conventional_matrix(DIAMOND, 2)
    assert holds(DIAMOND, matrix, point(DIAMOND, "L") + np.array([1, -2, 3]))
    assert not holds(DIAMOND, matrix, point(DIAMOND, "K") + np.array([1, 0, 0]))
