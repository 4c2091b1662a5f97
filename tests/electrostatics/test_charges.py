"""Charge models: neutrality, limits that are known, options that are wrong."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph, edges_of, sum_by_graph
from mlffx.electrostatics import ELECTROSTATICS, Splitting, build_electrostatics, ewald_energy
from mlffx.electrostatics.padding import layout_of
from mlffx.errors import UserError
from mlffx.units import COULOMB_EV_A

N_FEATURES = 5


def lih(seed: int, repeat=(1, 1, 1)) -> Atoms:
    atoms = bulk("LiH", "rocksalt", a=4.0, cubic=True) * repeat
    atoms.positions += 0.1 * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


@pytest.fixture
def graph():
    return batch_graphs([build_graph(lih(0), 3.0), build_graph(lih(1, (2, 1, 1)), 3.0)])


def features_of(graph) -> torch.Tensor:
    """Smooth stand-ins for a network's features: sums over neighbours of Gaussians that vanish at the cutoff."""
    edges = edges_of(graph)
    centres = torch.linspace(1.0, 3.0, N_FEATURES, dtype=torch.float64)
    reach = (1 - (edges.lengths / 3.0) ** 2) ** 3
    values = reach.unsqueeze(-1) * torch.exp(-4 * (edges.lengths.unsqueeze(-1) - centres) ** 2)
    out = values.new_zeros((len(graph[keys.NUMBERS]), N_FEATURES)).index_add(0, edges.receiver, values)
    return out


def build(name: str, **options):
    torch.manual_seed(0)
    spec = {"name": name, **options}
    return build_electrostatics(spec, species=[3, 1], n_features=N_FEATURES, cutoff=3.0).double()


MODELS = [
    ("none", {}),
    ("fixed", {"charges": {"Li": 1.0, "H": -1.0}}),
    ("fixed", {"charges": {"Li": 0.7, "H": -0.2}, "fit": True}),
    ("latent", {"charges": {"Li": 0.7, "H": -0.2}}),
    ("latent", {"sigma": 0.0}),
    ("latent", {"charges": {"Li": 0.7, "H": -0.2}, "neutrality": "global"}),
    ("qeq", {"electronegativity": {"Li": -3.0, "H": 3.0}}),
]


def test_every_charge_model_is_tested_here():
    assert {name for name, _ in MODELS} == set(ELECTROSTATICS)


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_neutral_batched_and_extensive(name, options, graph):
    model = build(name, **options)
    out = model(graph, edges_of(graph), features_of(graph))
    assert out[keys.CHARGES].dtype == out[keys.ENERGY].dtype == torch.float64
    assert sum_by_graph(out[keys.CHARGES], graph).abs().max() < 1e-12
    for index, atoms in enumerate((lih(0), lih(1, (2, 1, 1)))):
        alone = batch_graphs([build_graph(atoms, 3.0)])
        single = model(alone, edges_of(alone), features_of(alone))
        torch.testing.assert_close(single[keys.ENERGY][0], out[keys.ENERGY][index], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            single[keys.CHARGES], out[keys.CHARGES][graph[keys.BATCH] == index], rtol=1e-5, atol=1e-6
        )
    doubled = batch_graphs([build_graph(lih(0).repeat((1, 2, 1)), 3.0)])
    twice = model(doubled, edges_of(doubled), features_of(doubled))
    torch.testing.assert_close(twice[keys.ENERGY][0], 2 * out[keys.ENERGY][0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), MODELS[2:])
def test_every_parameter_has_a_gradient(name, options, graph):
    model = build(name, **options)
    model(graph, edges_of(graph), features_of(graph))[keys.ENERGY].sum().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, label


def test_born_charges_over_the_root_of_epsilon(graph):
    model = build("fixed", charges={"Li": 1.0, "H": -1.0}, epsilon_inf=4.0)
    charges = model(graph, edges_of(graph), None)[keys.CHARGES]
    torch.testing.assert_close(charges.abs(), torch.full_like(charges, 0.5))


def test_point_and_gaussian_latent_charges_differ_by_a_short_range_energy():
    """erfc(r / 2 sigma) / r summed within 9 sigma is the whole difference."""
    graph = batch_graphs([build_graph(lih(0, (2, 2, 2)), 5.0)])
    edges, features = edges_of(graph), features_of(graph)
    smeared, point = build("latent", sigma=0.5), build("latent", sigma=0.0)
    point.load_state_dict(smeared.state_dict())
    a, b = smeared(graph, edges, features), point(graph, edges, features)
    q = a[keys.CHARGES]
    torch.testing.assert_close(q, b[keys.CHARGES])
    pairs = q[edges.sender] * q[edges.receiver] * torch.erfc(edges.lengths / 1.0) / edges.lengths
    torch.testing.assert_close(
        b[keys.ENERGY] - a[keys.ENERGY], COULOMB_EV_A * 0.5 * pairs.sum(0, keepdim=True), rtol=1e-6, atol=1e-8
    )


def test_equilibrated_charges_are_the_constrained_minimum(graph):
    model = build("qeq", electronegativity={"Li": -3.0, "H": 3.0})
    features = features_of(graph)
    out = model(graph, edges_of(graph), features)
    charges = out[keys.CHARGES].detach()
    raw = model.per_species[model.species_index(graph)] + model.head(features)
    hardness = torch.nn.functional.softplus(raw[:, 1])
    self_energy = COULOMB_EV_A * model.split.alpha / np.pi**0.5

    def cost(q):
        local = raw[:, 0] * q + 0.5 * hardness * q**2 + self_energy * q**2
        return sum_by_graph(local, graph) + ewald_energy(q, graph, edges_of(graph), model.split)

    torch.testing.assert_close(cost(charges), out[keys.ENERGY], rtol=1e-9, atol=1e-9)
    leaf = charges.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(cost(leaf).sum(), leaf)
    padded = layout_of(graph).pad(slope)
    assert (padded[0, :8] - padded[0, :8].mean()).abs().max() < 1e-8  # equal chemical potentials
    assert (padded[1] - padded[1].mean()).abs().max() < 1e-8
    assert charges[graph[keys.NUMBERS] == 3].mean() > 0.1


def test_two_equal_atoms_share_nothing_and_unequal_ones_follow_the_two_atom_formula():
    """q = (chi_2 - chi_1) / (eta_1 + eta_2 + J_11 + J_22 - 2 J_12), images negligible in a large box."""
    atoms = Atoms("LiH", positions=[[0, 0, 0], [1.6, 0, 0]], cell=[30.0] * 3, pbc=True)
    graph = batch_graphs([build_graph(atoms, 3.0)])
    model = build("qeq", electronegativity={"Li": -2.0, "H": 1.0}, hardness=6.0, sigma=1.0)
    with torch.no_grad():
        model.head[-1].weight.zero_()
        model.head[-1].bias.zero_()
    charge = model(graph, edges_of(graph), features_of(graph))[keys.CHARGES][0].item()
    same = COULOMB_EV_A / np.pi**0.5
    cross = COULOMB_EV_A * torch.erf(torch.tensor(1.6 / 2)).item() / 1.6
    assert charge == pytest.approx(3.0 / (2 * 6.0 + 2 * same - 2 * cross), rel=1e-3)


@pytest.mark.parametrize("name", ["fixed", "latent", "qeq"])
def test_second_derivatives(name):
    """Hessian by automatic differentiation against finite differences of forces."""
    options = {"fixed": {"charges": {"Li": 1, "H": -1}}, "latent": {"charges": {"Li": 0.8, "H": -0.8}}, "qeq": {}}[name]
    model = build(name, **options)
    graph = batch_graphs([build_graph(lih(2), 3.0)])
    start = graph[keys.POSITIONS].clone()
    forward = torch.zeros_like(start)
    forward[1, 2] = 1.0

    def slope(positions):
        graph[keys.POSITIONS] = positions
        energy = model(graph, edges_of(graph), features_of(graph))[keys.ENERGY].sum()
        return torch.autograd.grad(energy, positions, create_graph=True)[0]

    h = 1e-4
    leaf = start.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad((slope(leaf) * forward).sum(), leaf)
    moved = [slope((start + sign * h * forward).requires_grad_(True)).detach() for sign in (1, -1)]
    torch.testing.assert_close(exact, (moved[0] - moved[1]) / (2 * h), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fixed", {}, "need a charge for each element"),
        ("fixed", {"charges": {"Li": 1.0}}, "no value for H"),
        ("fixed", {"charges": {"Li": 1.0, "He": -1.0}}, "no element 'He'"),
        ("fixed", {"charges": {"Li": 1.0, "H": -1.0}, "epsilon_inf": 0.5}, "below 1"),
        ("fixed", {"charges": {"Li": 0.0, "H": 0.0}, "fit": True}, "zero charges"),
        ("latent", {"sigma": -1.0}, "not positive"),
        ("latent", {"neutrality": "glboal"}, "did you mean 'global'"),
        ("latent", {"method": "pmme"}, "did you mean 'pme'"),
        ("qeq", {"hardness": 0.0}, "not positive"),
        ("latnt", {}, "did you mean 'latent'"),
    ],
)
def test_wrong_options_are_told(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, **options)


def test_given_charges_that_are_not_neutral_are_refused(graph):
    model = build("fixed", charges={"Li": 1.0, "H": -0.9})
    with pytest.raises(UserError, match="sum to"):
        model(graph, edges_of(graph), None)


def test_mesh_and_direct_sum_give_the_same_energy(graph):
    pytest.importorskip("torchpme")
    charges = {"Li": 1.0, "H": -1.0}
    direct = build("fixed", charges=charges, method="ewald")(graph, edges_of(graph), None)[keys.ENERGY]
    mesh = build("fixed", charges=charges, method="pme")(graph, edges_of(graph), None)[keys.ENERGY]
    torch.testing.assert_close(mesh, direct, rtol=1e-6, atol=0)


def test_fixed_charges_are_plain_point_charges(graph):
    model = build("fixed", charges={"Li": 1.0, "H": -1.0})
    charges = torch.where(graph[keys.NUMBERS] == 3, 1.0, -1.0).double()
    expected = ewald_energy(charges, graph, edges_of(graph), Splitting.point(2.0, 1e-12))
    torch.testing.assert_close(model(graph, edges_of(graph), None)[keys.ENERGY], expected, rtol=1e-7, atol=0)
