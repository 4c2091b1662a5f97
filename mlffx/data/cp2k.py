"""Total energy and forces of a CP2K output (`ENERGY` or `ENERGY_FORCE` run); ASE reads neither.

The main output has no cell in the layout of a structure: the structure comes from elsewhere. Energies are in Hartree
and forces in Hartree/bohr, as the file says; layouts of versions up to 2024 and from 2025.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import units

from mlffx.errors import UserError

_ENERGY = re.compile(
    r"ENERGY\| Total FORCE_EVAL \( *\w+ *\) energy[ (\[]+(a\.u\.|hartree)[\])]:?\s+(\S+)", re.IGNORECASE
)
_OLD_FORCE = re.compile(r"^\s*\d+\s+\d+\s+[A-Z][A-Za-z]?\S*\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s*$")
_NEW_FORCE = re.compile(r"^\s*FORCES\|\s+\d+\s+(\S+)\s+(\S+)\s+(\S+)\s+\S+\s*$")


@dataclass(frozen=True)
class Total:
    """The last total energy of an output.

    Attributes:
        energy: eV; NaN where there is none.
        forces: [n_atoms, 3], eV/A, or None where they were not printed.
        problem: why it cannot be used, else "".
        line: of the energy, from 1.
    """

    energy: float
    forces: np.ndarray | None
    problem: str
    line: int


def read_total(path: Path) -> Total:
    """Energy and forces of a CP2K output.

    Raises:
        UserError: for an energy or a force that is no number, with the line.
    """
    energy, line, problem = float("nan"), 0, ""
    forces: list[list[float]] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, text in enumerate(lines, start=1):
            if "SCF run NOT converged" in text:
                problem = f"its electronic loop is not converged (line {number})"
            elif "ATOMIC FORCES in [a.u.]" in text or "FORCES| Atomic forces [hartree/bohr]" in text:
                forces = []
            elif match := _ENERGY.search(text):
                energy, line = _number(match.group(2), path, number), number
            elif match := _OLD_FORCE.match(text) or _NEW_FORCE.match(text):
                forces.append([_number(cell, path, number) for cell in match.groups()])
    if not line and not problem:
        problem = "it has no 'ENERGY| Total FORCE_EVAL': did the job finish?"
    factor = units.Hartree / units.Bohr
    return Total(energy * units.Hartree, np.array(forces) * factor if forces else None, problem, max(line, 1))


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"'{text}' is not a number", "copy the file again", f"{path}:{line}") from None
