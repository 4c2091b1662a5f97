"""Born charges and the electronic dielectric tensor that VASP found (LEPSILON or LCALCEPS)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlffx.data import vasp
from mlffx.errors import UserError

_RERUN = "run VASP with LEPSILON = .TRUE."


@dataclass(frozen=True, eq=False)
class Response:
    """Linear response to a field.

    Attributes:
        atoms: the cell it was computed for.
        born: [n_atoms, 3, 3], e, rows the direction of the field, in the order of the atoms.
        dielectric: [3, 3], ions at rest.
    """

    atoms: Atoms
    born: np.ndarray
    dielectric: np.ndarray


def read_response(path: Path) -> Response:
    """Of a vasprun.xml or OUTCAR (also gzipped); the last one where there are several.

    Raises:
        UserError: for a file without Born charges or dielectric tensor, or one that is cut off within them.
    """
    xml = ".xml" in path.suffixes
    atoms, born, dielectric = _from_vasprun(path) if xml else _from_outcar(path)
    for found, name in ((dielectric, "dielectric tensor"), (born, "Born charges")):
        if found is None:
            raise UserError(f"the file has no {name}", _RERUN, path)
    assert born is not None and dielectric is not None
    if born.shape != (len(atoms), 3, 3) or dielectric.shape != (3, 3):
        raise UserError(f"it has Born charges of {len(born)} of {len(atoms)} atoms", "copy the file again", path)
    return Response(atoms, born, dielectric)


def _from_vasprun(path: Path) -> tuple[Atoms, np.ndarray | None, np.ndarray | None]:
    species: list[str] = []
    atoms: Atoms | None = None
    born = dielectric = None
    for line, event, element in vasp.elements(path):
        where, name = f"{path}:{line}", element.get("name")
        if event == "start":
            continue
        if element.tag == "atominfo":
            species = vasp.species_of(element, where)
        elif element.tag == "structure" and element.find("crystal") is not None:
            atoms = vasp.structure_of(element, species, where)
        elif element.tag == "varray" and name in ("epsilon", "epsilon_scf"):
            dielectric = vasp.rows_of(element, where)
        elif element.tag == "array" and name == "born_charges":
            born = np.array([vasp.rows_of(tensor, where) for tensor in element.findall("set")])
    if atoms is None:
        raise UserError("the file ends before its first structure", "copy it again", path)
    return atoms, born, dielectric


def _from_outcar(path: Path) -> tuple[Atoms, np.ndarray | None, np.ndarray | None]:
    atoms = vasp.read_steps(path, "vasp-out")[-1].atoms
    with vasp.open_text(path) as file:
        lines = file.read().splitlines()
    born = dielectric = None
    for number, text in enumerate(lines):
        if "MACROSCOPIC STATIC DIELECTRIC TENSOR" in text and "IONIC" not in text:
            dielectric = _table(lines, number + 2, 3, path)
        elif "BORN EFFECTIVE CHARGES" in text and "ion" in "".join(lines[number + 2 : number + 3]):
            starts = (number + 3 + 4 * ion for ion in range(len(atoms)))
            born = np.array([_table(lines, start, 3, path)[:, -3:] for start in starts])
    return atoms, born, dielectric


def _table(lines: list[str], start: int, rows: int, path: Path) -> np.ndarray:
    """Numbers of some lines (from 0)."""
    table = []
    for number in range(start, start + rows):
        cells = lines[number].split() if number < len(lines) else []
        try:
            table.append([float(cell) for cell in cells])
            if len(cells) < 3:
                raise ValueError
        except ValueError:
            text = " ".join(cells)[:30]
            raise UserError(
                f"'{text}' is no row of a tensor", "is the file truncated?", f"{path}:{number + 1}"
            ) from None
    return np.array(table)
