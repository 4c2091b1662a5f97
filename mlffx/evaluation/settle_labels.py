"""Labels of the settling test: which energies make which force and which frozen phonon, as linear combinations.

The same combinations are applied to the energies of every level and of every potential, so what a finite step leaves
out is the same on both sides and cancels from their difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.evaluation.settle_blocks import SAME, FrozenBlock, frozen_blocks
from mlffx.evaluation.settle_structures import CONFIGURATION, DIRECTION, KIND

KEY = re.compile(r"^(?:energy_(\w+)|(\w+)_energy)$")


@dataclass(frozen=True)
class Projection:
    """A force along a direction, -(E+ - E-) / (2 step).

    Attributes:
        configuration: number of the displaced configuration.
        name: of the direction.
        plus, minus: frames.
        step: half their distance in all coordinates, A.
        component: atom and axis where the direction is one Cartesian coordinate, else None.
    """

    configuration: int
    name: str
    plus: int
    minus: int
    step: float
    component: tuple[int, int] | None


@dataclass(frozen=True)
class SettleLabels:
    """What was labelled.

    Attributes:
        atoms: all frames.
        displacements: from the ideal sites, [n_frames, n_atoms, 3], A.
        energies: level -> [n_frames], eV, NaN without a label.
        projections, blocks: what they are combined to.
        equal: pairs of frames that symmetry makes equal.
        source: the file.
    """

    atoms: list[Atoms]
    displacements: np.ndarray
    energies: dict[str, np.ndarray]
    projections: list[Projection]
    blocks: list[FrozenBlock]
    equal: list[tuple[int, int]]
    source: str

    def forces(self, energies: np.ndarray, which: Sequence[Projection] | None = None) -> np.ndarray:
        """Projections of the forces, [..., n_projections], eV/A, from energies [..., n_frames]."""
        chosen = self.projections if which is None else which
        parts = [-(energies[..., p.plus] - energies[..., p.minus]) / (2 * p.step) for p in chosen]
        return np.stack(parts, axis=-1) if parts else np.zeros((*energies.shape[:-1], 0))

    def labelled(self, levels: Sequence[str]) -> SettleLabels:
        """Only the forces and blocks all of whose energies are there at every one of the levels.

        Raises:
            UserError: for a level without labels, or when nothing is left.
        """
        for level in levels:
            if level not in self.energies:
                known = ", ".join(self.energies) or "none"
                raise UserError(f"no energies of level '{level}'", f"it has: {known}", self.source)
        there = np.all([np.isfinite(self.energies[level]) for level in levels], axis=0)
        kept = [p for p in self.projections if there[p.plus] and there[p.minus]]
        blocks = [b for b in self.blocks if there[(np.abs(b.curvatures) > 0).any(axis=0)].all()]
        if not kept and not blocks:
            raise UserError(f"no force and no mode is complete for {', '.join(levels)}", "label more", self.source)
        equal = [pair for pair in self.equal if there[list(pair)].all()]
        return SettleLabels(self.atoms, self.displacements, self.energies, kept, blocks, equal, self.source)

    def noise(self, residuals: np.ndarray) -> tuple[float, int]:
        """Noise of the energies, eV, and from how many numbers: equal structures, and forces that must add to zero.

        Args:
            residuals: labels minus predictions, [n_frames], eV: what a finite step leaves out cancels in them.
        """
        squares = [0.5 * float(residuals[i] - residuals[j]) ** 2 for i, j in self.equal]
        n_atoms = self.displacements.shape[1]
        for number in {p.configuration for p in self.projections}:
            for axis in range(3):
                own = [p for p in self.projections if p.configuration == number and p.component is not None]
                own = [p for p in own if p.component is not None and p.component[1] == axis]
                if len({p.component for p in own}) == n_atoms:
                    total = float(self.forces(residuals, own).sum())
                    squares.append(2 * own[0].step ** 2 * total**2 / n_atoms)
        return (float(np.sqrt(np.mean(squares))), len(squares)) if squares else (0.0, 0)


def read_settle(path: Path | str, crystal: Crystal, masses: np.ndarray) -> SettleLabels:
    """Read labelled structures of `settle_structures`.

    Args:
        path: extended XYZ; energies under `<level>_energy` (or `energy_<level>`), eV.
        crystal: primitive.
        masses: of its atoms, amu.

    Raises:
        UserError: for a file that is not there, not made for this test, or of another crystal.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such file", "python -m mlffx.evaluation.settle_structures makes the structures", path)
    try:
        frames: list[Atoms] = ase.io.read(path, index=":", format="extxyz")  # type: ignore[assignment]
    except Exception as error:  # ASE's readers raise what they like
        raise UserError(f"not extended XYZ ({str(error).splitlines()[0]})", "write it with ASE", path) from error
    for k, frame in enumerate(frames):
        if frame.info.get(KIND) not in ("reference", "mode", "force"):
            raise UserError(f"frame {k} does not say what it is for ({KIND}=...)", "keep the keys of the file", path)
    return labels_of(frames, crystal, masses, str(path))


def labels_of(frames: list[Atoms], crystal: Crystal, masses: np.ndarray, source: str) -> SettleLabels:
    """As `read_settle`, of frames that are not in a file; `source` says where they come from."""
    displacements, types = _displacements(frames, crystal, source)
    infos: list[Mapping[str, Any]] = [frame.info for frame in frames]
    projections = _projections(infos, displacements, source)
    weights = np.asarray(masses, dtype=float)[types]
    blocks, equal = frozen_blocks(infos, displacements, weights, source)
    return SettleLabels(frames, displacements, _energies(infos), projections, blocks, equal, source)


def _displacements(frames: list[Atoms], crystal: Crystal, path: str) -> tuple[np.ndarray, np.ndarray]:
    """From the sites of one frame, so that steps of single atoms are not spread over all: [n, n_atoms, 3], A."""
    at_rest = next((k for k, frame in enumerate(frames) if frame.info[KIND] == "reference"), 0)
    try:
        match = crystal.match(frames[at_rest])
    except UserError as error:
        raise UserError(f"frame {at_rest}: {error.what}", "is it of this crystal?", path) from error
    cell, numbers = frames[0].cell.array, frames[0].numbers
    moved = []
    for k, frame in enumerate(frames):
        if not np.array_equal(frame.numbers, numbers) or np.abs(frame.cell.array - cell).max() > SAME:
            raise UserError(f"frame {k} has other atoms or another cell than frame 0", "use one supercell", path)
        fractions = (frame.positions - match.sites) @ np.linalg.inv(cell)
        moved.append((fractions - np.rint(fractions)) @ cell)
    return np.array(moved), match.site_type


def _energies(infos: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    levels = dict.fromkeys(m.group(1) or m.group(2) for info in infos for key in info if (m := KEY.match(key)))
    found = {}
    for level in levels:
        values = [info.get(f"{level}_energy", info.get(f"energy_{level}")) for info in infos]
        found[level] = np.array([np.nan if v is None else float(v) for v in values])
    return found


def _projections(infos: Sequence[Mapping[str, Any]], u: np.ndarray, path: str) -> list[Projection]:
    groups: dict[tuple[int, str], list[int]] = {}
    for k, info in enumerate(infos):
        if info[KIND] == "force":
            groups.setdefault((int(info[CONFIGURATION]), str(info[DIRECTION])), []).append(k)
    found = []
    for (number, name), members in groups.items():
        if len(members) != 2:
            continue  # its partner was not labelled
        plus, minus = members
        move = u[plus] - u[minus]
        step = 0.5 * float(np.linalg.norm(move))
        if step < 1e-3:
            raise UserError(f"frames {plus} and {minus} do not differ", "keep the structures as they were", path)
        single = np.argwhere(np.abs(move) > SAME)
        component = (int(single[0, 0]), int(single[0, 1])) if len(single) == 1 else None
        if component is not None and move[component] < 0:
            plus, minus = minus, plus
        found.append(Projection(number, name, plus, minus, step, component))
    return found
