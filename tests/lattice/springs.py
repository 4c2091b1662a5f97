"""Analytic crystals: springs between neighbours, whose force constants can be written down."""

from __future__ import annotations

import torch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import sum_by_graph
from mlffx.potentials.base import Potential


class Springs(Potential):
    """E = 1/2 sum over bonds of k (r - r0)^2 for shells of neighbours: anharmonic, at rest in the crystal.

    Args:
        shells: (r0, k) in A and eV/A^2; a pair belongs to the shell it is nearest to.
        tilt: adds tilt * (x-component)^2 of every bond, which breaks the cubic symmetry.
    """

    def __init__(self, shells: list[tuple[float, float]], tilt: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("lengths", torch.tensor([r for r, _ in shells], dtype=torch.float64))
        self.register_buffer("stiffness", torch.tensor([k for _, k in shells], dtype=torch.float64))
        self.tilt = tilt
        self.cutoff = max(r for r, _ in shells) * 1.1

    def forward(self, graph, edges):
        shell = (edges.lengths.detach()[:, None] - self.lengths).abs().argmin(dim=1)
        energy = 0.25 * self.stiffness[shell] * (edges.lengths - self.lengths[shell]) ** 2
        energy = energy + 0.25 * self.tilt * edges.vectors[:, 0] ** 2
        per_atom = torch.zeros(len(graph[keys.POSITIONS]), dtype=torch.float64).index_add(0, edges.receiver, energy)
        total = sum_by_graph(per_atom, graph)
        return {keys.ENERGY: total, keys.PARTS: {"springs": total}}


def diamond(a: float = 3.56, tilt: float = 0.0) -> tuple[Springs, Crystal]:
    """First- and second-neighbour springs: stable, and Gamma^2 = 8 k1 / (3 m)."""
    springs = Springs([(a * 3**0.5 / 4, 20.0), (a / 2**0.5, 3.0)], tilt)
    return springs, Crystal.from_prototype("diamond", ["C"], a)


def rocksalt(a: float = 4.017) -> tuple[Springs, Crystal]:
    """First- and second-neighbour springs of LiH: TO(Gamma)^2 = 2 k1 / mu."""
    return Springs([(a / 2, 4.0), (a / 2**0.5, 0.5)]), Crystal.from_prototype("rocksalt", ["Li", "H"], a)
