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
        radial: radial basis of each pair of neighbours, [n_pairs, n_radial]: both directions share it.
        pair: [n_atoms * n_slots], the pair in each slot (0 in empty ones).
        slots_of_pair: [n_pairs, 2], or [n_pairs, 1] where edges do not come in both directions.
    """

    sender: Tensor
    slots_of: Tensor
    harmonics: Tensor
    radial: Tensor
    pair: Tensor
    slots_of_pair: Tensor

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
        lengths = (rows * rows).sum(dim=0).sqrt()
        unit = rows / lengths
        if len(empty) > n_edges:
            unit = unit.new_tensor([[1.0], [0.0], [0.0]]).repeat(1, len(empty)).index_copy(1, place, unit)
        y = harmonics(unit.to(dtype))
        if len(empty) > n_edges:
            y = y.masked_fill(empty, 0.0)
        pairs = _pairs(edges, n_atoms)
        slots_of_pair, apart = place[pairs], lengths.index_select(0, pairs[:, 0])
        if n_edges == 0:  # one pair that contributes nothing, so that there is something to gather from
            slots_of_pair, apart = place.new_zeros((1, 1)), lengths.new_full((1,), cutoff)
        pair = torch.zeros_like(sender)
        for slots in slots_of_pair.unbind(1):
            pair = pair.index_copy(0, slots, torch.arange(len(slots), device=device))
        return cls(
            sender,
            slots_of.unflatten(0, (n_atoms, n_sent)),
            y.unflatten(1, (n_atoms, n_slots)).transpose(0, 1),
            basis(apart.to(dtype)),
            pair,
            slots_of_pair,
        )

    def gather(self, x: Tensor) -> Tensor:
        """What the neighbours know: [n_atoms, c] -> [n_atoms, n_slots,
        c]; gradients do not flow through empty slots.
        """
        return _Gather.apply(x, self.sender, self.slots_of).unflatten(0, (len(self.slots_of), -1))

    def spread(self, x: Tensor) -> Tensor:
        """What the pairs know: [n_pairs, c] -> [n_atoms, n_slots, c]; gradients do not flow through empty slots."""
        return _Gather.apply(x, self.pair, self.slots_of_pair).unflatten(0, (len(self.slots_of), -1))


def _pairs(edges: Edges, n_atoms: int) -> Tensor:
    """Both edges of every pair of neighbours, [n_pairs, 2]; each edge alone, [n_edges, 1], where they do not match.

    Edges i <- j and j <- i have opposite vectors. Sorted by atoms and by the component along a direction that no
    lattice plane is normal to, those of one direction and those of the other come in the same order.
    """
    vectors = edges.vectors.detach()
    along = vectors @ vectors.new_tensor([0.5403023058681398, 0.6180339887498949, 0.5710441695345512])
    forward = (edges.receiver < edges.sender) | ((edges.receiver == edges.sender) & (along > 0))
    low, high = torch.minimum(edges.receiver, edges.sender), torch.maximum(edges.receiver, edges.sender)
    atoms, signed = low * n_atoms + high, torch.where(forward, along, -along)
    sides = []
    for side in (forward, ~forward):
        chosen = side.nonzero().squeeze(1)
        chosen = chosen[signed[chosen].argsort()]
        sides.append(chosen[atoms[chosen].argsort(stable=True)])
    if len(sides[0]) == len(sides[1]):
        pairs = torch.stack(sides, dim=1)
        opposite = (vectors[sides[0]] + vectors[sides[1]]).abs()
        if bool((atoms[sides[0]] == atoms[sides[1]]).all()) and bool((opposite < 1e-8).all()):
            return pairs
    return torch.arange(len(vectors), device=vectors.device).unsqueeze(1)


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
