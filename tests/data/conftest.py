"""A small labelled set on disk: 12 frames of 8 carbon atoms, at a low level with forces and a high one without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlffx.data.crystal import Crystal

A = 3.56
N_FRAMES = 12


def comment(cell: np.ndarray, energy: str) -> str:
    lattice = " ".join(f"{x:.8f}" for x in cell.ravel())
    return f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3:energies:R:1 energy={energy} pbc="T T T"'


def frame_lines(atoms: Atoms, energy: str, forces: np.ndarray) -> list[str]:
    rows = [
        f"{symbol} " + " ".join(f"{x:.8f}" for x in (*position, *force, 0.0))
        for symbol, position, force in zip(atoms.symbols, atoms.positions, forces, strict=True)
    ]
    return [str(len(atoms)), comment(atoms.cell.array, energy), *rows]


@dataclass
class Files:
    """The set on disk and what was written into it."""

    root: Path
    frames: list[Atoms]
    low: np.ndarray
    high: np.ndarray
    forces: list[np.ndarray]

    def config(self, **changes: Any) -> dict[str, Any]:
        return {
            "kind": "files",
            "name": "small",
            "root": str(self.root),
            "crystal": {"prototype": "diamond", "species": ["C"], "a": A},
            "levels": {
                "dft": {"file": "dft.xyz", "labels": ["energy", "forces"]},
                "ccsdt": {"file": "ccsdt.xyz", "labels": ["energy"]},
            },
        } | changes

    def lines(self, name: str) -> list[str]:
        return (self.root / name).read_text().splitlines()

    def write(self, name: str, lines: list[str]) -> None:
        (self.root / name).write_text("\n".join(lines) + "\n")

    def edit(self, name: str, line: int, old: str, new: str) -> None:
        """Replace in one line, counted from 1."""
        lines = self.lines(name)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        self.write(name, lines)

    def write_level(self, name: str, frames: list[Atoms], energies: np.ndarray, forces: list[np.ndarray]) -> None:
        lines: list[str] = []
        for atoms, energy, force in zip(frames, energies, forces, strict=True):
            lines += frame_lines(atoms, f"{energy:.6f}", force)
        self.write(name, lines)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    rng = np.random.default_rng(3)
    crystal = Crystal.from_prototype("diamond", ["C"], A)
    ideal = crystal.supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    del ideal.arrays["site_type"]
    frames, low, forces = [], [], []
    for index in range(N_FRAMES):
        moved = ideal.copy()
        u = rng.normal(scale=0.01 * (index + 1), size=(8, 3))
        moved.positions += u - u.mean(axis=0) + [0.0, 0.0, 0.1 * index]  # the crystal drifts along z
        moved.wrap()
        frames.append(moved)
        low.append(-72.0 + 5.0 * float((u**2).sum()))
        forces.append(-10.0 * (u - u.mean(axis=0)))
    out = Files(tmp_path, frames, np.round(low, 6), np.round(np.array(low) * 1.05 - 80.0, 3), forces)
    out.write_level("dft.xyz", frames, out.low, forces)
    out.write_level("ccsdt.xyz", frames, out.high, forces)  # as in the paper's data: the forces of dft repeated
    return out
