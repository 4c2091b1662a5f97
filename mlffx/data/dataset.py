"""A set of structures labelled at several levels of theory, and the one way to load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlffx.config import read_settings
from mlffx.data.crystal import Crystal, Match
from mlffx.data.levels import Level, Note
from mlffx.errors import UserError, nearest


@dataclass
class LabelledSet:
    """Structures in the order of the low level's file, with the labels of every level.

    Attributes:
        name: of the data set.
        low: name of the level that defines the structures (the one with forces).
        atoms: kept frames; where the crystal is known every atom lies next to its site (not wrapped), drift included.
        crystal, matches: the ideal crystal and the site of every atom; both None without a crystal.
        levels: as declared.
        energies: level -> [n_frames], eV per cell, NaN where the level has no label for the frame.
        forces: level -> one [n_atoms, 3] a frame, eV/A; only levels that declare forces.
        notes: what was dropped or noticed, and why.
        hashes: file -> git blob id.
        source: where the data comes from, a line for people.
    """

    name: str
    low: str
    atoms: list[Atoms]
    crystal: Crystal | None
    matches: list[Match] | None
    levels: dict[str, Level]
    energies: dict[str, np.ndarray]
    forces: dict[str, list[np.ndarray]]
    notes: list[Note] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def species(self) -> list[int]:
        """Atomic numbers in the set, ascending."""
        return sorted({int(z) for atoms in self.atoms for z in atoms.numbers})

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames]."""
        return np.array([len(atoms) for atoms in self.atoms])

    def displacements(self) -> list[np.ndarray] | None:
        """Displacements from the ideal sites, drift removed, [n_atoms, 3] a frame, A; None without a common crystal.

        Without a declared crystal, but with one composition and one cell, they are taken from the mean structure.
        """
        if self.matches is not None:
            return [match.displacements for match in self.matches]
        first = self.atoms[0]
        if any(
            not np.array_equal(a.numbers, first.numbers) or np.abs(a.cell.array - first.cell.array).max() > 1e-3
            for a in self.atoms
        ):
            return None
        fractions = np.array([a.positions - first.positions for a in self.atoms]) @ np.linalg.inv(first.cell.array)
        fractions -= fractions[:, :1]
        moved = (fractions - np.rint(fractions)) @ first.cell.array
        moved -= moved.mean(axis=1, keepdims=True)
        return list(moved - moved.mean(axis=0))

    def amplitudes(self) -> np.ndarray:
        """Root-mean-square displacement of the atoms, drift removed, [n_frames], A (zeros without a crystal)."""
        displacements = self.displacements()
        if displacements is None:
            return np.zeros(len(self))
        return np.array([np.sqrt((u**2).sum(axis=1).mean()) for u in displacements])

    def require(self, level: str, label: str = "energy") -> None:
        """Check that a level has a label, before any work starts.

        Raises:
            UserError: that says which level has what.
        """
        if level not in self.levels:
            raise UserError(f"'{self.name}' has no level '{level}'", nearest(level, self.levels), "level")
        if label not in self.levels[level].labels:
            owners = [name for name, known in self.levels.items() if label in known.labels]
            raise UserError(
                f"level '{level}' of '{self.name}' has {' and '.join(self.levels[level].labels)} only, no {label}",
                f"levels with {label}: {', '.join(owners) or 'none'}",
                "level",
            )
        if level not in self.energies:
            missing = self.levels[level].file
            raise UserError(
                f"the file of level '{level}' ({missing}) is not there",
                f"fetch it or take another level: {', '.join(self.energies)}",
                "level",
            )

    def difference(self, high: str, low: str) -> np.ndarray:
        """E(high) - E(low), [n_frames], eV per cell, NaN where either is missing."""
        self.require(high)
        self.require(low)
        return self.energies[high] - self.energies[low]

    def indices(self, levels: Sequence[str]) -> np.ndarray:
        """Frames that have an energy at every one of the levels."""
        for level in levels:
            self.require(level)
        complete = np.ones(len(self), dtype=bool)
        for level in levels:
            complete &= np.isfinite(self.energies[level])
        return np.flatnonzero(complete)


@dataclass(frozen=True)
class FileSettings:
    """The schema of conf/data for `kind: paper` and `files`; what the values mean is checked where they are used."""

    kind: str
    name: str | None = None
    root: str | Path | None = None
    crystal: Mapping[str, Any] | str | None = None
    low: str | None = None
    levels: Any = None
    match: str | None = None
    tolerance: float | None = None
    bad_frames: str | None = None
    train_size: Any = None
    validation_size: Any = None
    test_size: Any = None
    settle: str | None = None  # labels of the settling test, relative to root


@dataclass(frozen=True)
class TwinSettings:
    """The schema of conf/data for `kind: twin`."""

    kind: str
    name: str | None = None
    crystal: Mapping[str, Any] | None = None
    repetitions: Sequence[int] | None = None
    n_frames: int | None = None
    max_temperature: float | None = None
    drift: float | None = None
    sampling_seed: int | None = None
    low: str | None = None
    levels: Any = None
    potentials: Mapping[str, Mapping[str, Any]] | None = None
    noise: Mapping[str, float | None] | None = None
    rounding: Mapping[str, float | None] | None = None
    train_size: Any = None
    validation_size: Any = None
    test_size: Any = None
    settle: str | None = None  # labels of the settling test, relative to root


def load_dataset(config: Mapping[str, Any]) -> LabelledSet:
    """Load what a file of conf/data describes.

    Args:
        config: plain dictionary; `kind` is `paper` (released labels), `files` (declared files) or `twin` (generated).

    Raises:
        UserError: for anything wrong with the configuration or the files.
    """
    from mlffx.data import assemble, twin  # they build LabelledSets

    loaders: dict[str, Callable[[Mapping[str, Any]], LabelledSet]] = {
        "paper": assemble.load_paper,
        "files": assemble.load_files,
        "twin": twin.load_twin,
    }
    kind = str(config.get("kind"))
    if kind not in loaders:
        raise UserError(f"unknown kind of data '{kind}'", nearest(kind, loaders), "data.kind")
    read_settings(TwinSettings if kind == "twin" else FileSettings, config, "data")
    return loaders[kind](config)
