"""Structures are the same whatever the drift and the wrapping, and different when an atom moved."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlffx.data.align import duplicates, largest_distance, partners


def frames(n: int, cell: Atoms | None = None) -> list[Atoms]:
    out = []
    for seed in range(n):
        atoms = (cell if cell is not None else bulk("LiH", "rocksalt", a=4.02, cubic=True)).copy()
        atoms.rattle(0.05, seed=seed)
        out.append(atoms)
    return out


def disguised(atoms: Atoms, seed: int) -> Atoms:
    """The same structure, drifted, each atom in another image, and rounded to 5 decimals."""
    rng = np.random.default_rng(seed)
    copy = atoms.copy()
    copy.positions += rng.normal(scale=3.0, size=3)
    copy.positions += rng.integers(-2, 3, size=(len(atoms), 3)) @ atoms.cell.array
    copy.positions = np.round(copy.positions, 5)
    return copy


@pytest.mark.parametrize("skewed", [False, True])
def test_partners_are_found_in_any_order(skewed: bool) -> None:
    cell = bulk("C", "diamond", a=3.56).repeat((3, 2, 2)) if skewed else None
    references = frames(60, cell)
    order = np.random.default_rng(5).permutation(60)
    found = partners([disguised(references[i], i) for i in order], references, 1e-3)
    assert np.array_equal(found, order)


def test_strangers_have_no_partner() -> None:
    references = frames(20)
    moved = references[7].copy()
    moved.positions[3] += [0.002, 0, 0]
    other_cell = references[2].copy()
    other_cell.set_cell(other_cell.cell.array * 1.001, scale_atoms=True)
    other_species = references[4].copy()
    other_species.numbers = other_species.numbers[::-1]
    assert partners([moved, other_cell, other_species], references, 1e-3).tolist() == [-1, -1, -1]
    assert partners([moved], references, 5e-3).tolist() == [7]


def test_the_closest_of_several_is_taken() -> None:
    first = frames(1)[0]
    near = first.copy()
    near.positions[0] += [0.0008, 0, 0]
    assert partners([near, first], [first, near], 1e-3).tolist() == [1, 0]


def test_largest_distance_is_that_of_the_worst_atom_without_drift() -> None:
    first = frames(1)[0]
    moved = disguised(first, 0)
    assert largest_distance(first, moved) < 2e-5
    moved = first.copy()
    moved.positions[2, 1] += 0.08
    assert largest_distance(first, moved) == pytest.approx(0.08 * 7 / 8)


def test_duplicates_name_the_first_occurrence() -> None:
    some = frames(6)
    copies = [*some, disguised(some[2], 1), some[0].copy(), disguised(some[2], 3)]
    assert duplicates(copies, tolerance=1e-4) == {6: 2, 7: 0, 8: 2}
    assert duplicates(some) == {}
