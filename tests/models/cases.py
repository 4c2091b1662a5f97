"""Crystals, displaced structures and graphs with sites for the tests of architectures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch_geometric.data import Batch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.potentials.base import evaluate
from mlffx.potentials.network import NetworkPotential

CONVENTIONAL = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]  # the cubic cell of eight atoms from the primitive vectors of fcc
PAPER = [[-2, 2, 2], [2, -2, 2], [1, 1, -1]]  # the 32-atom cell of the diamond labels
CRYSTALS = {
    "diamond": Crystal.from_prototype("diamond", ["C"], 3.57),
    "rocksalt": Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02),
}
# Operations that map both crystals onto themselves: models tied to the frame of a crystal know only these.
THREEFOLD = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
MIRROR = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass
class Case:
    """An untrained potential on one crystal.

    Attributes:
        crystal: the ideal crystal.
        potential: float64, parameters away from any special initial value, offsets and scale unlike 0 and 1.
        ideal: conventional cell of eight atoms.
        atoms: the same, displaced by about 0.05 A.
    """

    crystal: Crystal
    potential: NetworkPotential
    ideal: Atoms
    atoms: Atoms

    def graph(self, structures: Atoms | Iterable[Atoms]) -> Batch:
        """One batch, always with the sites of the crystal (architectures without `needs_sites` ignore them)."""
        structures = [structures] if isinstance(structures, Atoms) else list(structures)
        graphs = []
        for atoms in structures:
            match = self.crystal.match(atoms)
            graphs.append(build_graph(atoms, self.potential.cutoff, match.sites, match.site_type))
        return batch_graphs(graphs)

    def evaluate(self, structures: Atoms | Iterable[Atoms], **options: Any) -> dict[str, Tensor]:
        result = evaluate(self.potential, self.graph(structures), **options)
        return {k: v.detach() for k, v in result.items() if isinstance(v, Tensor)}

    def energies(self, structures: Atoms | Iterable[Atoms]) -> Tensor:
        return self.evaluate(structures, forces=False)[keys.ENERGY]

    def hessian(self, atoms: Atoms, rows: Sequence[int] | None = None) -> Tensor:
        """d2E/dr dr by automatic differentiation, [n_rows, 3 n_atoms], eV/A^2."""
        graph = self.graph(atoms)
        positions = graph[keys.POSITIONS].requires_grad_(True)
        gradient = -evaluate(self.potential, graph, create_graph=True)[keys.FORCES].flatten()
        rows = range(len(gradient)) if rows is None else rows
        return torch.stack([torch.autograd.grad(gradient[i], positions, retain_graph=True)[0].flatten() for i in rows])


def rattled(atoms: Atoms, seed: int, size: float = 0.05) -> Atoms:
    moved = atoms.copy()
    moved.positions += np.random.default_rng(seed).normal(scale=size, size=moved.positions.shape)
    return moved


def moved_atom(atoms: Atoms, coordinate: int, step: float) -> Atoms:
    """Copy with one of the 3 n_atoms coordinates changed by `step`, A."""
    moved = atoms.copy()
    moved.positions[coordinate // 3, coordinate % 3] += step
    return moved


def transformed(atoms: Atoms, operation: np.ndarray) -> Atoms:
    """Copy with all vectors x replaced by x @ operation."""
    return Atoms(atoms.numbers, positions=atoms.positions @ operation, cell=atoms.cell.array @ operation, pbc=True)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Equal to `tolerance` times the largest expected element."""
    scale = expected.abs().max().item()
    error = (actual - expected).abs().max().item()
    assert error <= tolerance * max(scale, 1e-6), f"differs by {error:.2e}, scale {scale:.2e}"
