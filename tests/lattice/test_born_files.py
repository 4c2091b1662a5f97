"""Born charges of VASP's and phonopy's files, on the atoms of the crystal whatever cell they were computed for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from phonopy.file_IO import get_BORN_lines
from phonopy.structure.atoms import PhonopyAtoms
from springs import rocksalt

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.lattice.force_constants import autodiff
from mlffx.lattice.nac import build_nac, plasma_frequency
from mlffx.lattice.phonons import Phonons

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from outputs import IonicStep, write_outcar, write_vasprun

Z, EPS = 1.05, 4.6


def conventional() -> tuple[Atoms, np.ndarray]:
    """LiH in 8 atoms, hydrogen first and at another lattice constant than the crystal's; charges of its atoms."""
    atoms = bulk("LiH", "rocksalt", a=3.95, cubic=True)
    atoms = atoms[np.argsort(atoms.numbers, kind="stable")]
    atoms.positions += 0.3
    return atoms, np.where(atoms.numbers == 3, Z, -Z)[:, None, None] * np.eye(3)


def written(path: Path, atoms: Atoms, born: np.ndarray, dielectric: np.ndarray) -> Path:
    step = IonicStep(atoms, -24.0, np.zeros((len(atoms), 3)))
    (write_vasprun if "vasprun" in path.name else write_outcar)(path, [step], born=born, dielectric=dielectric)
    return path


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_vasp(tmp_path: Path, name: str) -> None:
    atoms, born = conventional()
    path = written(tmp_path / name, atoms, born, EPS * np.eye(3))
    _, crystal = rocksalt()
    nac, notes = build_nac(str(path), crystal)
    assert nac is not None and not notes
    charges = [Z if number == 3 else -Z for number in crystal.numbers]
    np.testing.assert_allclose(nac.born, np.array(charges)[:, None, None] * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(nac.dielectric, EPS * np.eye(3), atol=1e-6)


def test_lo_to_splitting_from_a_file(tmp_path: Path) -> None:
    potential, crystal = rocksalt()
    nac, _ = build_nac(str(written(tmp_path / "vasprun.xml", *conventional(), EPS * np.eye(3))), crystal)
    assert nac is not None
    phonons = Phonons(autodiff(potential, crystal, 2 * np.eye(3, dtype=int)), nac=nac)
    to, lo = (phonons.modes([0, 0, 0], d).frequencies[0] for d in (None, (0.001, 0.001, 0)))
    expected = plasma_frequency(crystal, nac, np.array(phonons.ph.primitive.masses))
    assert lo.max() ** 2 - to.max() ** 2 == pytest.approx(expected**2, rel=1e-6)


def test_noise_is_symmetrised_and_told(tmp_path: Path) -> None:
    atoms, born = conventional()
    born = born + np.random.default_rng(0).normal(size=born.shape) * 0.2
    nac, (note,) = build_nac(str(written(tmp_path / "OUTCAR", atoms, born, EPS * np.eye(3))), rocksalt()[1])
    assert nac is not None and "lack the symmetry" in note
    np.testing.assert_allclose(nac.born.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(nac.born[0], nac.born[0, 0, 0] * np.eye(3), atol=1e-12)


def test_another_orientation(tmp_path: Path) -> None:
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    signs = np.where(atoms.numbers == 30, 1.0, -1.0)[:, None, None]
    born, dielectric = signs * np.diag([2.1, 2.1, 2.2]), np.diag([5.2, 5.2, 5.3])
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    turned = Atoms(atoms.numbers, cell=atoms.cell.array @ turn.T, scaled_positions=atoms.get_scaled_positions())
    path = written(tmp_path / "vasprun.xml", turned, turn @ born @ turn.T, turn @ dielectric @ turn.T)
    nac, notes = build_nac(str(path), Crystal.from_atoms(atoms))
    assert nac is not None and not notes
    np.testing.assert_allclose(nac.born, born, atol=1e-6)
    np.testing.assert_allclose(nac.dielectric, dielectric, atol=1e-6)


@pytest.mark.parametrize("beside", [True, False])
def test_a_born_file_of_phonopy(tmp_path: Path, beside: bool) -> None:
    potential, crystal = rocksalt()
    order = np.array([1, 0]) if beside else np.array([0, 1])  # the phonopy cell has its atoms in another order
    cell = PhonopyAtoms(
        numbers=crystal.numbers[order], cell=crystal.cell, scaled_positions=crystal.scaled_positions[order]
    )
    charges = np.where(crystal.numbers == 3, Z, -Z)[:, None, None] * np.eye(3)
    lines = get_BORN_lines(cell, charges[order], EPS * np.eye(3))
    (tmp_path / "BORN").write_text("\n".join(lines) + "\n")
    if beside:
        other = Crystal(crystal.cell, crystal.scaled_positions[order], crystal.numbers[order])
        Phonons(autodiff(potential, other, 2 * np.eye(3, dtype=int))).save(tmp_path / "phonopy_params.yaml")
    nac, _ = build_nac(str(tmp_path / "BORN"), crystal)
    assert nac is not None
    np.testing.assert_allclose(nac.born, charges, atol=1e-6)


def test_a_phonopy_file_with_its_born_charges(tmp_path: Path) -> None:
    potential, crystal = rocksalt()
    given, _ = build_nac(str(written(tmp_path / "OUTCAR", *conventional(), EPS * np.eye(3))), crystal)
    Phonons(autodiff(potential, crystal, 2 * np.eye(3, dtype=int)), nac=given).save(tmp_path / "phonopy_params.yaml")
    nac, _ = build_nac(str(tmp_path / "phonopy_params.yaml"), crystal)
    assert nac is not None and given is not None
    np.testing.assert_allclose(nac.born, given.born, atol=1e-6)


def test_mistakes(tmp_path: Path) -> None:
    _, crystal = rocksalt()
    with pytest.raises(
        UserError, match=r"phonons\.nac: unknown non-analytical term 'referense'; did you mean 'reference'"
    ):
        PhononSettings(nac="referense")
    atoms, born = conventional()
    write_vasprun(tmp_path / "vasprun.xml", [IonicStep(atoms, -24.0, np.zeros((8, 3)))])
    with pytest.raises(UserError, match=r"vasprun.xml: the file has no dielectric tensor; run VASP with LEPSILON"):
        build_nac(str(tmp_path / "vasprun.xml"), crystal)
    path = written(tmp_path / "OUTCAR", atoms, born, EPS * np.eye(3))
    with pytest.raises(UserError, match=r"OUTCAR: its cell \(H4Li4\) is none of the crystal's"):
        build_nac(str(path), Crystal.from_prototype("diamond", ["C"], 3.56))
    lines = path.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "BORN EFFECTIVE" in line)
    path.write_text("\n".join(lines[: start + 9]))
    with pytest.raises(UserError, match=rf"OUTCAR:{start + 10}: '' is no row of a tensor"):
        build_nac(str(path), crystal)
    (tmp_path / "BORN").write_text("default\n1 2 3\n")
    with pytest.raises(UserError, match="unreadable BORN file"):
        build_nac(str(tmp_path / "BORN"), crystal)
