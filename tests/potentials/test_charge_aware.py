"""The charge-aware potential: parts, derivatives, files, composition, and Born charges against closed forms."""

import itertools

import numpy as np
import pytest
import torch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.errors import UserError
from mlffx.models import build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.born import born_charges, model_born_charges
from mlffx.potentials.build import build_potential, load_potential, save_potential
from mlffx.potentials.charge_aware import centre_offsets, with_charges
from mlffx.potentials.ionic_twin import IonicTwin
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.sum import SumPotential

LIH = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
CUBE = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])  # conventional cell in rows of the primitive one
CHARGES = {"Li": 0.6, "H": -0.6}
SPECS = {
    "none": {},
    "fixed": {"charges": CHARGES, "fit": True},
    "latent": {"charges": CHARGES},
    "latent_global": {"charges": CHARGES, "neutrality": "global"},
    "qeq": {"electronegativity": {"Li": -3.0, "H": 3.0}},
}
DEPENDENT = {"charge": 0.56, "transfer": -0.01, "repulsion": {"unlike": (300.0, 0.21), "anion": (60.0, 0.35)}}


def charge_aware(name: str, cutoff: float = 3.0):
    torch.manual_seed(0)
    spec = {"name": "painn", "species": [1, 3], "cutoff": cutoff, "n_hidden": 8, "n_interactions": 1}
    network = NetworkPotential(build_model(spec), torch.tensor([-1.0, -2.0]), 0.7, spec)
    return with_charges(network, {"name": name.split("_")[0], **SPECS[name]}, [1, 3]).set_precision(torch.float64)


def rattled(seed: int, matrix=CUBE, amplitude: float = 0.1):
    atoms = LIH.supercell(matrix)
    atoms.positions += amplitude * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


def batch(potential, *structures):
    return batch_graphs([build_graph(atoms, potential.cutoff) for atoms in structures])


def anions_around_a_cation(cutoff: float) -> torch.Tensor:
    offset = (LIH.scaled_positions[1] - LIH.scaled_positions[0]) @ LIH.cell
    vectors = np.array([offset + np.array(n) @ LIH.cell for n in itertools.product(range(-4, 5), repeat=3)])
    return torch.tensor(vectors[np.linalg.norm(vectors, axis=1) < cutoff])


@pytest.mark.parametrize("name", SPECS)
def test_energy_is_the_sum_of_its_parts(name):
    potential = charge_aware(name)
    graph = batch(potential, rattled(0), rattled(1, 2 * CUBE))
    out = potential(graph, edges_of(graph))
    assert set(out[keys.PARTS]) == {"short_range", "electrostatic"}
    torch.testing.assert_close(sum(out[keys.PARTS].values()), out[keys.ENERGY])
    assert out[keys.DIPOLE].shape == (2, 3) and out[keys.CHARGES].shape == (8 + 64,)


@pytest.mark.parametrize("name", ["fixed", "latent", "qeq"])
def test_forces_and_stress_by_finite_differences(name):
    potential = charge_aware(name)
    atoms = rattled(2)
    out = evaluate(potential, batch(potential, atoms), forces=True, stress=True)
    h = 1e-4

    def energy(moved):
        return evaluate(potential, batch(potential, moved), forces=False)[keys.ENERGY].item()

    def displaced(step):
        moved = atoms.copy()
        moved.positions[3, 1] += step
        return energy(moved)

    def strained(step, a, b):
        moved, strain = atoms.copy(), np.eye(3)
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        return energy(moved)

    assert out[keys.FORCES][3, 1].item() == pytest.approx(-(displaced(h) - displaced(-h)) / (2 * h), abs=2e-5)
    for a, b in ((0, 0), (0, 2)):
        slope = (strained(h, a, b) - strained(-h, a, b)) / (2 * h) / atoms.cell.volume
        assert out[keys.STRESS][0, a, b].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_through_a_file(name, tmp_path):
    potential = charge_aware(name)
    save_potential(potential, tmp_path / "best.ckpt")
    loaded = load_potential(tmp_path / "best.ckpt").set_precision(torch.float64)
    assert loaded.spec() == potential.spec()
    graph = batch(potential, rattled(3))
    torch.testing.assert_close(evaluate(loaded, graph)[keys.ENERGY], evaluate(potential, graph)[keys.ENERGY])


@pytest.mark.parametrize("name", ["fixed", "latent", "qeq"])
def test_every_parameter_learns_from_energies(name):
    potential = charge_aware(name)
    graph = batch(potential, rattled(4))
    evaluate(potential, graph, forces=False)[keys.ENERGY].sum().backward()
    silent = [n for n, p in potential.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not silent


def test_single_precision_networks_keep_charges_and_energies_double():
    potential = charge_aware("latent").set_precision(torch.float32)
    graph = batch(potential, rattled(5))
    out = evaluate(potential, graph)
    assert out[keys.ENERGY].dtype == out[keys.CHARGES].dtype == torch.float64
    assert potential.electrostatics.charges.dtype == torch.float64
    assert potential.electrostatics.head[0].weight.dtype == torch.float32


def test_as_the_difference_in_a_sum():
    base, delta = IonicTwin(), charge_aware("fixed")
    total = SumPotential({"base": base, "delta": delta})
    graph = batch(total, rattled(6))
    expected = sum(evaluate(p, batch(p, rattled(6)))[keys.FORCES] for p in (base, delta))
    out = evaluate(total, graph)
    torch.testing.assert_close(out[keys.FORCES], expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(out[keys.CHARGES].abs(), torch.full((8,), 0.6, dtype=torch.float64))
    with pytest.raises(UserError, match="2 terms"):
        born_charges(total, LIH)
    born = model_born_charges(total, LIH)[0]  # non-analytic parts add up: 0.52^2 + 0.6^2
    assert abs(born[0, 0, 0]) == pytest.approx(np.hypot(0.52, 0.6))


def test_charges_without_a_common_pattern_have_no_born_charges_together():
    """Along x and y different: a tetragonal cell in which two terms respond in different ways."""
    squeezed = Crystal(LIH.cell * [1.0, 1.0, 1.05], LIH.scaled_positions, LIH.numbers)
    with pytest.raises(UserError, match="no common pattern"):
        model_born_charges(SumPotential({"base": IonicTwin(), "delta": IonicTwin(**DEPENDENT)}), squeezed)


def test_no_electrostatics_is_the_short_range_potential():
    potential = charge_aware("none")
    graph = batch(potential, rattled(7))
    out = evaluate(potential, graph)
    alone = evaluate(potential.short_range, graph)
    torch.testing.assert_close(out[keys.FORCES], alone[keys.FORCES])
    with pytest.raises(UserError, match="no charges"):
        model_born_charges(potential, LIH)


def test_charges_that_need_features_refuse_a_potential_without():
    potential = with_charges(IonicTwin(), {"name": "latent", "n_features": 4}, [1, 3])
    with pytest.raises(UserError, match="read the features"):
        evaluate(potential, batch(potential, rattled(8)))


@pytest.mark.parametrize("options", [{}, DEPENDENT], ids=["fixed", "dependent"])
def test_born_charges_of_the_twin_are_those_of_its_polarisation(options):
    twin = IonicTwin(**options)
    exact = twin.born_charge(anions_around_a_cation(twin.cutoff)).numpy()
    found = born_charges(twin, LIH)
    lithium = int(np.flatnonzero(LIH.numbers == 3)[0])
    np.testing.assert_allclose(found["raw"][lithium], exact, atol=1e-9)
    assert found["violation"] < 1e-9
    assert found["monopole"] < 1e-9
    if options:  # the charge that responds is not the charge that sits there
        assert abs(exact[0, 0] - found["charges"][lithium]) > 0.05


def test_latent_born_charges_obey_the_sum_rule_and_follow_the_dipole():
    """Against finite differences of the dipole of a cluster that feels no images: the response within the cell."""
    potential = charge_aware("latent")
    found = born_charges(potential, LIH)
    assert found["violation"] < 1e-9
    assert found["monopole"] < 1e-9
    np.testing.assert_allclose(found["born"].sum(axis=0), 0, atol=1e-12)
    atoms = LIH.supercell(3 * CUBE)
    index = int(np.flatnonzero(atoms.arrays["site_type"] == 0)[0])
    centre = atoms.get_scaled_positions()[index]
    atoms.set_scaled_positions((atoms.get_scaled_positions() - centre + 0.5) % 1.0)  # response far from the boundary
    values = []
    for step in (1e-3, -1e-3):
        moved = atoms.copy()
        moved.positions[index, 2] += step
        values.append(evaluate(potential, batch(potential, moved), forces=False)[keys.DIPOLE][0, 2].item())
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(found["raw"][0, 2, 2], abs=1e-5)


def test_global_neutrality_breaks_the_sum_rule_and_says_so():
    found = born_charges(charge_aware("latent_global"), LIH)
    assert found["violation"] > 1e-4
    np.testing.assert_allclose(found["born"].sum(axis=0), 0, atol=1e-12)


def test_equilibrated_charges_have_no_born_charges():
    with pytest.raises(UserError, match="like a metal"):
        model_born_charges(charge_aware("qeq"), LIH)


def test_offsets_are_what_labels_and_charges_leave():
    potential = charge_aware("fixed")
    graphs = [build_graph(rattled(seed), potential.cutoff) for seed in range(3)]
    labels = np.array([-100.0, -100.1, -99.8])
    centre_offsets(potential, graphs, labels)
    energies = evaluate(potential, batch_graphs(graphs), forces=False)[keys.ENERGY].detach().numpy()
    assert (energies - labels).mean() == pytest.approx(0, abs=1e-9)


def test_spec_is_plain_data():
    spec = charge_aware("latent").spec()
    assert spec["kind"] == "charge_aware" and spec["electrostatics"]["n_features"] == 8
    assert build_potential(spec).spec() == spec
