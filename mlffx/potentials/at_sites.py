"""Many configurations of one supercell: what a force-constant expansion owes to the ideal sites is worked out once.

Molecular dynamics evaluates a potential 1e5 times on the same sites. There the basis functions of `ForceConstantModel`
need neither be looked up nor kept apart: their coefficients (and those of a readout that weighs them) are contracted
with them to one matrix and a few polynomials. Energies and forces are the same to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, edges_of, n_graphs
from mlffx.models.expansion import monomials
from mlffx.models.force_constants import ForceConstantModel
from mlffx.potentials.base import Potential
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential

NO_NEIGHBOURS = 0.1  # A; the sites say who the neighbours are


def at_sites(potential: Potential, graph: Data) -> Potential:
    """The same energies on copies of one supercell, faster where force constants are part of the potential.

    Args:
        potential: any potential.
        graph: one supercell at its ideal sites, a batch of one, with edges out to `potential.cutoff`.

    Returns:
        A potential for batches of supercells in this order of the atoms; without FEATURES of force constants.
    """
    if isinstance(potential, NetworkPotential):
        return _with_head(potential, graph, None, 0.0)
    if isinstance(potential, SumPotential):
        return SumPotential({name: at_sites(term, graph) for name, term in potential.terms.items()})  # type: ignore[arg-type]
    if isinstance(potential, ReadoutPotential):
        return _with_head(potential.base, graph, _Head(potential.species, potential.weights), float(potential.offset))
    return potential


class _Head:
    """Weights of features, a row for each species, [n_species, n_features]."""

    def __init__(self, species: list[int], weights: Tensor) -> None:
        self.species, self.weights = species, weights

    def part(self, start: int, size: int) -> _Head:
        return _Head(self.species, self.weights[:, start : start + size])

    def of(self, numbers: Tensor) -> Tensor:
        """Weights of each atom's species, [n_atoms, n_features]."""
        return self.weights[torch.tensor([self.species.index(int(z)) for z in numbers])]


def _with_head(potential: Potential, graph: Data, head: _Head | None, offset: float) -> Potential:
    """potential + sum_i (offset + head . features_i); the head goes to the terms whose features it weighs."""
    if isinstance(potential, NetworkPotential) and isinstance(potential.model, ForceConstantModel):
        return ExpansionAtSites(potential, graph, head, offset)
    if head is None:
        return potential
    if isinstance(potential, ReadoutPotential):
        both = _Head(head.species, head.weights + potential.weights)
        return _with_head(potential.base, graph, both, offset + float(potential.offset))
    if isinstance(potential, SumPotential):
        terms: dict[str, Potential] = {}
        start = 0
        for name, term in potential.terms.items():
            size = sum(term.feature_sizes())  # type: ignore[operator]
            if size:
                terms[name] = _with_head(term, graph, head.part(start, size), offset)  # type: ignore[arg-type]
                offset = 0.0
            else:
                terms[name] = at_sites(term, graph)  # type: ignore[arg-type]
            start += size
        return SumPotential(terms)
    readout = ReadoutPotential(potential, head.species, head.weights.shape[1])
    readout.weights.copy_(head.weights)
    readout.offset.fill_(offset)
    return readout.eval()


class ExpansionAtSites(Potential):
    """A force-constant model in one supercell: E = E0 + 1/2 u.H.u + sum_clusters K . monomials(M u).

    Args:
        fitted: the model with its coefficients and offsets.
        graph: one supercell at its ideal sites, with edges out to the cutoff of the model.
        head: further weights of the model's features.
        offset: further energy of each atom, eV.
    """

    hessian: Tensor
    constant: Tensor

    def __init__(self, fitted: NetworkPotential, graph: Data, head: _Head | None = None, offset: float = 0.0) -> None:
        super().__init__()
        self.cutoff = NO_NEIGHBOURS
        model = fitted.model
        assert isinstance(model, ForceConstantModel)
        with torch.no_grad():
            numbers = graph[keys.NUMBERS]
            coefficients = fitted.scale * model.coefficients.expand(len(numbers), -1)  # of each atom as the centre
            if head is not None:
                coefficients = coefficients + head.of(numbers)
            rest = torch.zeros(len(numbers), 3, dtype=torch.float64)
            member, edges = model.lookup(graph, edges_of(graph).within(model.cutoff), rest)
            self.register_buffer("hessian", _hessian(model, coefficients, member, edges))
            self.register_buffer("constant", (fitted.offsets[model.species_index(graph)] + offset).sum())
            clusters = _bonds(model, coefficients, member, edges) + _angles(model, coefficients, member, edges)
        self.clusters = torch.nn.ModuleList(clusters)

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        u = (graph[keys.POSITIONS] - graph[keys.SITES]).reshape(n_graphs(graph), -1)
        energy = self.constant + 0.5 * ((u @ self.hessian) * u).sum(dim=1)
        for cluster in self.clusters:
            energy = energy + cluster(u.reshape(len(u), -1, 3))
        return {keys.ENERGY: energy, keys.PARTS: {"force_constants": energy}}

    def set_precision(self, dtype: torch.dtype) -> Potential:
        """Stays in float64, as the model does."""
        return self


class _Clusters(torch.nn.Module):
    """sum_k K_k . monomials(M_k [u_s - u_r, ...]) over clusters of one kind.

    Args:
        centre: r, [n].
        others: s, [n, n_bonds].
        rotation: M, [n, 3, 3], applied to each bond.
        exponents: of the monomials, [m, 3 n_bonds].
        factors: K, [n, m].
    """

    centre: Tensor
    others: Tensor
    rotation: Tensor
    exponents: Tensor
    factors: Tensor

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, u: Tensor) -> Tensor:
        """Displacements [R, n_atoms, 3] -> energies [R]."""
        bonds = u[:, self.others] - u[:, self.centre].unsqueeze(2)  # [R, n, n_bonds, 3]
        x = torch.einsum("nab,rnkb->rnka", self.rotation, bonds)
        values = monomials(x.reshape(-1, self.exponents.shape[1]), self.exponents).reshape(len(u), *self.factors.shape)
        return (values * self.factors).sum(dim=(1, 2))


def _hessian(model: ForceConstantModel, coefficients: Tensor, member: Tensor, edges: Edges) -> Tensor:
    """[3 n, 3 n], from 1/2 u_r . Phi (u_s - u_r) of every edge."""
    harmonic, n = model.harmonic, len(coefficients)
    strengths = coefficients[edges.receiver, : harmonic.n] @ harmonic.combinations.T  # [n_edges, n_tensors]
    strengths = strengths * (model.orbit[member][:, None] == harmonic.owner[None])
    phi = torch.einsum("ep,pab->eab", strengths, harmonic.tensors)
    phi = torch.where(model.reversed[member][:, None, None], phi.transpose(1, 2), phi)
    rotation = model.rotation[member]
    phi = rotation @ phi @ rotation.transpose(1, 2)
    blocks = phi.new_zeros(n * n, 3, 3)
    blocks.index_add_(0, edges.receiver * n + edges.sender, phi)
    blocks.index_add_(0, edges.receiver * n + edges.receiver, -phi)
    matrix = blocks.reshape(n, n, 3, 3).permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return 0.5 * (matrix + matrix.T)


def _bonds(model: ForceConstantModel, coefficients: Tensor, member: Tensor, edges: Edges) -> list[_Clusters]:
    found, start = [], int(model.harmonic.n)
    bonds: Any = model.bonds
    for bond in bonds:
        mine = model.orbit[member] == bond.orbit
        sign = torch.where(model.reversed[member[mine]], -1.0, 1.0).to(torch.float64)
        own = coefficients[edges.receiver[mine], start : start + bond.n]
        found.append(
            _Clusters(
                centre=edges.receiver[mine],
                others=edges.sender[mine, None],
                rotation=sign[:, None, None] * model.rotation[member[mine]].transpose(1, 2),
                exponents=bond.exponents,
                factors=0.5 * own @ bond.polynomials,
            )
        )
        start += bond.n
    return found


def _angles(model: ForceConstantModel, coefficients: Tensor, member: Tensor, edges: Edges) -> list[_Clusters]:
    bonds: Any = model.bonds
    angles: Any = model.angles
    found, start = [], int(model.harmonic.n) + sum(bond.n for bond in bonds)
    edge_of = torch.full((len(coefficients), len(model.orbit)), -1, dtype=torch.int64)
    edge_of[edges.receiver, member] = torch.arange(len(member))
    for angle in angles:
        one, two = edge_of[:, angle.first], edge_of[:, angle.second]  # [n_atoms, n_angles]
        present = (one >= 0) & (two >= 0)
        first, second = one[present], two[present]
        own = coefficients[edges.receiver[first], start : start + angle.n]
        found.append(
            _Clusters(
                centre=edges.receiver[first],
                others=torch.stack([edges.sender[first], edges.sender[second]], dim=1),
                rotation=angle.rotations.expand(len(coefficients), -1, -1, -1)[present].transpose(1, 2),
                exponents=angle.exponents,
                factors=own @ angle.polynomials,
            )
        )
        start += angle.n
    return found
