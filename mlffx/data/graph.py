"""Crystals as graphs: neighbour lists computed once, collated into batches that stay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch_geometric.data import Batch, Data
from vesin import NeighborList

from mlffx.data import keys
from mlffx.errors import UserError

MAX_NEIGHBOURS = 1000


def build_graph(
    atoms: Atoms, cutoff: float, sites: np.ndarray | None = None, site_type: np.ndarray | None = None
) -> Data:
    """Neighbour graph of a periodic structure; several images of one atom are several edges.

    Args:
        atoms: periodic structure.
        cutoff: A.
        sites: ideal positions [n_atoms, 3], A, in the order of the atoms (crystals only).
        site_type: [n_atoms], atom of the primitive cell (crystals only).

    Raises:
        UserError: for a cutoff that gives more than MAX_NEIGHBOURS neighbours an atom.
    """
    volume = abs(atoms.cell.volume)
    if not cutoff > 0:
        raise UserError(f"a cutoff of {cutoff:g} A is not positive", "take one of 2.5 to 6 A", "model.cutoff")
    density = len(atoms) / volume if volume > 1e-6 else 0.0  # no cell, no images
    if 4.19 * cutoff**3 * density > MAX_NEIGHBOURS:
        raise UserError(
            f"a cutoff of {cutoff:g} A gives about {4.19 * cutoff**3 * density:.0f} neighbours an atom",
            f"take one below {(MAX_NEIGHBOURS / 4.19 / density) ** (1 / 3):.1f} A",
            "model.cutoff",
        )
    centre, neighbour, image = NeighborList(cutoff=cutoff, full_list=True, sorted=True).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=bool(atoms.pbc.all()), quantities="ijS"
    )
    graph = Data(
        **{
            keys.POSITIONS: torch.as_tensor(atoms.positions, dtype=torch.float64).clone(),
            keys.NUMBERS: torch.as_tensor(atoms.numbers, dtype=torch.int64),
            keys.CELL: torch.as_tensor(atoms.cell.array, dtype=torch.float64).reshape(1, 3, 3).clone(),
            keys.EDGE_INDEX: torch.stack(
                [torch.as_tensor(neighbour.astype(np.int64)), torch.as_tensor(centre.astype(np.int64))]
            ),
            keys.EDGE_IMAGE: torch.as_tensor(image.astype(np.float64)),
        }
    )
    if sites is not None:
        graph[keys.SITES] = torch.as_tensor(sites, dtype=torch.float64)
        graph[keys.SITE_TYPE] = torch.as_tensor(site_type, dtype=torch.int64)
    return graph


def batch_graphs(graphs: Sequence[Data]) -> Batch:
    """Disjoint union of graphs; adds BATCH."""
    return Batch.from_data_list(list(graphs))


@dataclass(frozen=True)
class Edges:
    """Directed edges i <- j of a batch, sorted by the receiving atom i.

    Attributes:
        sender: j, [n_edges].
        receiver: i, [n_edges].
        vectors: r_j + translation - r_i, [n_edges, 3], A, float64.
        lengths: [n_edges], A, float64.
    """

    sender: Tensor
    receiver: Tensor
    vectors: Tensor
    lengths: Tensor

    def within(self, cutoff: float) -> Edges:
        """The edges shorter than `cutoff`; the same object when that is all of them."""
        keep = self.lengths.detach() < cutoff
        if bool(keep.all()):
            return self
        return Edges(self.sender[keep], self.receiver[keep], self.vectors[keep], self.lengths[keep])


def edges_of(graph: Data) -> Edges:
    """Edge vectors from positions, cell and images; differentiable in positions and cell."""
    sender, receiver = graph[keys.EDGE_INDEX]
    cell, image = graph[keys.CELL], graph[keys.EDGE_IMAGE]
    if cell.shape[0] == 1:
        shift = image @ cell[0]
    else:
        shift = torch.einsum("ea,eab->eb", image, cell[graph[keys.BATCH][receiver]])
    vectors = graph[keys.POSITIONS][sender] + shift - graph[keys.POSITIONS][receiver]
    return Edges(sender, receiver, vectors, torch.linalg.vector_norm(vectors, dim=-1))


def n_graphs(graph: Data) -> int:
    return graph[keys.CELL].shape[0]


def atoms_per_graph(graph: Data) -> Tensor:
    """[n_graphs], number of atoms as float64."""
    ones = torch.ones_like(graph[keys.BATCH], dtype=torch.float64)
    return sum_by_graph(ones, graph)


def sum_by_graph(per_atom: Tensor, graph: Data) -> Tensor:
    """Sum [n_atoms, ...] over the atoms of each graph: [n_graphs, ...]."""
    out = per_atom.new_zeros((n_graphs(graph), *per_atom.shape[1:]))
    return out.index_add(0, graph[keys.BATCH], per_atom)
