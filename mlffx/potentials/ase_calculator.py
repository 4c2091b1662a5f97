"""Potentials and ensembles as ASE calculators, with a neighbour list that outlives small displacements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.errors import UserError
from mlffx.potentials.base import Potential, evaluate
from mlffx.potentials.batched import device_of

HOPPED = 1.5  # A from its site: an atom was wrapped or has left its site, so sites are assigned anew


class MlffxCalculator(Calculator):
    """ASE calculator: energy eV, forces eV/A, stress eV/A^3 (six components, positive under tension).

    Several potentials are an ensemble: results are the mean, and `energy_std` (eV) and `forces_std` [n_atoms, 3] (eV/A)
    the standard deviation over members (n - 1 in the denominator).

    Args:
        potentials: one potential or several of the same kind.
        skin: A; neighbours are listed to cutoff + skin and kept until an atom has moved by half of it.
        double: run networks in float64 (they are cast in place). True for phonons and relaxations.
    """

    def __init__(
        self, potentials: Potential | Sequence[Potential], skin: float = 0.5, double: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.potentials = [potentials] if isinstance(potentials, Potential) else list(potentials)
        if not self.potentials:
            raise UserError("an ensemble of no potentials", "give at least one", "calculator")
        if skin < 0:
            raise UserError(f"a skin of {skin:g} A", "give zero or more", "calculator.skin")
        for potential in self.potentials:
            potential.eval()
            if double:
                potential.set_precision(torch.float64)
        self.implemented_properties = ["energy", "free_energy", "forces", "stress"]
        if len(self.potentials) > 1:
            self.implemented_properties += ["energy_std", "forces_std"]
        crystals = [p.crystal for p in self.potentials if p.crystal is not None]
        self.crystal = crystals[0] if crystals else None
        self.neighbours = SkinGraph(max(p.cutoff for p in self.potentials), skin, self.crystal)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; stress only when it is asked for, forces always."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        graph = self.neighbours(self.atoms)
        members = []
        for potential in self.potentials:
            own = batch_graphs([within(graph, potential.cutoff)]).to(device_of(potential))
            out = evaluate(potential, own, forces=True, stress="stress" in properties)
            members.append({k: out[k].detach().cpu().numpy() for k in _WANTED if k in out})
        mean = {k: np.mean([m[k] for m in members], axis=0) for k in members[0]}
        energy = float(mean[keys.ENERGY][0])
        self.results = {"energy": energy, "free_energy": energy, "forces": mean[keys.FORCES]}
        if keys.STRESS in mean:
            self.results["stress"] = full_3x3_to_voigt_6_stress(mean[keys.STRESS][0])
        if len(members) > 1:
            self.results["energy_std"] = float(np.std([m[keys.ENERGY][0] for m in members], ddof=1))
            self.results["forces_std"] = np.std([m[keys.FORCES] for m in members], axis=0, ddof=1)


_WANTED = (keys.ENERGY, keys.FORCES, keys.STRESS)


class SkinGraph:
    """The graph of the latest structure, rebuilt only when the neighbour list may have become incomplete.

    Attributes:
        builds: how often a neighbour list was made.
    """

    def __init__(self, cutoff: float, skin: float, crystal: Any = None) -> None:
        self.cutoff, self.skin, self.crystal = cutoff, skin, crystal
        self.builds = 0
        self._graph: Data | None = None
        self._built_at: Atoms | None = None

    def __call__(self, atoms: Atoms) -> Data:
        """Graph with all edges below cutoff + skin - 2 * (largest displacement since the last build) >= cutoff."""
        if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-6:
            raise UserError(
                "mlffx potentials need three periodic directions", "set cell and pbc=True", str(atoms.symbols)
            )
        if self._graph is None or not self._still_valid(atoms):
            self._build(atoms)
        assert self._graph is not None
        graph = self._graph.clone()
        graph[keys.POSITIONS] = torch.as_tensor(atoms.positions, dtype=torch.float64).clone()
        if self.crystal is not None:
            self._follow(graph, atoms)
        return graph

    def _still_valid(self, atoms: Atoms) -> bool:
        last = self._built_at
        assert last is not None
        if len(last) != len(atoms) or not np.array_equal(last.numbers, atoms.numbers):
            return False
        if not np.array_equal(last.cell.array, atoms.cell.array):
            return False
        moved = np.linalg.norm(atoms.positions - last.positions, axis=1).max()
        return bool(2 * moved <= self.skin)

    def _build(self, atoms: Atoms) -> None:
        sites = site_type = None
        if self.crystal is not None:
            match = self.crystal.match(atoms)
            sites, site_type = match.sites, match.site_type
        self._graph = build_graph(atoms, self.cutoff + self.skin, sites=sites, site_type=site_type)
        self._built_at = atoms.copy()
        self.builds += 1

    def _follow(self, graph: Data, atoms: Atoms) -> None:
        """Let the sites drift with the whole structure, as `Crystal.match` defines them."""
        offset = graph[keys.POSITIONS] - graph[keys.SITES]
        mean = offset.mean(dim=0)
        if bool((offset - mean).norm(dim=1).max() > HOPPED):
            self._build(atoms)
            assert self._graph is not None
            graph[keys.SITES] = self._graph[keys.SITES]
        else:
            graph[keys.SITES] = graph[keys.SITES] + mean


def within(graph: Data, cutoff: float) -> Data:
    """The graph without the edges that are longer than `cutoff` A: the skin."""
    keep = edges_of(graph).lengths < cutoff
    trimmed = graph.clone()
    trimmed[keys.EDGE_INDEX] = graph[keys.EDGE_INDEX][:, keep]
    trimmed[keys.EDGE_IMAGE] = graph[keys.EDGE_IMAGE][keep]
    return trimmed
