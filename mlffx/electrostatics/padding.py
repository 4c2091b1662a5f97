"""Rectangular layout of a batch: graphs of different sizes side by side, short ones filled with zeros."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import n_graphs


@dataclass(frozen=True)
class Layout:
    """Place of each atom in the rectangle.

    Attributes:
        row: graph of each atom, [n_atoms].
        column: index of each atom within its graph, [n_atoms].
        counts: atoms of each graph, [n_graphs].
        n_max: atoms of the largest graph.
    """

    row: Tensor
    column: Tensor
    counts: Tensor
    n_max: int

    def pad(self, per_atom: Tensor) -> Tensor:
        """[n_atoms, ...] -> [n_graphs, n_max, ...], zeros where there is no atom."""
        if len(self.row) == len(self.counts) * self.n_max:  # equal sizes, and atoms are ordered by graph
            return per_atom.reshape(len(self.counts), self.n_max, *per_atom.shape[1:])
        out = per_atom.new_zeros((len(self.counts), self.n_max, *per_atom.shape[1:]))
        return out.index_put((self.row, self.column), per_atom)

    def unpad(self, padded: Tensor) -> Tensor:
        """[n_graphs, n_max, ...] -> [n_atoms, ...]."""
        return padded[self.row, self.column]

    def occupied(self) -> Tensor:
        """[n_graphs, n_max], true where there is an atom."""
        return torch.arange(self.n_max, device=self.counts.device) < self.counts[:, None]


def layout_of(graph: Data) -> Layout:
    """Layout of a batch whose atoms are ordered by graph, as `batch_graphs` leaves them."""
    row = graph[keys.BATCH]
    counts = torch.bincount(row, minlength=n_graphs(graph))
    starts = torch.cumsum(counts, 0) - counts
    column = torch.arange(len(row), device=row.device) - starts[row]
    return Layout(row, column, counts, int(counts.max()))
