"""A linear head on the features of a base with two species: shared weights, free translations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.lattice import conventional_matrix
from mlffx.models.base import build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.linear_fit import LinearFit, energy_design
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential

CRYSTAL = Crystal.from_prototype("zincblende", ["B", "N"], 3.6157)


@pytest.fixture
def head() -> ReadoutPotential:
    """Random weights on force constants and a network."""
    torch.manual_seed(0)
    linear = {"name": "force_constants", "cutoff": 3.0, "angle_orders": [3], "crystal": CRYSTAL.to_arrays()}
    painn = {"name": "painn", "n_hidden": 6, "n_interactions": 1, "cutoff": 2.0, "mean_neighbours": 4.0}
    terms = {}
    for name, spec in (("linear", linear), ("network", painn)):
        model = build_model(spec | {"species": [5, 7]})
        terms[name] = NetworkPotential(model, torch.zeros(2), 1.0, spec).set_precision(torch.float64)
    base = SumPotential(terms)
    found = ReadoutPotential(base, [5, 7], sum(base.feature_sizes()))
    n = len(found.spread)
    draw = np.random.default_rng(1).normal(size=n)
    found.set_head(LinearFit(draw, 0.1, 0.01 * np.eye(n), np.zeros(1), np.ones(1), 0.0, float(n), np.zeros(n)))
    return found.eval()


def displaced(cutoff: float):
    atoms = CRYSTAL.supercell(conventional_matrix(CRYSTAL, 1))
    sites, site_type = atoms.positions.copy(), atoms.arrays["site_type"]
    atoms.positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return build_graph(atoms, cutoff, sites=sites, site_type=site_type)


def test_force_constants_have_one_weight_for_all_species_and_networks_one_each(head):
    linear, network = head.feature_sizes()
    assert len(head.spread) == linear + 2 * network
    torch.testing.assert_close(head.weights[0, :linear], head.weights[1, :linear])
    assert (head.weights[0, linear:] != head.weights[1, linear:]).all()
    np.testing.assert_array_equal(np.bincount(head.blocks()), [linear, 2 * network])


def test_a_rigid_translation_costs_nothing(head):
    graphs = batch_graphs([displaced(head.cutoff)])
    for potential in (head, *head.posterior_samples(2, seed=3)):
        forces = evaluate(potential, graphs)[keys.FORCES]
        assert float(forces.abs().max()) > 0.1
        assert float(forces.sum(dim=0).abs().max()) < 1e-10


def test_the_design_is_what_the_head_multiplies(head):
    graph = displaced(head.cutoff)
    parts = evaluate(head, batch_graphs([graph]), forces=False)[keys.PARTS]
    (row,) = energy_design(head.describe, [graph])
    coefficients = np.zeros(len(row))
    coefficients[head.coefficient] = head.weights.numpy()
    assert parts["delta"].item() == pytest.approx(row @ coefficients + 0.1 * 8, abs=1e-10)
