"""Ewald sums of point and of Gaussian charges, batched over structures of different cells and sizes.

The energy of charges q_i in a periodic cell of volume V (Ewald 1921; de Leeuw, Perram & Smith, Proc. R. Soc. A 373, 27,
1980), conducting boundary, with the splitting parameter alpha and f = e^2 / (4 pi eps0):

    E = f/2  sum_{k != 0} 4 pi / (V k^2) exp(-k^2 / 4 alpha^2) |sum_i q_i exp(i k r_i)|^2      reciprocal part
      - f    alpha / sqrt(pi) sum_i q_i^2                                                      self interaction
      + f/2  sum_{i, j, images} q_i q_j erfc(alpha r_ij) / r_ij                                real-space part
      - f    pi / (2 V alpha^2) (sum_i q_i)^2                                                  neutralising background

The first two lines alone are the pair interactions of Gaussian charges of width sigma = 1 / (2 alpha), since two of
them at distance r interact as erf(r / 2 sigma) / r. That is all that latent charges need.

The structure factor separates into the three lattice directions: it is one batched matrix product, and the phases of
all atoms at all k are never held in memory at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, n_graphs, sum_by_graph
from mlffx.electrostatics.padding import Layout, layout_of
from mlffx.errors import UserError
from mlffx.units import COULOMB_EV_A


@dataclass(frozen=True)
class Splitting:
    """How the sum is divided.

    Attributes:
        alpha: splitting parameter, 1/A.
        k_cutoff: largest |k| of the reciprocal part, 1/A.
        real_cutoff: range of the real-space part, A; 0 for Gaussian charges, which have none.
    """

    alpha: float
    k_cutoff: float
    real_cutoff: float

    @classmethod
    def point(cls, real_cutoff: float, tolerance: float) -> Splitting:
        """Cut both parts where exp(-alpha^2 r^2) and exp(-k^2 / 4 alpha^2) have fallen to `tolerance`."""
        decades = _decay(tolerance)
        if real_cutoff <= 0:
            raise UserError(f"a real-space cutoff of {real_cutoff:g} A is not positive", where="electrostatics.cutoff")
        return cls(decades / real_cutoff, 2 * decades**2 / real_cutoff, real_cutoff)

    @classmethod
    def gaussian(cls, sigma: float, tolerance: float) -> Splitting:
        """Charge densities of width `sigma`, A: the reciprocal part with alpha = 1 / (2 sigma)."""
        if sigma <= 0:
            raise UserError(f"a charge width of {sigma:g} A is not positive", where="electrostatics.sigma")
        return cls(0.5 / sigma, _decay(tolerance) / sigma, 0.0)


def _decay(tolerance: float) -> float:
    if not 0 < tolerance < 0.1:
        raise UserError(f"tolerance {tolerance:g} is not between 0 and 0.1", where="electrostatics.tolerance")
    return math.sqrt(-math.log(tolerance))


def ewald_energy(charges: Tensor, graph: Data, edges: Edges, split: Splitting) -> Tensor:
    """Coulomb energy of each structure, twice differentiable in charges, positions and cell.

    Args:
        charges: [n_atoms], e, float64. Neutral in each graph; else the energy includes a neutralising background.
        graph: batch with positions, cell and BATCH.
        edges: full neighbour list that reaches at least `split.real_cutoff`.
        split: `Splitting.point(...)` or `Splitting.gaussian(...)`.

    Returns:
        [n_graphs], eV, float64.
    """
    charges = charges.to(torch.float64)
    layout = layout_of(graph)
    energy = _reciprocal_energy(layout.pad(charges), graph, layout, split)
    energy = energy - split.alpha / math.sqrt(math.pi) * sum_by_graph(charges**2, graph)
    if split.real_cutoff > 0:
        near = edges.within(split.real_cutoff)
        pair = charges[near.sender] * torch.erfc(split.alpha * near.lengths) / near.lengths
        per_atom = torch.zeros_like(charges).index_add(0, near.receiver, pair)
        energy = energy + 0.5 * sum_by_graph(charges * per_atom, graph)
        volume = torch.linalg.det(graph[keys.CELL]).abs()
        energy = energy - math.pi / (2 * volume * split.alpha**2) * sum_by_graph(charges, graph) ** 2
    return COULOMB_EV_A * energy


def gaussian_matrix(graph: Data, layout: Layout, split: Splitting) -> Tensor:
    """A of E = q^T A q / 2 for Gaussian charges, self interaction included (positive semi-definite by construction).

    Returns:
        [n_graphs, n_max, n_max], eV/e^2; rows and columns of padding are those of an atom at the origin.
    """
    kernel, phases = _kernel_and_phases(graph, layout, split)
    x, y, z = phases
    every = torch.einsum("gnx,gny,gnz->gnxyz", x, y, z).flatten(2)
    weighted = every * kernel.reshape(len(kernel), 1, -1)
    return COULOMB_EV_A * (weighted @ every.mH).real


def _reciprocal_energy(charges: Tensor, graph: Data, layout: Layout, split: Splitting) -> Tensor:
    """[n_graphs], 1/A; `charges` padded, [n_graphs, n_max]."""
    kernel, (x, y, z) = _kernel_and_phases(graph, layout, split)
    planes = torch.einsum("gnx,gny->gnxy", charges.unsqueeze(-1) * x, y).flatten(2)
    factor = planes.transpose(1, 2) @ z  # sum_i q_i exp(i k r_i), [n_graphs, n_x n_y, n_z]
    power = factor.real**2 + factor.imag**2
    return 0.5 * (kernel.flatten(1, 2) * power).sum(dim=(1, 2))


def _kernel_and_phases(graph: Data, layout: Layout, split: Splitting) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Weights 4 pi exp(-k^2/4 alpha^2) / (V k^2) [n_graphs, n_x, n_y, n_z] and exp(2 pi i n s) for each axis.

    k = 2 pi n inv(cell) with fixed integers n, hence differentiable in the cell. One half of k space (n_z >= 0) stands
    for both; all graphs share one box of integers, and each masks what lies outside its own sphere.
    """
    cell = graph[keys.CELL]
    inverse = torch.linalg.inv(cell)
    reach = split.k_cutoff * torch.linalg.vector_norm(cell.detach(), dim=-1) / (2 * math.pi)
    n_max = reach.amax(dim=0).floor().to(torch.int64).tolist()
    axes = [
        torch.arange(0 if axis == 2 else -n, n + 1, dtype=cell.dtype, device=cell.device)
        for axis, n in enumerate(n_max)
    ]
    integers = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    k = 2 * math.pi * torch.einsum("xyzi,gbi->gxyzb", integers, inverse)
    k_squared = (k * k).sum(dim=-1)
    inside = (k_squared.detach() <= split.k_cutoff**2) & (integers != 0).any(dim=-1)
    k_squared = torch.where(inside, k_squared, torch.ones_like(k_squared))
    volume = torch.linalg.det(cell).abs()
    kernel = 4 * math.pi * torch.exp(-k_squared / (4 * split.alpha**2)) / (k_squared * volume[:, None, None, None])
    both_halves = torch.where(axes[2] > 0, 2.0, 1.0).to(cell.dtype)
    kernel = torch.where(inside, kernel * both_halves, torch.zeros_like(kernel))
    scaled = torch.einsum("gna,gab->gnb", layout.pad(graph[keys.POSITIONS]), inverse)
    angles = [2 * math.pi * scaled[..., axis, None] * axes[axis] for axis in range(3)]
    return kernel, tuple(torch.complex(torch.cos(angle), torch.sin(angle)) for angle in angles)


def neutralise(raw: Tensor, graph: Data) -> Tensor:
    """Subtract the mean over each graph: charges [n_atoms] that sum to zero in each structure."""
    counts = torch.bincount(graph[keys.BATCH], minlength=n_graphs(graph)).to(raw.dtype)
    return raw - (sum_by_graph(raw, graph) / counts)[graph[keys.BATCH]]
