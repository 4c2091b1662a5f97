"""What every frame must satisfy before it is believed, and what happens to those that do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from mlffx.data.levels import Level, Note
from mlffx.data.read import Frame
from mlffx.errors import UserError

ABSURD_EV_PER_ATOM = 2.0  # from the median of the file; the paper's hottest frames are 0.26 eV/atom above the coldest
ABSURD_FORCE = 500.0  # eV/A
MATCH_TOLERANCE = 1e-3  # A; the closest two frames of the paper's data differ by 3e-3 A


@dataclass
class Reading:
    """What travels through the reading of one data set."""

    root: Path
    policy: str
    levels: dict[str, Level]
    low: str
    tolerance: float = MATCH_TOLERANCE
    by_index: bool = False
    notes: list[Note] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def path(self, level: str) -> Path:
        file = self.levels[level].file
        assert file is not None
        return self.root / file

    def note(self, level: str, reason: str, frame: Frame | None = None, dropped: bool = False) -> None:
        place = (frame.line, frame.index) if frame is not None else (None, None)
        self.notes.append(Note(level, reason, str(self.levels[level].file), place[0], place[1], dropped))

    def where(self, level: str, frame: Frame) -> str:
        return (
            f"{self.path(level)}:{frame.line}" if frame.line is not None else f"{self.path(level)}, frame {frame.index}"
        )

    def bad(self, level: str, frame: Frame, reason: str) -> None:
        """A frame that was meant to be used and cannot be: refuse, or drop if the user said so."""
        if self.policy == "refuse":
            raise UserError(
                f"frame {frame.index} of level '{level}': {reason}",
                "mend the file or set data.bad_frames=drop",
                self.where(level, frame),
            )
        self.note(level, f"dropped, {reason}", frame, dropped=True)


def usable(reading: Reading, name: str, frames: list[Frame]) -> list[Frame]:
    """Frames with credible labels; the others are refused or dropped."""
    by_size: dict[int, list[float]] = {}
    for frame in frames:
        if np.isfinite(frame.energy):
            by_size.setdefault(len(frame.atoms), []).append(frame.energy / len(frame.atoms))
    median = {size: float(np.median(values)) for size, values in by_size.items()}
    kept = []
    for frame in frames:
        problem, size = frame.problem, len(frame.atoms)
        if not problem and abs(off := frame.energy / size - median[size]) > ABSURD_EV_PER_ATOM:
            problem = f"its energy {frame.energy:.6g} eV is {off:+.3g} eV/atom off the median of the file"
        if not problem and frame.forces is not None and np.abs(frame.forces).max() > ABSURD_FORCE:
            problem = f"a force of {np.abs(frame.forces).max():.3g} eV/A is absurd"
        if problem:
            reading.bad(name, frame, problem)
        else:
            kept.append(frame)
    return kept


def check_structures(
    reading: Reading, name: str, frames: list[Frame], low_frames: list[Frame], any_order: bool
) -> None:
    """Species (in the same order, or in any) and cells must be those of the low level."""

    def composition(atoms: Atoms) -> tuple[int, ...]:
        return tuple(sorted(atoms.numbers) if any_order else atoms.numbers)

    known = {composition(f.atoms) for f in low_frames}
    cells = [f.atoms.cell.array for f in low_frames]
    fixed = all(np.abs(cell - cells[0]).max() < 1e-3 for cell in cells)
    for frame in frames:
        if composition(frame.atoms) not in known:
            raise UserError(
                f"frame {frame.index} of level '{name}' is {frame.atoms.symbols}, '{reading.low}' has"
                f" {low_frames[0].atoms.symbols}",
                "check the column 'species'" + ("" if any_order else " (the order of the atoms counts)"),
                reading.where(name, frame),
            )
        if fixed and np.abs(frame.atoms.cell.array - cells[0]).max() > 1e-3:
            raise UserError(
                f"the cell of frame {frame.index} of level '{name}' ({_lengths(frame.atoms)}) is not that of"
                f" '{reading.low}' ({_lengths(low_frames[0].atoms)})",
                "check Lattice and length_unit",
                reading.where(name, frame),
            )


def _lengths(atoms: Atoms) -> str:
    return " x ".join(f"{x:.5f}" for x in atoms.cell.lengths()) + " A"


def check_units(reading: Reading, name: str, frames: list[Frame | None], low_frames: list[Frame]) -> None:
    """Energies of two levels rise together; a slope far from one betrays a wrong unit."""
    pairs = np.array([(f.energy, g.energy) for f, g in zip(frames, low_frames, strict=True) if f is not None])
    if len(pairs) < 10 or np.ptp(pairs[:, 1]) < 1e-3:
        return
    slope = np.polyfit(pairs[:, 1] - pairs[:, 1].mean(), pairs[:, 0], 1)[0]
    if not 0.3 < slope < 3:
        reading.note(
            name, f"its energies change {slope:.3g} times as much as those of '{reading.low}': check energy_unit"
        )


def refuse_repeated_forces(
    reading: Reading, name: str, forces: list[np.ndarray], low_forces: list[np.ndarray] | None
) -> None:
    if low_forces is None:
        return
    same = sum(np.allclose(a, b, rtol=0, atol=1e-7) for a, b in zip(forces, low_forces, strict=True))
    if same > 0.5 * len(forces):
        raise UserError(
            f"its forces repeat those of '{reading.low}' in {same} of {len(forces)} frames: they are not its own",
            f"remove forces from data.levels.{name}.labels",
            reading.path(name),
        )
