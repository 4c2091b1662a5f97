"""Force constants from what phonopy leaves in a directory, whatever its units and wherever one stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import units
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_CONSTANTS, write_FORCE_SETS
from phonopy.structure.atoms import PhonopyAtoms
from springs import diamond

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import phonopy_files
from mlffx.lattice.expansion import load_potential_of
from mlffx.lattice.force_constants import ForceConstants, autodiff, load_force_constants
from mlffx.lattice.phonopy_api import to_ase
from mlffx.models.base import build_model
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.network import NetworkPotential

N = 3


@pytest.fixture(scope="module")
def harmonic() -> tuple[NetworkPotential, Crystal, ForceConstants]:
    """A second-order model of diamond, and its force constants in 3 x 3 x 3 primitive cells."""
    _, crystal = diamond()
    spec = {"name": "force_constants", "species": [6], "crystal": crystal.to_arrays(), "cutoff": 2.7, "orders": []}
    model = build_model(spec)
    model.coefficients.data = model.coefficients.data.new_tensor(np.linspace(-1.0, 2.0, model.n_features))
    potential = NetworkPotential(model, model.coefficients.data.new_zeros(1), 1.0, spec)
    return potential, crystal, autodiff(potential, crystal, N * np.eye(3, dtype=int))


def phonopy_run(directory: Path, potential: NetworkPotential, crystal: Crystal, calculator: str | None) -> Phonopy:
    """What `phonopy -d` and `phonopy -f` leave: phonopy_disp.yaml and FORCE_SETS, in the units of the calculator."""
    length, force = (units.Bohr, units.Rydberg / units.Bohr) if calculator == "qe" else (1.0, 1.0)
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell / length, scaled_positions=crystal.scaled_positions)
    ph = Phonopy(cell, N * np.eye(3, dtype=int), primitive_matrix="P", calculator=calculator, log_level=0)
    ph.generate_displacements(distance=0.01 / length, is_plusminus=True)
    directory.mkdir(parents=True, exist_ok=True)
    ph.save(directory / "phonopy_disp.yaml")

    structures = []
    for displaced in ph.supercells_with_displacements or []:
        atoms = to_ase(displaced)
        atoms.set_cell(atoms.cell.array * length, scale_atoms=True)
        structures.append(atoms)
    ph.forces = [np.asarray(forces) / force for forces in evaluate_atoms(potential, structures).forces]
    write_FORCE_SETS(ph.dataset, filename=directory / "FORCE_SETS")
    return ph


def same(found: ForceConstants, expected: ForceConstants, atol: float = 1e-5) -> None:
    assert np.array_equal(found.matrix, expected.matrix)
    np.testing.assert_allclose(found.values, expected.values, atol=atol)


@pytest.mark.parametrize("calculator", [None, "qe"])
@pytest.mark.parametrize("file", ["phonopy_disp.yaml", "FORCE_SETS"])
def test_force_sets(harmonic, tmp_path: Path, calculator: str | None, file: str) -> None:
    potential, crystal, expected = harmonic
    phonopy_run(tmp_path, potential, crystal, calculator)
    same(load_force_constants(tmp_path / file), expected)


def test_force_constants_text_as_base(harmonic, tmp_path: Path) -> None:
    potential, crystal, expected = harmonic
    ph = phonopy_run(tmp_path / "run", potential, crystal, None)
    (tmp_path / "run" / "FORCE_SETS").unlink()
    ph.produce_force_constants()
    write_FORCE_CONSTANTS(ph.force_constants, filename=tmp_path / "run" / "FORCE_CONSTANTS")
    again = load_potential_of(tmp_path / "run" / "FORCE_CONSTANTS")
    same(autodiff(again, crystal, N * np.eye(3, dtype=int)), expected)


def test_files_of_the_current_directory_are_not_picked_up(
    harmonic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    potential, crystal, expected = harmonic
    phonopy_run(tmp_path / "run", potential, crystal, None)
    (tmp_path / "FORCE_CONSTANTS").write_text("1 1\n1 1\n0 0 0\n0 0 0\n0 0 0\n")
    (tmp_path / "BORN").write_text("14.4\n9 0 0 0 9 0 0 0 9\n7 0 0 0 7 0 0 0 7\n")
    monkeypatch.chdir(tmp_path)
    stored = phonopy_files.load(Path("run/phonopy_disp.yaml"))
    assert stored.born is None and stored.values is not None
    same(load_force_constants(Path("run/phonopy_disp.yaml")), expected)


def test_numbers_without_their_crystal(tmp_path: Path) -> None:
    (tmp_path / "FORCE_SETS").write_text("54\n2\n")
    with pytest.raises(UserError, match=r"FORCE_SETS: the file has no crystal; put phonopy_params.yaml or"):
        load_force_constants(tmp_path / "FORCE_SETS")
    (tmp_path / "phonopy_disp.yaml").write_text("phonopy: [")
    with pytest.raises(UserError, match=r"FORCE_SETS: unreadable phonopy file"):
        load_force_constants(tmp_path / "FORCE_SETS")
