"""What outputs without structures find by their names: structures, and the Hartree-Fock energies they stand on."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from mlffx.data.align import largest_distance
from mlffx.data.checks import MATCH_TOLERANCE
from mlffx.data.levels import Level
from mlffx.data.read import Frame, read_frames
from mlffx.errors import UserError

_SHOWN = 5  # names in a message


def structures(given: str, files: list[tuple[str, Path]]) -> dict[str, Atoms]:
    """Structures by name, of a collected file or of a file beside each output.

    Raises:
        UserError: for a file that is not there or cannot be read, and where no name is that of an output.
    """
    path = Path(given)
    if path.suffix not in (".xyz", ".extxyz"):
        return {name: _structure_beside(output, given) for name, output in files}
    found = {name: frame.atoms for name, frame in _collected(path).items()}
    if not found.keys() & {name for name, _ in files}:
        known, sought = (", ".join(f"'{name}'" for name in list(names)[:_SHOWN]) for names in (found, dict(files)))
        raise UserError(f"its structures have the names {known}..., the outputs {sought}...", "check the pattern", path)
    return found


def references(given: str | None) -> dict[str, Frame]:
    """Frames with Hartree-Fock energies by name, of a collected file; none where `none` is given.

    Raises:
        UserError: where nothing is given, and for a file that is not there or has no names.
    """
    if given is None:
        raise UserError(
            "Cc4s writes correlation energies, which stand on Hartree-Fock energies",
            "give the file they were collected into (hf.xyz), or none",
            "--reference",
        )
    if given == "none":
        return {}
    return _collected(Path(given))


def differs(structure: Atoms, other: Atoms) -> str:
    """Why a structure and the one of its Hartree-Fock energy are not the same, else ""."""
    if not np.array_equal(structure.numbers, other.numbers):
        return f"its structure ({structure.symbols}) is not that of its Hartree-Fock energy ({other.symbols})"
    gap = largest_distance(structure, other)
    return "" if gap < MATCH_TOLERANCE else f"its structure is {gap:.3g} A off that of its Hartree-Fock energy"


def _collected(path: Path) -> dict[str, Frame]:
    """Frames by name of a file that `Collected.write` wrote."""
    if not path.is_file():
        raise UserError("no such file", "collect it first", path)
    frames = read_frames(path, Level("collected", ("energy",)))
    for frame in frames:
        if "name" not in frame.info:
            remedy = "write it with `python -m mlffx.data collect`"
            raise UserError("a structure has no name=", remedy, f"{path}:{frame.line}")
    return {frame.info["name"]: frame for frame in frames}


def _structure_beside(path: Path, given: str) -> Atoms:
    """Structure of a file beside an output."""
    beside = path.parent / given
    if not beside.is_file():
        raise UserError("no such file", f"the structure of {path} is looked for there (--structures)", beside)
    try:
        atoms = ase.io.read(beside)
    except Exception as error:  # ASE's readers raise what they like
        raise UserError(f"ASE cannot read it ({str(error).splitlines()[:1]})", "check --structures", beside) from error
    assert isinstance(atoms, Atoms)
    return atoms
