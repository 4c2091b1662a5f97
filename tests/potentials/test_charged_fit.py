"""From energies alone to charges and LO-TO, judged by the ionic twin, whose phonons are exact."""

import numpy as np
import pytest
import torch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.errors import UserError
from mlffx.lattice import Nac, Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.models import build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.born import model_born_charges
from mlffx.potentials.build import build_potential
from mlffx.potentials.charge_aware import with_charges
from mlffx.potentials.charged_fit import fit_charged
from mlffx.potentials.ionic_twin import IonicTwin
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.sum import SumPotential

LIH = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
CELL = conventional_matrix(LIH, 2)
SHORT = 3.6  # A, third neighbours
RIGID = {"charge": 0.52, "repulsion": {"unlike": (75.0, 0.33), "anion": (30.0, 0.4)}}
TRUNCATED = {"name": "force_constants", "species": [1, 3], "crystal": LIH.to_arrays(), "cutoff": SHORT}
TRUNCATED |= {"anharmonic_cutoff": 3.0}


def frames(matrix, n: int, amplitude: float, seed: int, cutoff: float) -> list:
    """Supercells with independent normal displacements, A."""
    rng = np.random.default_rng(seed)
    ideal = LIH.supercell(matrix)
    graphs = []
    for _ in range(n):
        atoms = ideal.copy()
        moves = amplitude * rng.normal(size=ideal.positions.shape)
        atoms.positions += moves - moves.mean(axis=0)
        graphs.append(build_graph(atoms, cutoff, sites=ideal.positions, site_type=ideal.arrays["site_type"]))
    return graphs


def energies(potential, graphs) -> np.ndarray:
    batch = batch_graphs(graphs)
    return evaluate(potential, batch, forces=False)[keys.ENERGY].detach().numpy()


def fitted(truth, spec: dict):
    model = build_model(TRUNCATED)
    network = NetworkPotential(model, torch.zeros(2), 1.0, TRUNCATED)
    potential = with_charges(network, spec, [1, 3])
    graphs = frames(CELL, 60, 0.02, 0, potential.cutoff)
    found = fit_charged(potential, graphs, energies(truth, graphs), iterations=20)
    return potential, found


def frequencies(potential, charged: bool) -> dict:
    nac = Nac(*model_born_charges(potential, LIH)[:2], "model") if charged else None
    return labelled_frequencies(Phonons(autodiff(potential, LIH, CELL), nac=nac))


@pytest.fixture(scope="module")
def rigid():
    truth = IonicTwin(**RIGID)
    return truth, *fitted(truth, {"name": "fixed", "charges": {"Li": 0.3, "H": -0.3}, "fit": True})


@pytest.fixture(scope="module")
def short():
    return fitted(IonicTwin(**RIGID), {"name": "none"})[0]


def test_energies_alone_give_charges_and_the_splitting(rigid, short):
    truth, potential, _ = rigid
    born, dielectric, violation = model_born_charges(potential, LIH)
    lithium = int(np.flatnonzero(LIH.numbers == 3)[0])
    assert born[lithium, 0, 0] == pytest.approx(RIGID["charge"], rel=0.01)
    assert violation < 1e-12
    np.testing.assert_array_equal(dielectric, np.eye(3))
    exact, found, truncated = frequencies(truth, True), frequencies(potential, True), frequencies(short, False)
    worst_truncated = 0.0
    for label in ("GAMMA", "X", "L"):
        for branch, value in exact[label].items():
            assert found[label][branch] == pytest.approx(value, rel=0.01), (label, branch)
            worst_truncated = max(worst_truncated, abs(truncated[label].get(branch, 0.0) / value - 1))
    assert "LO" not in truncated["GAMMA"]  # no charges, no splitting
    assert worst_truncated > 0.05


def test_a_larger_supercell_than_trained_on(rigid, short):
    truth, potential, found = rigid
    graphs = frames(conventional_matrix(LIH, 3), 12, 0.02, 5, potential.cutoff)
    exact = energies(truth, graphs)
    spread = exact.std()
    error, truncated = ((energies(p, graphs) - exact).std() / spread for p in (potential, short))
    assert error < 0.05
    assert truncated > 4 * error
    assert found.projected_error < 0.2 * found.initial_error


def test_polarisation_of_ions_whose_charge_flows():
    """Static charge 0.55 e, Born charge 0.62 e: the energies know the second one."""
    options = RIGID | {"charge": 0.6, "transfer": -0.01, "transfer_length": 0.6}
    options["repulsion"] = {"unlike": (52.0, 0.33), "anion": (30.0, 0.4)}
    truth = IonicTwin(**options)
    spec = {"name": "latent", "charges": {"Li": 0.4, "H": -0.4}, "n_hidden": 0, "sigma": 0.0}
    potential, _ = fitted(truth, spec)
    exact, found = (model_born_charges(p, LIH)[0] for p in (truth, potential))
    np.testing.assert_allclose(np.abs(found), np.abs(exact), atol=0.03 * np.abs(exact).max())


def test_draws_from_the_posterior_move_charges_with_force_constants():
    """Labels with 2 meV of noise: five repetitions scatter the charge by 0.015 e, and one posterior has to know it."""
    truth = IonicTwin(**RIGID)
    network = NetworkPotential(build_model(TRUNCATED), torch.zeros(2), 1.0, TRUNCATED)
    potential = with_charges(network, {"name": "fixed", "charges": {"Li": 0.5, "H": -0.5}, "fit": True}, [1, 3])
    graphs = frames(CELL, 60, 0.03, 0, potential.cutoff)
    assert potential.posterior_samples(3, 0) == []
    labels = energies(truth, graphs) + 0.002 * np.random.default_rng(0).normal(size=len(graphs))
    fit_charged(potential, graphs, labels, iterations=8)
    samples = potential.posterior_samples(24, 0)
    charges = [float(s.electrostatics.charges.detach().diff()) / 2 for s in samples]
    assert 0.007 < np.std(charges, ddof=1) < 0.03
    drawn = np.array([energies(s, graphs[-4:]) for s in samples])
    spread = (drawn[:, 1:] - drawn[:, :1]).std(axis=0)
    assert (spread > 1e-4).all() and (spread < 0.01).all()  # charges and force constants move so as to fit the labels


@pytest.mark.parametrize("charge", [0.42, 0.60])
def test_a_difference_of_levels_weakens_or_strengthens_the_charges(charge):
    """No real charge has a negative square: the difference carries a factor of either sign."""
    low, high = IonicTwin(**RIGID), IonicTwin(**RIGID | {"charge": charge})
    network = NetworkPotential(build_model(TRUNCATED), torch.zeros(2), 1.0, TRUNCATED)
    delta = with_charges(network, {"name": "fixed", "charges": {"Li": 0.5, "H": -0.5}, "fit": True}, [1, 3])
    graphs = frames(CELL, 60, 0.02, 0, delta.cutoff)
    rng = np.random.default_rng(0)
    labels = energies(high, graphs) - energies(low, graphs) + 1e-4 * rng.normal(size=len(graphs))
    fit_charged(delta, graphs, labels, iterations=8, difference=True)
    assert np.sign(float(delta.strength)) == np.sign(charge - 0.52)
    total = SumPotential({"base": low, "delta": delta})
    assert np.abs(model_born_charges(total, LIH)[0]).max() == pytest.approx(charge, rel=0.03)
    samples = [delta, *delta.posterior_samples(24, 0)]
    centre, *drawn = [float(s.strength * s.electrostatics.charges.detach().diff() ** 2) / 4 for s in samples]
    sigma = float(np.std(drawn, ddof=1))
    assert 1e-4 < sigma < 0.01 and abs(np.mean(drawn) - centre) < sigma  # e^2
    assert abs(centre - (charge**2 - 0.52**2)) < 3 * sigma


def test_potentials_saved_without_a_strength_can_be_read(rigid):
    _, potential, _ = rigid
    state = potential.state_dict()
    del state["strength"]
    keep = [k for k in range(len(state["spread"])) if k != len(state["spread"]) - 3]  # two charges after the strength
    old = state["spread"][keep][:, keep]
    state["spread"] = old
    copy = build_potential(potential.spec())
    copy.load_state_dict(state)
    assert float(copy.strength) == 1.0
    torch.testing.assert_close(copy.spread[keep][:, : len(old)], old)
    assert not copy.spread[-3].any()


def test_charges_are_not_read_off_noise():
    network = NetworkPotential(build_model(TRUNCATED), torch.zeros(2), 1.0, TRUNCATED)
    delta = with_charges(network, {"name": "fixed", "charges": {"Li": 0.5, "H": -0.5}, "fit": True}, [1, 3])
    graphs = frames(CELL, 60, 0.02, 0, delta.cutoff)
    fit_charged(delta, graphs, 0.01 * np.random.default_rng(1).normal(size=60), iterations=8, difference=True)
    assert abs(float(delta.strength)) * 0.25 < 0.01  # e^2


def test_a_difference_cannot_take_off_more_than_there_is():
    network = NetworkPotential(build_model(TRUNCATED), torch.zeros(2), 1.0, TRUNCATED)
    delta = with_charges(network, {"name": "fixed", "charges": {"Li": 0.6, "H": -0.6}}, [1, 3])
    delta.strength.fill_(-1.0)
    with pytest.raises(UserError, match="negative square"):
        model_born_charges(SumPotential({"base": IonicTwin(**RIGID), "delta": delta}), LIH)


def test_a_potential_that_is_not_linear_is_refused():
    spec = {"name": "painn", "species": [1, 3], "n_hidden": 4}
    network = NetworkPotential(build_model(spec), torch.zeros(2), 1.0, spec)
    potential = with_charges(network, {"name": "none"}, [1, 3])
    with pytest.raises(UserError, match="linear"):
        fit_charged(potential, frames(CELL, 2, 0.02, 0, 4.0), np.zeros(2))


def test_the_fit_is_stored_in_the_potential(rigid):
    truth, potential, found = rigid
    graphs = frames(CELL, 60, 0.02, 0, potential.cutoff)
    batch = batch_graphs(graphs)
    errors = potential(batch, edges_of(batch))[keys.ENERGY].detach().numpy() - energies(truth, graphs)
    assert np.abs(errors).max() < 10 * np.sqrt(np.mean(found.linear.leave_one_out**2))
    assert np.sqrt(np.mean(errors**2)) < np.sqrt(np.mean(found.linear.leave_one_out**2)) + 1e-6
