"""Sites and displacements are found whatever the order of the atoms, the drift, the wrapping and the orientation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError

DIAMOND = Crystal.from_prototype("diamond", ["C"], 3.56)
ROCKSALT = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])


def displaced(crystal: Crystal, matrix: np.ndarray, size: float, seed: int = 0) -> tuple[Atoms, np.ndarray]:
    atoms = crystal.supercell(matrix)
    del atoms.arrays["site_type"]
    u = np.random.default_rng(seed).normal(scale=size, size=(len(atoms), 3))
    u -= u.mean(axis=0)
    atoms.positions += u
    return atoms, u


@pytest.mark.parametrize("crystal", [DIAMOND, ROCKSALT], ids=["diamond", "rocksalt"])
@pytest.mark.parametrize(
    "matrix", [np.diag([2, 2, 1]) @ CONVENTIONAL, 2 * np.eye(3, dtype=int), [[2, 1, 0], [0, 2, 0], [0, 1, 3]]]
)
@pytest.mark.parametrize("drift", [[0, 0, 0], [0.4, -0.9, 1.78], [-5.0, 11.3, 0.6]])
def test_displacements_are_recovered(crystal: Crystal, matrix: np.ndarray, drift: list[float]) -> None:
    atoms, u = displaced(crystal, np.asarray(matrix), 0.06)
    atoms.positions += drift
    atoms.wrap()
    shuffle = np.random.default_rng(1).permutation(len(atoms))
    atoms, u = atoms[shuffle], u[shuffle]
    match = crystal.match(atoms)
    np.testing.assert_allclose(match.displacements, u, atol=1e-10)
    np.testing.assert_allclose(match.sites, atoms.positions - u, atol=1e-10)
    assert sorted(match.order) == list(range(len(atoms)))
    assert np.array_equal(crystal.numbers[match.site_type], atoms.numbers)
    ideal = crystal.supercell(crystal.repetitions(atoms.cell.array))
    offset = (match.sites - ideal.positions[match.order] - match.drift) @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-9)  # sites are the ideal ones, drifted


@pytest.mark.parametrize("seed", range(3))
def test_hot_frames_and_strained_cells(seed: int) -> None:
    atoms, u = displaced(DIAMOND, 2 * CONVENTIONAL, 0.12, seed)  # rms 0.21 A: beyond the hottest frames of the paper
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02), scale_atoms=True)
    match = DIAMOND.match(atoms)
    np.testing.assert_allclose(match.displacements, u @ (np.eye(3) + 0.02), atol=1e-10)


def test_supercells() -> None:
    matrix = [[2, 1, 0], [0, 2, 0], [0, 1, 3]]
    atoms = DIAMOND.supercell(matrix)
    assert len(atoms) == 2 * 12
    assert np.array_equal(DIAMOND.repetitions(atoms.cell.array), matrix)
    np.testing.assert_array_equal(np.bincount(atoms.arrays["site_type"]), [12, 12])
    distances = atoms.get_all_distances(mic=True)
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, 1:5], 3.56 * np.sqrt(3) / 4, atol=1e-9)
    assert len(DIAMOND.supercell([3, 3, 3])) == 54


@pytest.mark.parametrize("crystal", [DIAMOND, ROCKSALT], ids=["diamond", "rocksalt"])
def test_found_in_a_displaced_and_rotated_supercell(crystal: Crystal) -> None:
    atoms, _ = displaced(crystal, np.diag([2, 2, 1]) @ CONVENTIONAL, 0.02)
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 0.7]).as_matrix()
    atoms.set_cell(atoms.cell.array @ turn.T)
    atoms.positions = atoms.positions @ turn.T + [0.2, 0.1, -0.3]
    found = Crystal.from_displaced(atoms)
    assert found.n_basis == 2
    np.testing.assert_allclose(abs(np.linalg.det(found.cell)), abs(np.linalg.det(crystal.cell)), rtol=1e-6)
    u = found.match(atoms).displacements
    assert np.sqrt((u**2).sum(axis=1).mean()) == pytest.approx(0.02 * np.sqrt(3), rel=0.2)


def test_no_symmetry_is_told() -> None:
    atoms = Atoms("C6", np.random.default_rng(0).uniform(0, 6, (6, 3)), cell=np.diag([6.0, 7.1, 8.3]) + 0.4, pbc=True)
    atoms.positions[0] = atoms.positions[1]
    with pytest.raises(UserError, match=r"data.crystal: no crystal symmetry within 0.2 A; declare data.crystal"):
        Crystal.from_displaced(atoms)


def test_other_structures_are_refused() -> None:
    atoms, _ = displaced(DIAMOND, 2 * CONVENTIONAL, 0.01)
    with pytest.raises(UserError, match=r"composition C64 is not that of the crystal \(.*\); check species"):
        Crystal.from_prototype("zincblende", ["Si", "C"], 3.56).match(atoms)
    with pytest.raises(UserError, match=r"cell: the cell is no supercell of the crystal"):
        Crystal.from_prototype("diamond", ["C"], 4.4).match(atoms)
    atoms.positions = np.random.default_rng(0).uniform(0, 7.12, (64, 3))
    with pytest.raises(
        UserError, match=r"atoms cannot be matched to the sites of the crystal; is the structure molten"
    ):
        DIAMOND.match(atoms)
    with pytest.raises(UserError, match=r"data.crystal: 'diamant' with \['C'\]"):
        Crystal.from_prototype("diamant", ["C"], 3.5)
    with pytest.raises(UserError, match=r"is singular"):
        DIAMOND.supercell([[1, 0, 0], [1, 0, 0], [0, 0, 1]])
