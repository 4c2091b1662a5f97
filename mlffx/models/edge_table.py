"""Edges as a rectangle of atoms and neighbours, so that sums over neighbours are batched matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlffx.data.graph import Edges
from mlffx.models.irreps import SphericalHarmonics
from mlffx.models.radial import BesselBasis


@dataclass(frozen=True)
class EdgeTable:
    """Every atom has n_slots neighbours, the missing ones with zero harmonics.

    Rows are nearly full in crystals, where all atoms have about the same number of neighbours.

    Attributes:
        sender: [n_atoms * n_slots], neighbour in each slot (0 in empty ones).
        slots_of: [n_atoms, n_sent], the slots that each atom is the neighbour in, filled up with empty slots.
        harmonics: [n_atoms, (l_max + 1)^2, n_slots].
        radial: [n_atoms, n_slots, n_radial].
    """

    sender: Tensor
    slots_of: Tensor
    harmonics: Tensor
    radial: Tensor

    @classmethod
    def of(
        cls,
        edges: Edges,
        n_atoms: int,
        cutoff: float,
        basis: BesselBasis,
        harmonics: SphericalHarmonics,
        dtype: torch.dtype,
    ) -> EdgeTable:
        """From edges sorted by receiver, shorter than the cutoff."""
        n_edges, device = len(edges.sender), edges.sender.device
        received = torch.bincount(edges.receiver, minlength=n_atoms)
        sent = torch.bincount(edges.sender, minlength=n_atoms)
        n_sent = max(int(sent.max()), 1)
        n_slots = max(int(received.max()), 1)
        if n_atoms * n_sent > n_edges == n_atoms * n_slots:
            n_slots += 1  # there must be an empty slot to fill `slots_of` up with
        place = edges.receiver * n_slots + _rank(edges.receiver, received)
        empty = torch.ones(n_atoms * n_slots, dtype=torch.bool, device=device).index_fill(0, place, False)
        sender = edges.sender.new_zeros(n_atoms * n_slots).index_copy(0, place, edges.sender)
        order = edges.sender.argsort(stable=True)
        slots_of = place.new_full((n_atoms * n_sent,), int(empty.to(torch.int8).argmax()))
        by_sender = edges.sender.index_select(0, order)
        slots_of = slots_of.index_copy(0, by_sender * n_sent + _rank(by_sender, sent), place.index_select(0, order))

        rows = edges.vectors.T.contiguous()  # [3, n_edges]: long rows
        if len(empty) > n_edges:
            rows = rows.new_tensor([[cutoff], [0.0], [0.0]]).repeat(1, len(empty)).index_copy(1, place, rows)
        lengths = (rows * rows).sum(dim=0).sqrt()
        y = harmonics((rows / lengths).to(dtype))
        if len(empty) > n_edges:
            y = y.masked_fill(empty, 0.0)
        y = y.unflatten(1, (n_atoms, n_slots)).transpose(0, 1)
        return cls(
            sender,
            slots_of.unflatten(0, (n_atoms, n_sent)),
            y,
            basis(lengths.to(dtype)).unflatten(0, (n_atoms, n_slots)),
        )

    def gather(self, x: Tensor) -> Tensor:
        """What the neighbours know: [n_atoms, c] -> [n_atoms, n_slots,
        c]; gradients do not flow through empty slots.
        """
        return _Gather.apply(x, self.sender, self.slots_of).unflatten(0, (len(x), -1))


def _rank(index: Tensor, counts: Tensor) -> Tensor:
    """Position of each element among those with the same value of a sorted index."""
    first = counts.cumsum(0) - counts
    return torch.arange(len(index), device=index.device) - first.index_select(0, index)


class _Gather(torch.autograd.Function):
    """Rows of the neighbours. Its gradient collects rows instead of scattering them, which is several times faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sender: Tensor, slots_of: Tensor) -> Tensor:
        ctx.save_for_backward(sender, slots_of)
        return x.index_select(0, sender)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Collect.apply(gradient, *ctx.saved_tensors), None, None


class _Collect(torch.autograd.Function):
    """Sum of the rows in the slots of each atom: the transpose of `_Gather`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sender: Tensor, slots_of: Tensor) -> Tensor:
        ctx.save_for_backward(sender, slots_of)
        return values.index_select(0, slots_of.flatten()).unflatten(0, slots_of.shape).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Gather.apply(gradient, *ctx.saved_tensors), None, None
