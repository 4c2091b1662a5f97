"""Contracted to one supercell, a potential gives the same energies and forces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from ase import Atoms

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.models.base import build_model
from mlffx.potentials.at_sites import ExpansionAtSites, at_sites
from mlffx.potentials.base import Potential, evaluate
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential

DIAMOND = Crystal.from_prototype("diamond", ["C"], 3.56)
ROCKSALT = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)


def expansion(crystal: Crystal, seed: int = 0, **options: object) -> NetworkPotential:
    """Force constants with random coefficients and offsets."""
    spec = {"name": "force_constants", "species": sorted(set(crystal.numbers.tolist())), "crystal": crystal.to_arrays()}
    model = build_model(spec | {"cutoff": 3.2, "angle_orders": [3, 4]} | options)
    generator = torch.Generator().manual_seed(seed)
    model.coefficients.data.copy_(torch.randn(model.n_features, generator=generator, dtype=torch.float64))
    offsets = torch.randn(len(model.species), generator=generator, dtype=torch.float64)
    return NetworkPotential(model, offsets, 0.7, spec).eval()


def network(crystal: Crystal) -> NetworkPotential:
    torch.manual_seed(1)
    spec = {"name": "painn", "n_hidden": 6, "n_interactions": 1, "cutoff": 2.6}
    spec |= {"species": sorted(set(crystal.numbers.tolist())), "mean_neighbours": 8.0}
    return NetworkPotential(build_model(spec), torch.zeros(len(spec["species"])), 0.3, spec).set_precision(
        torch.float64
    )


def readout(base: Potential, species: Sequence[int], seed: int = 0) -> ReadoutPotential:
    found = ReadoutPotential(base, list(species), sum(base.feature_sizes()))
    found.weights.copy_(torch.randn(found.weights.shape, generator=torch.Generator().manual_seed(seed)))
    found.offset.fill_(0.4)
    return found.eval()


def both(potential: Potential, crystal: Crystal, repeat: int = 2) -> tuple[dict, dict, Potential]:
    """What the potential says of two displaced supercells, and what its contracted form says."""
    edge = np.linalg.norm(crystal.cell, axis=1)[0] * np.sqrt(2)
    matrix = repeat * np.rint(np.eye(3) * edge @ np.linalg.inv(crystal.cell)).astype(int)
    supercell = crystal.supercell(matrix)
    site_type = supercell.arrays["site_type"]
    rng = np.random.default_rng(0)
    moved: list[Atoms] = [supercell.copy() for _ in range(2)]
    for atoms in moved:
        atoms.positions = atoms.positions + 0.05 * rng.standard_normal((len(atoms), 3))
    graphs = [build_graph(a, potential.cutoff, supercell.positions, site_type) for a in moved]
    still = batch_graphs([build_graph(supercell, potential.cutoff, supercell.positions, site_type)])
    contracted = at_sites(potential, still)
    fewer = [build_graph(a, contracted.cutoff, supercell.positions, site_type) for a in moved]
    return evaluate(potential, batch_graphs(graphs)), evaluate(contracted, batch_graphs(fewer)), contracted


CASES = {
    "force constants": (lambda: expansion(DIAMOND), DIAMOND),
    "two species": (lambda: expansion(ROCKSALT, angle_orders=[3]), ROCKSALT),
    "sum": (lambda: SumPotential({"linear": expansion(DIAMOND), "network": network(DIAMOND)}), DIAMOND),
    "readout of a sum": (
        lambda: readout(SumPotential({"linear": expansion(DIAMOND), "network": network(DIAMOND)}), [6]),
        DIAMOND,
    ),
    "readout, two species": (
        lambda: readout(SumPotential({"network": network(ROCKSALT), "linear": expansion(ROCKSALT)}), [1, 3]),
        ROCKSALT,
    ),
    "ladder of readouts": (lambda: readout(readout(expansion(DIAMOND), [6]), [6], seed=3), DIAMOND),
    "base and delta": (
        lambda: SumPotential({"base": network(DIAMOND), "delta": expansion(DIAMOND, angle_orders=[])}),
        DIAMOND,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_energies_and_forces_are_the_same(case: str) -> None:
    build, crystal = CASES[case]
    full, fast, contracted = both(build(), crystal)
    assert torch.allclose(full[keys.ENERGY], fast[keys.ENERGY], rtol=0, atol=1e-9)
    assert torch.allclose(full[keys.FORCES], fast[keys.FORCES], rtol=0, atol=1e-9)
    assert full[keys.FORCES].abs().max() > 0.01
    assert any(isinstance(m, ExpansionAtSites) for m in contracted.modules())


def test_several_images_of_one_neighbour_in_a_small_cell() -> None:
    full, fast, _ = both(expansion(DIAMOND, cutoff=4.2), DIAMOND, repeat=1)
    assert torch.allclose(full[keys.FORCES], fast[keys.FORCES], rtol=0, atol=1e-9)


def test_a_potential_without_force_constants_stays_as_it_is() -> None:
    potential = network(DIAMOND)
    assert both(potential, DIAMOND)[2] is potential
