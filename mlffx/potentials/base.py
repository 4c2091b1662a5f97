"""Potentials: a graph to an energy in eV, and by differentiation to forces and stress."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import Edges, edges_of, n_graphs
from mlffx.models.base import AtomicModel


class Potential(nn.Module):
    """Base class: `forward(graph, edges)` returns ENERGY [n_graphs] in eV and PARTS, the terms that sum to it.

    Attributes:
        cutoff: range of the neighbour list the potential needs, A.
        crystal: set where the potential needs the ideal sites of the atoms (force constants), else None.
    """

    cutoff: float
    crystal: Crystal | None = None

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """Plain nested dictionary from which `build_potential` makes the same potential (without its weights)."""
        raise NotImplementedError

    def feature_sizes(self) -> list[int]:
        """Number of FEATURES of each term that has any, in their order."""
        return []

    def only_sums(self) -> list[bool]:
        """Of each of the FEATURES: whether a linear head has to weigh it alike in every species (`AtomicModel`)."""
        return [False] * sum(self.feature_sizes())

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        """Draws from the posterior of what least squares fitted; empty where nothing was. Networks have ensembles."""
        return []

    def set_precision(self, dtype: torch.dtype) -> Potential:
        """Cast the networks; energies, offsets and geometry stay in float64."""
        for child in self.children():
            child.set_precision(dtype) if isinstance(child, Potential | AtomicModel) else child.to(dtype)
        return self


def evaluate(
    potential: Potential, graph: Data, forces: bool = True, stress: bool = False, create_graph: bool = False
) -> dict[str, Any]:
    """Energy and its derivatives.

    Args:
        potential: any potential.
        graph: a batch (`batch_graphs`).
        forces: also FORCES = -dE/dr, [n_atoms, 3], eV/A.
        stress: also STRESS = (1/V) dE/d(strain), [n_graphs, 3, 3], eV/A^3, symmetric; positive means that the cell
            pulls inwards (tension), the sign of ASE. Strain moves cell, positions and sites alike: x -> x (1 + e).
        create_graph: keep the graph of the derivatives (training on forces, Hessians).
    """
    if not (forces or stress):
        return potential(graph, edges_of(graph))
    moved, leaves, strain = copy.copy(graph), [], None  # shares every tensor; the caller's graph stays as it is
    with torch.enable_grad():
        positions = graph[keys.POSITIONS]
        if not positions.requires_grad:
            positions = positions.detach().requires_grad_(True)
        leaves.append(positions)
        moved[keys.POSITIONS] = positions
        if stress:
            strain = positions.new_zeros((n_graphs(graph), 3, 3)).requires_grad_(True)
            leaves.append(strain)
            symmetric = torch.eye(3, dtype=strain.dtype, device=strain.device) + 0.5 * (strain + strain.transpose(1, 2))
            per_atom = symmetric[graph[keys.BATCH]]
            moved[keys.POSITIONS] = torch.einsum("na,nab->nb", positions, per_atom)
            moved[keys.CELL] = graph[keys.CELL] @ symmetric
            if keys.SITES in graph:
                moved[keys.SITES] = torch.einsum("na,nab->nb", graph[keys.SITES], per_atom)
        out = potential(moved, edges_of(moved))
        gradients = torch.autograd.grad(out[keys.ENERGY].sum(), leaves, create_graph=create_graph, allow_unused=True)
    if forces:
        out[keys.FORCES] = _or_zero(gradients[0], positions).neg()
    if stress:
        assert strain is not None
        volume = torch.linalg.det(graph[keys.CELL]).abs()
        out[keys.STRESS] = _or_zero(gradients[-1], strain) / volume[:, None, None]
    return out


def _or_zero(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if gradient is None else gradient
