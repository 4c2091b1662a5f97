"""Born charges and dielectric tensor from the files of VASP and phonopy, for the atoms of a crystal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import spglib
from ase import Atoms

from mlffx.data.crystal import Crystal
from mlffx.data.vasp_response import read_response
from mlffx.errors import UserError
from mlffx.lattice import phonopy_files
from mlffx.lattice.nac import CONSISTENT, Nac


def nac_of_file(path: Path, crystal: Crystal, method: str = "gonze") -> tuple[Nac, list[str]]:
    """The non-analytical term of a file, given the symmetry of the crystal and the sum rule.

    Args:
        path: `vasprun.xml` or `OUTCAR` of a run with LEPSILON, `BORN`, or a phonopy YAML file that has it. Its cell may
            be any cell of the crystal, in any orientation and at a slightly other lattice constant.
        crystal: primitive cell.
        method: `gonze` or `wang`.

    Returns:
        The term, and what has to be said about it.

    Raises:
        UserError: for an unreadable file, one without Born charges, or one of another crystal.
    """
    if not path.is_file():
        raise UserError("no such file", "give vasprun.xml, OUTCAR, BORN or phonopy_params.yaml", path)
    atoms, born, dielectric = _read(path, crystal)
    try:
        born, dielectric = _onto(crystal, atoms, born, dielectric)
    except UserError as error:
        raise UserError(f"its cell ({atoms.symbols}) is none of the crystal's: {error.what}", "", path) from error
    raw = Nac(born, dielectric, str(path), method)
    clean = Nac(*phonopy_files.symmetrised(crystal, born, dielectric), str(path), method)
    off = float(np.abs(clean.born - born).max())
    notes = []
    if off > CONSISTENT:
        notes.append(
            f"{path}: its Born charges lack the symmetry of the crystal or the sum rule by up to {off:.2f} e"
            f" (raw sum {raw.violation:.2f} e): is the response converged?"
        )
    return clean, notes


def _read(path: Path, crystal: Crystal) -> tuple[Atoms, np.ndarray, np.ndarray]:
    if path.suffix in (".yaml", ".yml"):
        stored = phonopy_files.load(path)
        if stored.born is None or stored.dielectric is None:
            raise UserError("the phonopy file has no Born charges", "write it with its BORN", path)
        return stored.crystal.primitive(), stored.born, stored.dielectric
    if "vasprun" in path.name or "OUTCAR" in path.name:
        response = read_response(path)
        return response.atoms, response.born, response.dielectric
    return phonopy_files.load_born(path, crystal)


def _onto(crystal: Crystal, atoms: Atoms, born: np.ndarray, dielectric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the atoms of each site of the primitive cell, in the crystal's orientation."""
    try:
        sites = crystal.match(atoms).site_type
        rotation = np.eye(3)
    except UserError:
        rotation = _orientation(crystal.primitive()).T @ _orientation(atoms)
        turned = Atoms(
            atoms.numbers, cell=atoms.cell.array @ rotation.T, scaled_positions=atoms.get_scaled_positions(), pbc=True
        )
        sites = crystal.match(turned).site_type
    born = np.array([born[sites == i].mean(axis=0) for i in range(crystal.n_basis)])
    return rotation @ born @ rotation.T, rotation @ dielectric @ rotation.T


def _orientation(atoms: Atoms) -> np.ndarray:
    """Rotation into the standard orientation of its space group."""
    found = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 1e-3)
    if found is None:
        raise UserError("no symmetry is found", "use the cell of the crystal")
    return np.asarray(found.std_rotation_matrix)
