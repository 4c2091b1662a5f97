"""phonopy's files: written for phonopy, phono3py and others, and read back as a crystal with force constants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import phonopy
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_CONSTANTS
from phonopy.harmonic.force_constants import compact_fc_to_full_fc

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice.phonopy_api import Geometry, geometry, to_ase


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

    Raises:
        UserError: for a missing or unreadable file.
    """
    if not Path(path).is_file():
        raise UserError("no such phonopy file", "write one with evaluate.py or phonopy", path)
    try:
        ph = phonopy.load(path, is_nac=True, symmetrize_fc=False, log_level=0)
    except Exception as error:
        raise UserError(f"unreadable phonopy file ({type(error).__name__}: {error})", "", path) from error
    cell = to_ase(ph.primitive)
    matrix = np.rint(np.asarray(ph.supercell.cell) @ np.linalg.inv(cell.cell.array)).astype(int)
    values = ph.force_constants
    if values is not None:
        if values.shape[0] == values.shape[1] and values.shape[0] != len(cell):
            values = values[ph.primitive.p2s_map]
        values = _reorder(ph, geometry(Crystal.from_atoms(cell), matrix), np.array(values))
    nac = ph.nac_params
    return Stored(
        Crystal.from_atoms(cell),
        matrix,
        values,
        np.array(ph.masses),
        None if nac is None else np.array(nac["born"]),
        None if nac is None else np.array(nac["dielectric"]),
    )


def _reorder(ph: Phonopy, target: Geometry, values: np.ndarray) -> np.ndarray:
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
        offsets = (ours.positions - start_ours)[:, None] - (theirs.positions - start_theirs)[None]
        fractions = offsets @ inverse
        distance = np.abs(fractions - np.rint(fractions)).max(axis=-1)
        out[row] = values[row, distance.argmin(axis=1)]
        assert distance.min(axis=1).max() < 1e-3, "phonopy file whose supercell is not a repeat of its primitive cell"
    return out
