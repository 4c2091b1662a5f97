"""Labelled structures from files, with the line each of them starts at.

Extended XYZ is read here and not by ASE, because one empty `energy=` makes ASE return text for all energies of the
file, and because a message without a line number does not help in a file of 13 000 lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlffx.data import vasp
from mlffx.data.levels import Level
from mlffx.errors import UserError, nearest

_KEY_VALUE = re.compile(r"""([A-Za-z_][\w:.-]*)=("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S*)""")
_REFETCH = "is the file truncated? fetch or copy it again"


@dataclass
class Frame:
    """One structure as found in a file, converted to eV and A.

    Attributes:
        index: in its file, from 0.
        line: of its first line, from 1; None where the format has no lines.
        atoms: structure without labels.
        energy: eV; NaN where it cannot be used, `problem` then says why.
        forces: [n_atoms, 3], eV/A, only where the level declares forces.
        problem: why a label cannot be used, else "".
        undeclared_forces: the file has a column of forces that the level does not declare.
        info: entries of its comment line as they are written; only of extended XYZ.
    """

    index: int
    line: int | None
    atoms: Atoms
    energy: float
    forces: np.ndarray | None = None
    problem: str = ""
    undeclared_forces: bool = False
    info: dict[str, str] = field(default_factory=dict)


def read_frames(path: Path, level: Level) -> list[Frame]:
    """All frames of a file.

    Raises:
        UserError: for a file that is missing, truncated, empty or unreadable, with the line.
    """
    if not path.is_file():
        raise UserError("no such file", f"level '{level.name}' needs it", path)
    if level.format in (None, "extxyz") and path.suffix in (".xyz", ".extxyz"):
        frames = _read_extxyz(path, level)
    elif vasp.is_vasp(path, level.format):
        frames = _read_vasp(path, level)
    elif level.format == "cc4s" or path.suffix in (".yaml", ".yml"):
        raise UserError("Cc4s output has no structures", "join it to them: python -m mlffx.data collect --help", path)
    else:
        frames = _read_ase(path, level)
    if not frames:
        raise UserError("the file holds no structures", "fetch or copy it again", path)
    for frame in frames:
        if not np.isfinite(frame.atoms.positions).all():
            raise UserError(f"a coordinate in frame {frame.index} is not finite", "fetch or copy it again", path)
        _check_labels(frame, level)
    return frames


def _check_labels(frame: Frame, level: Level) -> None:
    if not frame.problem and not np.isfinite(frame.energy):
        frame.problem = f"its energy is {frame.energy}"
    if not frame.problem and frame.forces is not None and not np.isfinite(frame.forces).all():
        frame.problem = f"a force on atom {int(np.argwhere(~np.isfinite(frame.forces))[0, 0])} is not finite"
    if not frame.problem and frame.forces is not None and frame.forces.shape != (len(frame.atoms), 3):
        frame.problem = (
            f"its forces are {' x '.join(map(str, frame.forces.shape))} numbers for {len(frame.atoms)} atoms"
        )
    if not frame.problem and frame.forces is None and "forces" in level.labels:
        frame.problem = "it has no forces, which the level declares"
    if frame.problem:
        frame.energy = float("nan")


def _read_extxyz(path: Path, level: Level) -> list[Frame]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    frames: list[Frame] = []
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        count = lines[start].strip()
        if not count.isdigit() or int(count) == 0:
            raise UserError(f"expected a number of atoms, found '{count[:40]}'", _REFETCH, f"{path}:{start + 1}")
        body = lines[start + 2 : start + 2 + int(count)]
        if len(body) < int(count):
            raise UserError(
                f"frame {len(frames)} announces {count} atoms and the file ends after {len(body)}",
                _REFETCH,
                f"{path}:{start + 1}",
            )
        frames.append(_parse_frame(len(frames), start, lines[start + 1], body, path, level))
        start += 2 + int(count)
    return frames


def _parse_frame(index: int, start: int, comment: str, body: list[str], path: Path, level: Level) -> Frame:
    """One frame from its comment line and atom lines; `start` is the 0-based line of its atom count."""
    info = {key: value.strip("\"'") for key, value in _KEY_VALUE.findall(comment)}
    where = f"{path}:{start + 2}"
    columns = _columns(info.get("Properties", "species:S:1:pos:R:3"), where)
    table = [line.split() for line in body]
    width = max(stop for _, stop in columns.values())
    for row, cells in enumerate(table):
        if len(cells) < width:
            raise UserError(
                f"atom {row} of frame {index} has {len(cells)} of {width} columns",
                _REFETCH,
                f"{path}:{start + 3 + row}",
            )

    def numbers(name: str) -> np.ndarray:
        first, stop = columns[name]
        if stop - first != 3:
            raise UserError(f"{stop - first} numbers an atom ({name}) instead of 3", f"write {name}:R:3", where)
        try:
            return np.array([cells[first:stop] for cells in table], dtype=float)
        except ValueError:
            row = next(i for i, cells in enumerate(table) if not all(map(_is_number, cells[first:stop])))
            text = " ".join(table[row][first:stop])
            raise UserError(f"'{text}' is not three numbers ({name})", _REFETCH, f"{path}:{start + 3 + row}") from None

    if "pos" not in columns or "species" not in columns or "Lattice" not in info:
        raise UserError("a frame needs Lattice, species and pos", "write extended XYZ", where)
    try:
        cell = np.array(info["Lattice"].split(), dtype=float).reshape(3, 3)
    except ValueError:
        raise UserError(f"Lattice '{info['Lattice']}' is not nine numbers", _REFETCH, where) from None
    positions = numbers("pos")
    bad = np.argwhere(~np.isfinite(positions))
    if len(bad):
        raise UserError(f"a coordinate of atom {bad[0, 0]} is not finite", _REFETCH, f"{path}:{start + 3 + bad[0, 0]}")
    symbols = [cells[columns["species"][0]] for cells in table]
    for row, symbol in enumerate(symbols):
        if symbol not in atomic_numbers:
            raise UserError(f"unknown element '{symbol}'", "check the column 'species'", f"{path}:{start + 3 + row}")
    pbc = [flag.upper() in ("T", "TRUE", "1") for flag in info.get("pbc", "T T T").split()] or [True] * 3
    atoms = Atoms(symbols, positions=positions * level.length_factor, cell=cell * level.length_factor, pbc=pbc)

    forces_key = level.forces_key or ("forces" if "forces" in columns else "force")
    energy, problem = _energy(info, level.energy_key or "energy")
    frame = Frame(index, start + 2, atoms, energy * level.energy_factor, problem=problem, info=info)
    if "forces" in level.labels and forces_key in columns:
        frame.forces = numbers(forces_key) * (level.energy_factor / level.length_factor)
    frame.undeclared_forces = "forces" not in level.labels and forces_key in columns
    return frame


def _columns(properties: str, where: str) -> dict[str, tuple[int, int]]:
    """`species:S:1:pos:R:3` -> {"species": (0, 1), "pos": (1, 4)}."""
    parts = properties.split(":")
    columns, first = {}, 0
    try:
        for name, _, width in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            columns[name] = (first, first + int(width))
            first += int(width)
    except ValueError:
        raise UserError(f"Properties={properties} is not understood", "write extended XYZ", where) from None
    return columns


def _energy(info: dict[str, str], key: str) -> tuple[float, str]:
    if key not in info:
        numbers = [name for name, value in info.items() if _is_number(value)]
        return float("nan"), f"it has no '{key}='" + (f" (it has {', '.join(numbers[:5])})" if numbers else "")
    if not info[key]:
        return float("nan"), f"its '{key}=' is empty"
    if not _is_number(info[key]):
        return float("nan"), f"its '{key}={info[key][:30]}' is not a number"
    return float(info[key]), ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_vasp(path: Path, level: Level) -> list[Frame]:
    """Ionic steps of vasprun.xml or OUTCAR; unconverged and unfinished ones carry the problem."""
    key = level.energy_key or vasp.ENERGIES[0]
    if key not in vasp.ENERGIES:
        remedy = nearest(key, vasp.ENERGIES)
        raise UserError(f"VASP has no energy '{key}'", remedy, f"data.levels.{level.name}.energy_key")
    if level.energy_factor != 1 or level.length_factor != 1:
        raise UserError("VASP writes eV and A", "leave energy_unit and length_unit out", f"data.levels.{level.name}")
    frames = []
    for index, step in enumerate(vasp.read_steps(path, level.format)):
        energy = step.energies.get(key, float("nan"))
        frame = Frame(index, step.line, step.atoms, energy, problem=step.problem)
        frame.forces = step.forces if "forces" in level.labels else None
        frame.undeclared_forces = "forces" not in level.labels and step.forces is not None
        frames.append(frame)
    return frames


def _read_ase(path: Path, level: Level) -> list[Frame]:
    """Frames of any format that ASE reads; labels from its calculator or from named entries of info and arrays.

    Where a calculator tells the free energy of smeared electrons, of which the forces are the derivatives, it is taken
    rather than its extrapolation to none (`energy_key: energy`).
    """
    import ase.io

    try:
        images = ase.io.read(path, index=":", format=level.format)
    except Exception as error:  # ASE's readers raise what they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"ASE cannot read it ({reason})", f"set data.levels.{level.name}.format or convert it", path
        ) from error
    frames = []
    for index, image in enumerate(images):
        results: dict[str, Any] = dict(image.calc.results) if image.calc is not None else {}
        results = {name: value for name, value in results.items() if value is not None}
        energies = {**image.info, **results}
        names = (level.energy_key,) if level.energy_key else ("free_energy", "energy")
        raw = next((energies[name] for name in names if name in energies), None)
        forces = (
            image.arrays.get(level.forces_key)
            if level.forces_key
            else results.get("forces", image.arrays.get("forces"))
        )
        atoms = Atoms(
            image.numbers,
            positions=image.positions * level.length_factor,
            cell=image.cell.array * level.length_factor,
            pbc=image.pbc,
        )
        problem = "" if raw is not None else f"it has no '{level.energy_key or 'energy'}'"
        if raw is not None and not _is_number(str(raw)):
            raw, problem = None, f"its energy '{str(raw)[:30]}' is not a number"
        frame = Frame(
            index, None, atoms, float("nan") if raw is None else float(raw) * level.energy_factor, problem=problem
        )
        if "forces" in level.labels and forces is not None:
            frame.forces = np.asarray(forces, dtype=float) * (level.energy_factor / level.length_factor)
        frame.undeclared_forces = "forces" not in level.labels and forces is not None
        frames.append(frame)
    return frames
