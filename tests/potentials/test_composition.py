"""Sums, heads and calculators: what the parts give is what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.models.base import build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.build import load_potential, save_potential
from mlffx.potentials.calculator import CalculatorPotential
from mlffx.potentials.linear_fit import energy_design, fit_linear
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential


def network(seed, cutoff=3.0):
    torch.manual_seed(seed)
    spec = {"name": "painn", "species": [6], "cutoff": cutoff, "n_hidden": 8}
    return NetworkPotential(build_model(spec), torch.tensor([seed + 0.5]), 0.3, spec).set_precision(torch.float64)


@pytest.fixture
def graphs():
    rng = np.random.default_rng(1)
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56)
    found = []
    for amplitude in np.linspace(0.01, 0.12, 40):
        atoms = crystal.supercell([2, 2, 2])
        atoms.positions += amplitude * rng.normal(size=atoms.positions.shape)
        found.append(build_graph(atoms, 3.4))
    return found


def test_a_sum_adds_energies_forces_and_stress(graphs, tmp_path):
    batch = batch_graphs(graphs[:3])
    parts = {"base": network(0), "delta": network(1, cutoff=3.4)}
    total = SumPotential(parts)
    whole = evaluate(total, batch, stress=True)
    each = [evaluate(p, batch, stress=True) for p in parts.values()]
    for key in (keys.ENERGY, keys.FORCES, keys.STRESS):
        torch.testing.assert_close(whole[key], each[0][key] + each[1][key])
    torch.testing.assert_close(whole[keys.PARTS]["delta"], each[1][keys.ENERGY])
    save_potential(total, tmp_path / "sum.ckpt")
    again = evaluate(load_potential(tmp_path / "sum.ckpt"), batch)
    torch.testing.assert_close(again[keys.ENERGY], whole[keys.ENERGY])


def test_a_head_finds_a_difference_that_lies_in_the_features(graphs, tmp_path):
    base = network(0)
    head = ReadoutPotential(base, [6], base.model.n_features)
    truth = torch.linspace(-1, 1, base.model.n_features, dtype=torch.float64)
    with torch.no_grad():
        batch = batch_graphs(graphs)
        per_atom = head.describe(batch, edges_of(batch)) @ truth
    energies = per_atom.reshape(len(graphs), -1).sum(dim=1).numpy() + 16 * 2.0
    design = energy_design(head.describe, graphs)
    head.set_head(fit_linear(design, energies, np.full(len(graphs), 16.0), robust=False))
    out = evaluate(head, batch)
    delta = out[keys.PARTS]["delta"].detach().numpy()
    assert np.abs(delta - energies).max() < 1e-3 * np.ptp(energies)
    torch.testing.assert_close(out[keys.ENERGY], out[keys.PARTS]["base"] + out[keys.PARTS]["delta"])
    save_potential(head, tmp_path / "head.ckpt")
    torch.testing.assert_close(evaluate(load_potential(tmp_path / "head.ckpt"), batch)[keys.FORCES], out[keys.FORCES])


def test_posterior_draws_scatter_about_the_fit(graphs):
    base = network(0)
    head = ReadoutPotential(base, [6], base.model.n_features)
    design = energy_design(head.describe, graphs)
    noise = np.random.default_rng(2).normal(size=len(graphs))
    head.set_head(fit_linear(design, noise, np.full(len(graphs), 16.0)))
    first, again = head.posterior_samples(2, seed=3), head.posterior_samples(2, seed=3)
    assert torch.equal(first[0].weights, again[0].weights)
    assert not torch.equal(first[0].weights, first[1].weights)


def test_an_ase_calculator_is_a_potential():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=4)
    potential = CalculatorPotential.from_name("emt")
    out = evaluate(potential, batch_graphs([build_graph(atoms, potential.cutoff)] * 2))
    atoms.calc = EMT()
    np.testing.assert_allclose(out[keys.ENERGY].numpy(force=True), atoms.get_potential_energy())
    np.testing.assert_allclose(out[keys.FORCES][:4].numpy(force=True), atoms.get_forces(), atol=1e-12)
