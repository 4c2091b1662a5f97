"""Force constants as a model: a polynomial of the displacements with every symmetry of the crystal.

    E = 1/2 sum_(i<-j) u_i . Phi_ij (u_j - u_i) + 1/2 sum_bonds P(u_j - u_i) + sum_angles Q(u_j - u_i, u_k - u_i)

Second order (Phi) for all pairs within `cutoff`, third and fourth (P, Q) for bonds within `anharmonic_cutoff`. The
translational sum rule holds by construction. This is the smoothest potential the labels allow, and the judge of every
network. Theory: Leibfried and Ludwig, Solid State Phys. 12, 275 (1961); invariants in `mlffx.models.clusters`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import Edges
from mlffx.errors import UserError
from mlffx.models import clusters
from mlffx.models.base import MODELS, AtomicModel
from mlffx.models.expansion import Angles, Bonds, Harmonic, constant
from mlffx.models.radial import segment_sum

SAME_PAIR = 0.3  # A; strain may move the site of a neighbour by this much, which is far less than a bond
MARGIN = 1.2  # A; neighbours may move apart by this much before the neighbour list loses their bond


@MODELS.register("force_constants")
class ForceConstantModel(AtomicModel):
    """Taylor expansion about the ideal sites; its features are the basis functions, its read-out their coefficients.

    Not rotationally invariant (no Taylor expansion about a lattice is): it knows the orientation of its crystal.

    Args:
        species: atomic numbers.
        crystal: the ideal crystal, as a `Crystal` or as a mapping with its three arrays.
        cutoff: range of the second order, A; pairs beyond half the training cell are told apart by their images only.
        anharmonic_cutoff: range of third and fourth order, A; None takes the nearest-neighbour shell.
        orders: anharmonic orders of single bonds.
        angle_orders: anharmonic orders in two bonds of one atom together; the fourth has many parameters, which only
            labels with forces determine.
    """

    needs_sites = True
    only_sums = True  # a rigid translation costs nothing in u_i . Phi_ij (u_j - u_i) summed over all i
    orbit: Tensor
    centre: Tensor
    neighbour: Tensor
    translation: Tensor
    rotation: Tensor
    reversed: Tensor
    spread: Tensor
    stretch: Tensor | None  # of every pair in a crystal of another lattice constant (`scale_lattice`), A

    def __init__(
        self,
        species: Sequence[int],
        crystal: Crystal | Mapping[str, Any] | None = None,
        cutoff: float = 4.2,
        anharmonic_cutoff: float | None = None,
        orders: Sequence[int] = (3, 4),
        angle_orders: Sequence[int] | None = None,
    ) -> None:
        super().__init__(species, cutoff + MARGIN)
        if crystal is None:
            raise UserError("force constants need the ideal crystal", "declare data.crystal", "model")
        self.crystal = Crystal.from_arrays(crystal)
        self.range = float(cutoff)
        symmetry = clusters.Symmetry.of(self.crystal)
        orbits = clusters.pair_orbits(self.crystal, cutoff, symmetry)
        if not orbits:
            raise UserError(f"no neighbours within {cutoff:g} A", "take a longer cutoff", "model.cutoff")
        table = clusters.PairTable.of(orbits)
        self._constants(
            orbit=table.orbit,
            centre=table.centre,
            neighbour=table.neighbour,
            translation=table.vectors,
            rotation=table.rotations,
            reversed=table.reversed,
        )
        self.harmonic = Harmonic(self.crystal, orbits, table)
        near = anharmonic_cutoff or orbits[0].length + 0.1
        self.bonds = nn.ModuleList(
            Bonds(k, orbit, order) for k, orbit in enumerate(orbits) if orbit.length < near for order in orders
        )
        bonds = np.flatnonzero([orbits[k].length < near for k in table.orbit])
        angles = clusters.angle_orbits(table, bonds, symmetry) if angle_orders else []
        self.angles = nn.ModuleList(Angles(orbit, order) for orbit in angles for order in angle_orders or ())
        self.n_features = self.harmonic.n + sum(int(m.n) for m in [*self.bonds, *self.angles])  # type: ignore[arg-type]
        self.coefficients = nn.Parameter(torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(self.n_features, self.n_features, dtype=torch.float64))
        self.register_buffer("stretch", None, persistent=False)

    @property
    def orders(self) -> np.ndarray:
        """Which order of the expansion each coefficient belongs to, [n_features], numbered from 0."""
        parts = [np.zeros(self.harmonic.n, dtype=int)]
        for polynomial in [*self.bonds, *self.angles]:
            parts.append(np.full(polynomial.n, int(polynomial.exponents[0].sum()) - 2))  # type: ignore[arg-type,operator,index]
        return np.unique(np.concatenate(parts), return_inverse=True)[1]

    def set_coefficients(self, coefficients: np.ndarray, spread: np.ndarray) -> None:
        """Store a least-squares solution and the square root of its covariance."""
        self.coefficients.data.copy_(torch.as_tensor(coefficients))
        self.spread.copy_(torch.as_tensor(spread))

    def posterior_draws(self, n: int, seed: int) -> list[ForceConstantModel]:
        """Copies with coefficients drawn from the posterior; empty if the model was not fitted by least squares."""
        if not bool(self.spread.any()):
            return []
        generator = torch.Generator().manual_seed(seed)
        draws = []
        for _ in range(n):
            draw = copy.deepcopy(self)
            normal = torch.randn(self.n_features, generator=generator, dtype=torch.float64)
            draw.coefficients.data += self.spread @ normal
            draws.append(draw)
        return draws

    def scale_lattice(self, scale: float) -> None:
        """Expect the crystal with its lattice constant times `scale`: bonds are stretched from where they were fitted.

        The force constants change through third and fourth order: Phi'(x) = P''(x0 + x) with x0 = (scale - 1) R, the
        expansion of Leibfried and Ludwig about another lattice constant. The sites stay at rest where symmetry fixes
        them. Energies lack the elastic energy of the second order: compare those of one lattice constant only.

        Raises:
            UserError: without third or fourth order, for then nothing of the model depends on the volume.
        """
        if not (len(self.bonds) or len(self.angles)):
            raise UserError(
                "force constants of second order alone know no other volume", "fit third order too", "model.orders"
            )
        self.crystal = self.crystal.scaled(scale)
        self.stretch = (scale - 1) * self.translation

    def set_precision(self, dtype: torch.dtype) -> None:
        """Stays in float64: the displacements are small differences of positions."""

    def _constants(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            constant(self, name, array)

    @property
    def neighbours_per_site(self) -> np.ndarray:
        """Sites within the range of each basis atom."""
        return np.bincount(self.centre.cpu().numpy(), minlength=self.crystal.n_basis)

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        if keys.SITES not in graph:
            raise UserError("force constants need the ideal sites of the atoms", "build the graph with Crystal.match")
        u = graph[keys.POSITIONS] - graph[keys.SITES]
        u = u.to(torch.float64)
        member, edges = self.lookup(graph, edges, u)
        rotation = self.rotation[member]
        relative = torch.einsum("eba,eb->ea", rotation, u[edges.sender] - u[edges.receiver])
        absolute = torch.einsum("eba,eb->ea", rotation, u[edges.receiver])
        swapped = self.reversed[member].unsqueeze(-1)
        orbit = self.orbit[member]
        features = [segment_sum(self.harmonic(absolute, relative, swapped, orbit), edges.receiver, len(u))]
        difference = u[edges.sender] - u[edges.receiver]
        if self.stretch is not None:
            difference = difference + self.stretch[member]
            relative = torch.einsum("eba,eb->ea", rotation, difference)
        along = torch.where(swapped, -relative, relative)
        for bond in self.bonds:
            mine = orbit == bond.orbit
            features.append(segment_sum(bond(along[mine]), edges.receiver[mine], len(u)))
        if len(self.angles):
            bond_of = torch.full((len(u), len(self.orbit)), -1, dtype=torch.int64, device=u.device)
            bond_of[edges.receiver, member] = torch.arange(len(member), device=u.device)
            features += [angle(difference, bond_of, edges.receiver) for angle in self.angles]
        return torch.cat(features, dim=-1)

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        return features @ self.coefficients

    def lookup(self, graph: Data, edges: Edges, u: Tensor) -> tuple[Tensor, Edges]:
        """Row of the pair table of every edge that is in it, and those edges."""
        ideal = (edges.vectors - (u[edges.sender] - u[edges.receiver])).detach()
        kept = (torch.linalg.vector_norm(ideal, dim=-1) < self.range + SAME_PAIR).nonzero().squeeze(-1)
        centre, neighbour = graph[keys.SITE_TYPE][edges.receiver[kept]], graph[keys.SITE_TYPE][edges.sender[kept]]
        # Compare in Cartesian coordinates of the unstrained crystal; a per cent of strain is far below a bond length,
        # but may carry a whole shell across the range.
        distance = torch.cdist(ideal[kept], self.translation)
        distance += 1e3 * ((centre[:, None] != self.centre) | (neighbour[:, None] != self.neighbour))
        nearest, member = distance.min(dim=1)
        known = nearest < SAME_PAIR
        kept, member = kept[known], member[known]
        edges = Edges(edges.sender[kept], edges.receiver[kept], edges.vectors[kept], edges.lengths[kept])
        expected = torch.as_tensor(self.neighbours_per_site, device=u.device)[graph[keys.SITE_TYPE]].sum()
        if len(member) != int(expected):
            raise UserError(
                f"{len(member)} of {int(expected)} neighbours of the ideal crystal found",
                "the structure is strained or displaced too far for an expansion about this crystal",
                "model=force_constants",
            )
        return member, edges
