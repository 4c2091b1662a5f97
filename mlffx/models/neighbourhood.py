"""Sums over neighbours as matrix products, which is what makes message passing on crystals fast.

Most messages are a product of what the edge knows (m radial and angular functions w) and what the neighbour knows
(f features x), with learned weights W that depend on neither:

    message_i[f] = sum_m W[m, f] sum_(e: i <- j) w_e[m] x_j[f]

The inner sum is a product of matrices, so no tensor of n_edges * f elements is made, in no derivative. In small
cells the edges to all images of one atom are added up beforehand.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, n_graphs

DENSE_RATIO = 4.0  # cells of up to this many atoms per neighbour are treated as one dense block


class Neighbourhood:
    """Blocks of a batch: for small cells [atoms x atoms] of each graph, else [most neighbours] of each atom.

    Args:
        graph: a batch.
        edges: its edges, sorted by the receiver.
        dense: force one of the two layouts (tests); chosen by size otherwise.
    """

    def __init__(self, graph: Data, edges: Edges, dense: bool | None = None) -> None:
        batch, device = graph[keys.BATCH], edges.receiver.device
        self.n_atoms = len(batch)
        sizes = torch.bincount(batch, minlength=n_graphs(graph))
        largest = int(sizes.max())
        self.dense = largest * self.n_atoms <= DENSE_RATIO * len(edges.receiver) if dense is None else dense
        self.slot: Tensor | None = None
        if self.dense:
            first = torch.cumsum(sizes, 0) - sizes
            local = torch.arange(self.n_atoms, device=device) - first[batch]
            self.shape = (len(sizes), largest, largest)
            place = batch * largest + local
            if len(sizes) * largest != self.n_atoms:
                self.slot = place
            self.index = place[edges.receiver] * largest + local[edges.sender]
        else:
            degree = torch.bincount(edges.receiver, minlength=self.n_atoms)
            first = torch.cumsum(degree, 0) - degree
            position = torch.arange(len(edges.receiver), device=device) - first[edges.receiver]
            self.shape = (self.n_atoms, 1, max(int(degree.max()), 1))
            self.index = edges.receiver * self.shape[2] + position
            self.sender = edges.sender.new_zeros(self.n_atoms * self.shape[2]).index_copy(0, self.index, edges.sender)

    def weights(self, values: Tensor) -> Tensor:
        """What the edges know, [n_edges, m] -> blocks for `sum`, [n_blocks, rows * m, columns]."""
        blocks, rows, columns = self.shape
        table = values.new_zeros((blocks * rows * columns, values.shape[1])).index_add(0, self.index, values)
        return table.reshape(blocks, rows, columns, -1).transpose(2, 3).reshape(blocks, -1, columns)

    def sum(self, weights: Tensor, x: Tensor) -> Tensor:
        """sum_(e: i <- j) w_e[m] x_j[f]: blocks and [n_atoms, f] -> [n_atoms, m, f]."""
        blocks, rows, columns = self.shape
        if not self.dense:
            return torch.bmm(weights, x.index_select(0, self.sender).reshape(blocks, columns, -1))
        if self.slot is not None:
            x = x.new_zeros((blocks * rows, x.shape[1])).index_copy(0, self.slot, x)
        out = torch.bmm(weights, x.reshape(blocks, columns, -1)).reshape(blocks * rows, -1, x.shape[1])
        return out if self.slot is None else out.index_select(0, self.slot)

    def outer(self, a: Tensor, b: Tensor) -> Tensor:
        """sum_(e: i <- j) a_e[m] b_e[f] for two properties of edges: [n_edges, m], [n_edges, f] -> [n_atoms, m, f]."""
        if self.dense:
            raise ValueError("needs one slot an edge: Neighbourhood(..., dense=False)")
        blocks, _, columns = self.shape
        tables = [
            x.new_zeros((blocks * columns, x.shape[1])).index_copy(0, self.index, x).reshape(blocks, columns, -1)
            for x in (a, b)
        ]
        return torch.bmm(tables[0].transpose(1, 2), tables[1])
