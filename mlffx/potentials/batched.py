"""Many structures through one potential: graphs built once, batches bounded by their number of edges."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from ase import Atoms
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.errors import UserError
from mlffx.potentials.base import Potential, evaluate

EDGES_PER_BATCH = 60_000  # about 1 GB for a double-precision network of 64 features
EDGES_PER_ATOM = 20  # an atom counts at least this much: Ewald sums cost per atom, not per edge


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_atoms` returns, in the order of the structures; unpacks as `energies, forces, stresses`.

    Attributes:
        energies: [n], eV.
        forces: n arrays [n_atoms, 3], eV/A; None when not asked for.
        stresses: [n, 3, 3], eV/A^3, positive under tension; None when not asked for.
    """

    energies: np.ndarray
    forces: list[np.ndarray] | None
    stresses: np.ndarray | None

    def __iter__(self) -> Iterator:
        return iter((self.energies, self.forces, self.stresses))


def graph_of(potential: Potential, atoms: Atoms) -> Data:
    """Neighbour graph of one structure, with the ideal sites where the potential asks for them.

    Raises:
        UserError: for a structure that is not periodic, or not the crystal the potential was made for.
    """
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-6:
        raise UserError("mlffx potentials need three periodic directions", "set cell and pbc=True", str(atoms.symbols))
    if potential.crystal is None:
        return build_graph(atoms, potential.cutoff)
    match = potential.crystal.match(atoms)
    return build_graph(atoms, potential.cutoff, sites=match.sites, site_type=match.site_type)


def device_of(potential: Potential) -> torch.device:
    """Where the parameters are; the CPU for a potential without any."""
    first = next(chain(potential.parameters(), potential.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def in_double(potential: Potential) -> Potential:
    """The potential in float64 and evaluation mode: itself, or a copy where something has to be cast.

    Lattice dynamics differentiates energies of 1e3 eV over 0.01 A: float32 costs tens of cm-1 there.
    """
    floating = (t for t in chain(potential.parameters(), potential.buffers()) if t.is_floating_point())
    if all(t.dtype == torch.float64 for t in floating):
        return potential.eval()
    return copy.deepcopy(potential).set_precision(torch.float64).eval()


def evaluate_atoms(
    potential: Potential,
    structures: Sequence[Atoms],
    forces: bool = True,
    stress: bool = False,
    chunk: int = EDGES_PER_BATCH,
) -> Evaluation:
    """Energies, forces and stresses of many structures of any size.

    Args:
        potential: any potential; evaluated where its parameters are, in the precision they have.
        structures: n periodic structures.
        forces: also forces.
        stress: also stresses.
        chunk: largest number of directed edges in one batch; bounds the memory.
    """
    potential.eval()
    energies, all_forces, stresses = [], [], []
    for group in _groups((graph_of(potential, atoms) for atoms in structures), chunk):
        batch = batch_graphs(group).to(device_of(potential))
        with torch.no_grad():  # `evaluate` switches gradients on where derivatives are asked for
            out = evaluate(potential, batch, forces=forces, stress=stress)
        energies.append(out[keys.ENERGY].detach().cpu().numpy())
        if forces:
            sizes = [graph.num_nodes for graph in group]
            all_forces += [part.cpu().numpy() for part in out[keys.FORCES].detach().split(sizes)]
        if stress:
            stresses.append(out[keys.STRESS].detach().cpu().numpy())
    return Evaluation(
        np.concatenate(energies) if energies else np.zeros(0),
        all_forces if forces else None,
        np.concatenate(stresses) if stresses else (np.zeros((0, 3, 3)) if stress else None),
    )


def energies_of_members(
    potentials: Sequence[Potential], structures: Sequence[Atoms], chunk: int = EDGES_PER_BATCH
) -> np.ndarray:
    """Energies of the same structures by many potentials, [n_potentials, n], eV; graphs are built once for one kind.

    Args:
        potentials: members of an ensemble, or draws from a posterior; evaluated in float64.
        structures: n periodic structures.
        chunk: as in `evaluate_atoms`.
    """
    members = [in_double(p) for p in potentials]
    first = members[0]
    if any(p.cutoff != first.cutoff or (p.crystal is None) != (first.crystal is None) for p in members):
        return np.array([evaluate_atoms(p, structures, forces=False, chunk=chunk).energies for p in members])
    rows: list[list[np.ndarray]] = [[] for _ in members]
    for group in _groups((graph_of(first, atoms) for atoms in structures), chunk):
        batch = batch_graphs(group)
        for row, potential in zip(rows, members, strict=True):
            with torch.no_grad():
                out = evaluate(potential, copy.copy(batch).to(device_of(potential)), forces=False)
            row.append(out[keys.ENERGY].detach().cpu().numpy())
    return np.array([np.concatenate(row) if row else np.zeros(0) for row in rows])


def _groups(graphs: Iterable[Data], chunk: int) -> Iterator[list[Data]]:
    """Consecutive graphs, each group within `chunk` edges (at least one graph)."""
    group: list[Data] = []
    filled = 0
    for graph in graphs:
        size = max(graph[keys.EDGE_INDEX].shape[1], EDGES_PER_ATOM * int(graph.num_nodes or 0))
        if group and filled + size > chunk:
            yield group
            group, filled = [], 0
        group.append(graph)
        filled += size
    if group:
        yield group
