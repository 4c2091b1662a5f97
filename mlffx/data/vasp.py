"""VASP's vasprun.xml and OUTCAR: every ionic step with its line, its energies, and whether its electrons converged.

ASE reads the numbers of an OUTCAR; vasprun.xml is read here. ASE drops the unfinished last step of a killed job in
silence, says nothing of an electronic loop that gave up, and cannot name the line of either.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import ase.io
import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from ase.io import ParseError

from mlffx.errors import UserError

ENERGIES = ("free_energy", "sigma0")  # the first is the default: VASP's forces are the derivatives of the free energy
_KBAR = 0.1 * units.GPa  # eV/A^3
_TRUNCATED = "is the file truncated, or the job still running? run it again or copy it again"
_UNFINISHED = "the file ends inside this ionic step: was the job killed?"
_OUTCAR_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"


@dataclass
class Step:
    """An ionic step.

    Attributes:
        line: where it starts, from 1.
        atoms: structure, A.
        energies: eV; `free_energy` (TOTEN, electronic entropy included) and `sigma0` (extrapolated to no smearing).
        forces: [n_atoms, 3], eV/A, or None.
        problem: why it cannot be used, else "".
    """

    line: int
    atoms: Atoms
    energies: dict[str, float] = field(default_factory=dict)
    forces: np.ndarray | None = None
    problem: str = ""


def is_vasp(path: Path, file_format: str | None) -> bool:
    """Whether a file is one of VASP's, by its declared format or else by its name."""
    if file_format is not None:
        return file_format in ("vasp-xml", "vasp-out")
    return _is_xml(path, None) or "OUTCAR" in path.name


def read_steps(path: Path, file_format: str | None = None) -> list[Step]:
    """Ionic steps of a vasprun.xml or OUTCAR (also gzipped).

    Raises:
        UserError: for a file that is truncated before its first step or malformed, with the line.
    """
    steps = _vasprun_steps(path) if _is_xml(path, file_format) else _outcar_steps(path)
    if not steps:
        raise UserError("the file ends before its first ionic step is complete", _TRUNCATED, path)
    return steps


def _is_xml(path: Path, file_format: str | None) -> bool:
    return file_format == "vasp-xml" or (file_format is None and "vasprun" in path.name and ".xml" in path.suffixes)


def open_text(path: Path) -> IO[str]:
    """A text file, gzipped or not."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


# vasprun.xml


def _vasprun_steps(path: Path) -> list[Step]:
    species: list[str] = []
    settings: dict[str, float] = {}
    initial: Atoms | None = None
    steps: list[Step] = []
    started = 0  # line of the ionic step that is being read, else 0
    for line, event, element in elements(path):
        where = f"{path}:{line}"
        if event == "start":
            started = line if element.tag == "calculation" else started
        elif element.tag == "atominfo":
            species = species_of(element, where)
        elif element.tag == "parameters":
            settings = {
                str(i.get("name")): _number(i.text) for i in element.iter("i") if i.get("type") in (None, "int")
            }
        elif element.tag == "structure" and element.get("name") == "initialpos":
            initial = structure_of(element, species, where)
        elif element.tag == "calculation":
            steps.append(_step(element, species, settings, started, path))
            started = 0
            element.clear()
    if started:
        last = steps[-1].atoms if steps else initial
        if last is None:
            raise UserError("the file ends before its first structure", _TRUNCATED, f"{path}:{started}")
        steps.append(Step(started, last, problem=_UNFINISHED))
    return steps


def elements(path: Path) -> Iterator[tuple[int, str, ElementTree.Element]]:
    """Starts and ends of elements with the line they are on; a truncated file just ends."""
    parser: Any = ElementTree.XMLPullParser(events=("start", "end"))
    line = 0
    try:
        with open_text(path) as lines:
            for line, text in enumerate(lines, start=1):
                parser.feed(text)
                for event, element in parser.read_events():
                    yield line, event, element
    except ElementTree.ParseError as error:
        raise UserError(f"no XML that can be read ({error})", "copy the file again", f"{path}:{line}") from error
    except (OSError, EOFError) as error:
        raise UserError(f"cannot be read ({error})", "copy the file again", path) from error


def _step(element: ElementTree.Element, species: list[str], settings: dict[str, float], line: int, path: Path) -> Step:
    where = f"{path}:{line}"
    structure = element.find("structure")
    if structure is None:
        raise UserError("an ionic step has no structure", "copy the file again", where)
    atoms = structure_of(structure, species, where)
    forces = element.find("varray[@name='forces']")
    step = Step(line, atoms, forces=None if forces is None else rows_of(forces, where))
    loop = element.findall("scstep/energy")
    total = _number(element.findtext("energy/i[@name='e_fr_energy']"))
    if not loop:
        step.problem = "it has no electronic steps (a step of VASP's own machine-learned force field?)"
        return step
    # The free energy of the step holds p V where PSTRESS is set, and its e_0_energy is not reliable; what smearing
    # adds is right in the electronic steps, which in turn lack the dispersion corrections of the total.
    free = total - settings.get("PSTRESS", 0.0) * _KBAR * atoms.get_volume()
    trail = [_number(energy.findtext("i[@name='e_fr_energy']")) for energy in loop]
    smearing = _number(loop[-1].findtext("i[@name='e_0_energy']")) - trail[-1]
    step.energies = {"free_energy": free, "sigma0": free + smearing}
    step.problem = _unconverged(trail, settings)
    return step


def _unconverged(trail: list[float], settings: dict[str, float]) -> str:
    """VASP stops its electronic loop when the energy is settled within EDIFF, or after NELM steps whatever it is."""
    limit, tolerance = settings.get("NELM", float("inf")), settings.get("EDIFF", 1e-4)
    change = abs(trail[-1] - trail[-2]) if len(trail) > 1 else float("inf")
    if len(trail) < limit or change < tolerance:
        return ""
    end = f"NELM = {limit:g} steps, last change {change:.1e} eV, EDIFF = {tolerance:g} eV"
    return f"its electronic loop is not converged ({end})"


def species_of(element: ElementTree.Element, where: str) -> list[str]:
    """Symbols of all atoms from <atominfo>."""
    rows = element.findall("array[@name='atoms']/set/rc")
    species = [(row.findtext("c") or "").strip() for row in rows]
    for symbol in species:
        if symbol not in atomic_numbers:
            raise UserError(f"unknown element '{symbol}'", "check <atominfo>", where)
    return species


def structure_of(element: ElementTree.Element, species: list[str], where: str) -> Atoms:
    """A <structure>."""
    cell, positions = element.find("crystal/varray[@name='basis']"), element.find("varray[@name='positions']")
    if cell is None or positions is None or not species:
        raise UserError("a structure without cell, positions or species", "copy the file again", where)
    fractions = rows_of(positions, where)
    if len(fractions) != len(species):
        raise UserError(f"{len(fractions)} positions of {len(species)} atoms", "copy the file again", where)
    return Atoms(species, cell=rows_of(cell, where), scaled_positions=fractions, pbc=True)


def rows_of(element: ElementTree.Element, where: str) -> np.ndarray:
    """Rows of three numbers, [n, 3]."""
    try:
        return np.array([(row.text or "").split() for row in element], dtype=float).reshape(-1, 3)
    except ValueError:
        raise UserError(f"<{element.get('name')}> is not rows of three numbers", "copy the file again", where) from None


def _number(text: str | None) -> float:
    """NaN for what is no number, such as the asterisks of an overflow."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


# OUTCAR


def _outcar_steps(path: Path) -> list[Step]:
    marks, unfinished = _outcar_marks(path)
    if not marks:
        return []
    try:
        images = ase.io.read(path, index=":", format="vasp-out")
    except (ParseError, ValueError, IndexError, KeyError, OSError) as error:
        raise UserError(f"no OUTCAR that can be read ({error})", "copy the file again", path) from error
    assert isinstance(images, list)
    steps = []
    for (line, converged), image in zip(marks, images, strict=True):
        results = image.calc.results if image.calc is not None else {}
        step = Step(line, Atoms(image.numbers, image.positions, cell=image.cell.array, pbc=True))
        step.energies = {"free_energy": results.get("free_energy", np.nan), "sigma0": results.get("energy", np.nan)}
        step.forces = results.get("forces")
        step.problem = "" if converged else "its electronic loop is not converged (EDIFF was not reached)"
        steps.append(step)
    if unfinished:
        steps.append(Step(unfinished, steps[-1].atoms, problem=_UNFINISHED))
    return steps


def _outcar_marks(path: Path) -> tuple[list[tuple[int, bool]], int]:
    """First line of each complete ionic step and whether it converged; first line of an unfinished one, else 0."""
    marks: list[tuple[int, bool]] = []
    started, converged = 0, False
    with open_text(path) as lines:
        for number, text in enumerate(lines, start=1):
            if "- Iteration" in text:
                started = started or number
            elif "aborting loop because EDIFF is reached" in text:
                converged = True
            elif _OUTCAR_STEP in text:
                marks.append((started or number, converged))
                started, converged = 0, False
            elif "General timing and accounting" in text:
                started = 0  # what followed the last ionic step was linear response
    return marks, started
