"""phonopy's files: written for phonopy, phono3py and others, and read back as a crystal with force constants.

Units are those of the file's `calculator` (Ry and bohr for Quantum ESPRESSO), converted to eV, A and e.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import phonopy
from ase import Atoms
from ase import units as ase_units
from phonopy import Phonopy
from phonopy.file_IO import parse_BORN, write_FORCE_CONSTANTS
from phonopy.harmonic.force_constants import compact_fc_to_full_fc
from phonopy.interface.calculator import get_calculator_physical_units
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice.phonopy_api import Geometry, geometry, to_ase

CELL_FILES = ("phonopy_params.yaml", "phonopy_disp.yaml", "phonopy.yaml")  # one of them stands beside the files below
NUMBERS_ONLY = {
    "FORCE_SETS": "force_sets_filename",
    "FORCE_CONSTANTS": "force_constants_filename",
    "force_constants.hdf5": "force_constants_filename",
}


@dataclass(frozen=True)
class Stored:
    """What a phonopy file holds.

    Attributes:
        crystal: primitive cell.
        matrix: supercell rows in primitive rows, [3, 3].
        values: compact force constants, [n_basis, n_supercell, 3, 3], eV/A^2, or None.
        masses: [n_basis], amu.
        born: [n_basis, 3, 3], e, or None.
        dielectric: [3, 3] or None.
    """

    crystal: Crystal
    matrix: np.ndarray
    values: np.ndarray | None
    masses: np.ndarray
    born: np.ndarray | None
    dielectric: np.ndarray | None


def save(ph: Phonopy, path: Path) -> None:
    """Write cells, supercell, force constants, masses and the non-analytical term as `phonopy_params.yaml`."""
    partial = path.with_name(path.name + ".part")
    ph.save(partial, settings={"force_constants": True, "force_sets": False, "displacements": False})
    partial.replace(path)


def write_force_constants(ph: Phonopy, path: Path) -> None:
    """Write FORCE_CONSTANTS, phonopy's text format (full: every atom of the supercell)."""
    full = ph.force_constants
    assert full is not None
    if full.shape[0] != full.shape[1]:
        full = compact_fc_to_full_fc(ph.primitive, full)
    partial = path.with_name(path.name + ".part")
    write_FORCE_CONSTANTS(full, filename=partial)
    partial.replace(path)


def load(path: Path) -> Stored:
    """Read a phonopy file with force constants (or forces, from which they are computed).

    Args:
        path: `phonopy_params.yaml`, or a file like it, with FORCE_SETS, FORCE_CONSTANTS or BORN beside it where it does
            not have them itself; or one of these with a file like it beside them.

    Raises:
        UserError: for a missing or unreadable file.
    """
    path = Path(path)
    ph = _open(path)
    units = get_calculator_physical_units(ph.calculator)
    cell = to_ase(ph.primitive)
    matrix = np.rint(np.asarray(ph.supercell.cell) @ np.linalg.inv(cell.cell.array)).astype(int)
    cell.set_cell(cell.cell.array * units.distance_to_A, scale_atoms=True)
    values = ph.force_constants
    if values is not None:
        if values.shape[0] == values.shape[1] and values.shape[0] != len(cell):
            values = values[ph.primitive.p2s_map]
        target = geometry(Crystal.from_atoms(cell), matrix)
        values = _reorder(ph, target, np.array(values), units.distance_to_A) * _to_ev_per_a2(units.force_constants_unit)
    nac = ph.nac_params
    return Stored(
        Crystal.from_atoms(cell),
        matrix,
        values,
        np.array(ph.masses),
        None if nac is None else np.array(nac["born"]),
        None if nac is None else np.array(nac["dielectric"]),
    )


def load_born(path: Path, crystal: Crystal) -> tuple[Atoms, np.ndarray, np.ndarray]:
    """Born charges and dielectric tensor of a BORN file, with the primitive cell they are of.

    Args:
        path: of BORN; the cell is that of a phonopy file beside it.
        crystal: whose cell and order of atoms are taken where there is none.

    Raises:
        UserError: for a missing or unreadable file.
    """
    path = Path(path)
    beside = next((path.parent / name for name in CELL_FILES if (path.parent / name).is_file()), None)
    primitive, to_a = _to_phonopy(crystal), 1.0
    if beside is not None:
        ph = _open(beside)
        primitive, to_a = ph.primitive, get_calculator_physical_units(ph.calculator).distance_to_A
    try:
        nac = parse_BORN(primitive, filename=path)
    except Exception as error:  # phonopy raises what it likes
        raise UserError(
            f"unreadable BORN file ({_first_line(error)})", "write one with phonopy-vasp-born", path
        ) from error
    atoms = to_ase(primitive)
    atoms.set_cell(atoms.cell.array * to_a, scale_atoms=True)
    return atoms, np.array(nac["born"]), np.array(nac["dielectric"])


def symmetrised(crystal: Crystal, born: np.ndarray, dielectric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Born charges and dielectric tensor with the symmetry of the crystal and the sum rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how far they were from it is told by who asks
        return symmetrize_borns_and_epsilon(born, dielectric, _to_phonopy(crystal))


def _open(path: Path) -> Phonopy:
    if not path.is_file():
        raise UserError("no such phonopy file", "write one with evaluate.py or phonopy", path)
    numbers = NUMBERS_ONLY.get(path.name)
    cell = path
    if numbers is not None:
        found = [path.parent / name for name in CELL_FILES if (path.parent / name).is_file()]
        if not found:
            raise UserError("the file has no crystal", f"put {' or '.join(CELL_FILES)} beside it", path)
        cell = found[0]
    given: dict[str, Any] = {} if numbers is None else {numbers: path.name}
    try:
        # phonopy looks for FORCE_SETS, FORCE_CONSTANTS and BORN where it runs: that must be beside the file and not
        # wherever the user happens to be.
        with contextlib.chdir(path.parent):
            return phonopy.load(cell.name, is_nac=True, symmetrize_fc=False, log_level=0, **given)
    except Exception as error:  # phonopy raises what it likes
        raise UserError(f"unreadable phonopy file ({type(error).__name__}: {_first_line(error)})", "", path) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _to_phonopy(crystal: Crystal) -> PhonopyAtoms:
    return PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)


def _to_ev_per_a2(unit: str) -> float:
    """Of a unit of force constants as phonopy writes it: `Ry/au^2`, `hartree/angstrom.au`, `eV/angstrom^2`."""
    energy, area = unit.split("/")
    energies = {"eV": 1.0, "Ry": ase_units.Rydberg, "mRy": 1e-3 * ase_units.Rydberg, "hartree": ase_units.Hartree}
    lengths = {"angstrom": 1.0, "au": ase_units.Bohr}
    factors = [area.removesuffix("^2")] * 2 if area.endswith("^2") else area.split(".")
    try:
        return energies[energy] / (lengths[factors[0]] * lengths[factors[1]])
    except (KeyError, IndexError):
        raise UserError(f"unknown unit of force constants '{unit}'", "convert them to eV/angstrom^2") from None


def _reorder(ph: Phonopy, target: Geometry, values: np.ndarray, to_a: float) -> np.ndarray:
    """Columns of compact force constants from the supercell order of `ph` to that of `target`.

    Both supercells are repeats of the same primitive cell, perhaps with other representatives: columns are found by the
    vector from the row's atom.
    """
    ours, theirs = target.supercell, ph.supercell
    inverse = np.linalg.inv(ours.cell.array)
    out = np.empty_like(values)
    for row in range(len(values)):
        start_ours = ours.positions[target.rows[row]]
        start_theirs = theirs.positions[ph.primitive.p2s_map[row]]
        offsets = (ours.positions - start_ours)[:, None] - (theirs.positions - start_theirs)[None] * to_a
        fractions = offsets @ inverse
        distance = np.abs(fractions - np.rint(fractions)).max(axis=-1)
        out[row] = values[row, distance.argmin(axis=1)]
        assert distance.min(axis=1).max() < 1e-3, "phonopy file whose supercell is not a repeat of its primitive cell"
    return out
