"""Many copies of one supercell as one batched graph, with a neighbour list renewed when atoms have moved."""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.errors import UserError
from mlffx.potentials.at_sites import at_sites
from mlffx.potentials.base import Potential, evaluate
from mlffx.potentials.batched import device_of

FARTHEST = 2.0  # A; an atom that far from its site has left the crystal


class ReplicaForces:
    """Energies and forces of R copies of a supercell in one evaluation of the potential.

    The neighbour list reaches `skin` beyond the cutoff and is renewed for all copies as soon as one atom has moved by
    half the skin; at every call only the pairs within the cutoff are handed on, in a fixed order. Energies are
    therefore those of a fresh list, and a list made again from the same `reference` gives the same bits.

    Args:
        potential: any potential, already on its device.
        supercell: ideal supercell (`Crystal.supercell`); its positions are the sites.
        n_replicas: R.
        skin: A.

    Raises:
        UserError: when an atom has left its site for good (a diverging potential, too long a time step).
    """

    def __init__(self, potential: Potential, supercell: Atoms, n_replicas: int, skin: float = 0.6) -> None:
        self.supercell, self.n_replicas, self.skin = supercell, n_replicas, skin
        self.device = device_of(potential)
        self.sites, self.site_type = supercell.positions, supercell.arrays.get("site_type")
        if potential.crystal is not None:  # the potential's own crystal says what its site types are
            match = potential.crystal.match(supercell)
            self.sites, self.site_type = match.sites, match.site_type
        still = batch_graphs([build_graph(supercell, potential.cutoff, self.sites, self.site_type)])
        still[keys.POSITIONS] = torch.as_tensor(self.sites)
        self.potential = at_sites(freeze(potential).cpu(), still).to(self.device)
        self.reference: Tensor | None = None
        self.n_lists = 0

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [R], eV, and forces [R, n, 3], eV/A, at positions [R, n, 3], A, float64."""
        if self.reference is None or not _longest_move(positions, self.reference) <= 0.5 * self.skin:  # also for nan
            self._check(positions)
            self.renew(positions)
        graph = copy.copy(self._graph)
        graph[keys.POSITIONS] = positions.reshape(-1, 3)
        keep = edges_of(graph).lengths < self.potential.cutoff
        graph[keys.EDGE_INDEX] = self._graph[keys.EDGE_INDEX][:, keep]
        graph[keys.EDGE_IMAGE] = self._graph[keys.EDGE_IMAGE][keep]
        out = evaluate(self.potential, graph)
        return out[keys.ENERGY].detach(), out[keys.FORCES].detach().reshape(positions.shape)

    def _check(self, positions: Tensor) -> None:
        """A replica that left its crystal would give numbers without a meaning."""
        moved = np.linalg.norm(positions.detach().cpu().numpy() - self.supercell.positions, axis=-1)
        bad = np.argwhere(~(moved <= FARTHEST))
        if len(bad):
            replica, atom = bad[0]
            raise UserError(
                f"replica {replica} left the crystal (atom {atom} is {moved[replica, atom]:.1f} A from its site)",
                "the potential is not stable there: lower the temperature or the time step, or train on hotter frames",
                "dynamics",
            )

    def renew(self, positions: Tensor) -> None:
        """Make the neighbour list at these positions [R, n, 3], A."""
        atoms, graphs = self.supercell.copy(), []
        for replica in positions.detach().cpu().numpy():
            atoms.positions = replica
            graph = build_graph(atoms, self.potential.cutoff + self.skin, self.sites, self.site_type)
            graphs.append(_in_fixed_order(graph))
        self._graph = batch_graphs(graphs).to(self.device)
        self.reference = positions.detach().clone()
        self.n_lists += 1


def freeze(potential: Potential) -> Potential:
    """A copy in evaluation mode whose parameters ask for no gradients; the caller's potential stays as it is."""
    return copy.deepcopy(potential).eval().requires_grad_(False)


def _longest_move(positions: Tensor, reference: Tensor) -> float:
    return float((positions - reference).square().sum(dim=-1).max().sqrt())


def _in_fixed_order(graph: Data) -> Data:
    """Sort edges by centre, neighbour and image: the neighbour list leaves the order within a centre open."""
    neighbour, centre = graph[keys.EDGE_INDEX].numpy()
    image = graph[keys.EDGE_IMAGE].numpy()
    order = torch.as_tensor(np.lexsort((image[:, 2], image[:, 1], image[:, 0], neighbour, centre)))
    graph[keys.EDGE_INDEX] = graph[keys.EDGE_INDEX][:, order]
    graph[keys.EDGE_IMAGE] = graph[keys.EDGE_IMAGE][order]
    return graph
