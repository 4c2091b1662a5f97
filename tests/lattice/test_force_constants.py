"""Force constants against analytic ones, by both methods, raw and symmetrised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from phonopy.file_IO import parse_FORCE_CONSTANTS
from springs import Springs, diamond, rocksalt

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import force_constants as fc
from mlffx.lattice import phonopy_api
from mlffx.lattice.phonons import Phonons
from mlffx.models.base import build_model
from mlffx.potentials.base import Potential
from mlffx.potentials.network import NetworkPotential


class Quadratic(Potential):
    """E = 1/4 sum_edges k (n.(u_j - u_i))^2 along the ideal bond n: exactly harmonic, Phi_ij = -k n n^T."""

    def __init__(self, crystal: Crystal, cutoff: float, k: float, pinned: float = 0.0) -> None:
        super().__init__()
        self.crystal, self.cutoff, self.k, self.pinned = crystal, cutoff, k, pinned

    def forward(self, graph, edges):
        moved = graph[keys.POSITIONS] - graph[keys.SITES]
        stretch = moved[edges.sender] - moved[edges.receiver]
        ideal = (edges.vectors - stretch).detach()
        unit = ideal / ideal.norm(dim=1, keepdim=True)
        energy = 0.25 * self.k * (stretch * unit).sum(dim=1).square().sum() + 0.5 * self.pinned * moved.square().sum()
        return {keys.ENERGY: energy.reshape(1), keys.PARTS: {}}


def bond_constants(found: fc.ForceConstants, k: float, bond: float) -> np.ndarray:
    """-k n n^T between neighbours at distance `bond`, the sum rule on the diagonal."""
    cell = found.supercell()
    expected = np.zeros_like(found.values)
    for i, row in enumerate(found.rows):
        vectors = cell.get_distances(row, range(len(cell)), mic=True, vector=True)
        for j, v in enumerate(vectors):
            if j != row and abs(np.linalg.norm(v) - bond) < 1e-3:
                n = v / bond
                expected[i, j] -= k * np.outer(n, n)
                expected[i, row] += k * np.outer(n, n)
    return expected


def test_autodiff_recovers_a_harmonic_potential_exactly():
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.0)
    found = fc.autodiff(Quadratic(crystal, 2.1, 3.0), crystal, 3, symmetrise=False)
    np.testing.assert_allclose(found.values, bond_constants(found, 3.0, 2.0), atol=1e-12)
    assert max(v for k, v in found.raw.items()) < 1e-12


def test_both_methods_recover_bond_springs():
    springs, crystal = diamond()
    springs.stiffness[1] = 0.0
    expected = None
    for method in (fc.autodiff, fc.finite_displacement):
        found = method(springs, crystal, 3)
        expected = bond_constants(found, 20.0, crystal.cell.max() * 2 * 3**0.5 / 4)
        np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert np.abs(expected).max() > 20


@pytest.mark.parametrize("matrix", [3, (2, 2, 3), [[-2, 2, 2], [2, -2, 2], [1, 1, -1]]])
def test_displacement_agrees_with_autodiff(matrix):
    springs, crystal = diamond()
    exact = fc.autodiff(springs, crystal, matrix)
    found = fc.finite_displacement(springs, crystal, matrix)
    assert np.abs(found.values - exact.values).max() < 1e-5
    plain = fc.finite_displacement(springs, crystal, matrix, extrapolate=False)
    assert 1e-5 < np.abs(plain.values - exact.values).max() < 1e-3  # the d^2 error that the extrapolation removes


def test_float32_network_is_differentiated_in_double():
    torch.manual_seed(0)
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56)
    spec = {"name": "painn", "species": [6], "cutoff": 3.0, "n_hidden": 8, "n_interactions": 2}
    network = NetworkPotential(build_model(spec), torch.zeros(1), 1.0, spec)
    one, other = fc.autodiff(network, crystal, 3), fc.finite_displacement(network, crystal, 3)
    assert np.abs(one.values).max() > 1e-3
    assert np.abs(one.values - other.values).max() < 1e-4
    assert max(one.raw[k] for k in ("acoustic_sum_rule", "permutation", "space_group", "residual_force")) < 1e-6
    assert network.model.dtype == torch.float32  # the caller's potential stays as it was


def test_raw_violations_are_seen_and_projected_out():
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.0)
    pinned = fc.autodiff(Quadratic(crystal, 2.1, 3.0, pinned=0.5), crystal, 2)
    assert pinned.raw["acoustic_sum_rule"] == pytest.approx(0.5)
    assert np.abs(pinned.values.sum(axis=1)).max() < 1e-10
    springs, crystal = diamond(tilt=0.3)
    tilted = fc.autodiff(springs, crystal, 2)
    assert tilted.raw["space_group"] > 0.1
    assert tilted.raw["acoustic_sum_rule"] < 1e-10
    assert tilted.raw["projection"] > 0.1
    again = tilted.geometry.symmetry.violations(tilted.values)
    assert max(again.values()) < 1e-9


def test_permutation_violation_is_seen():
    springs, crystal = rocksalt()
    found = fc.autodiff(springs, crystal, 2)
    found.values[0, 5, 0, 1] += 0.25
    assert found.geometry.symmetry.violations(found.values)["permutation"] == pytest.approx(0.25)


def test_full_constants_are_the_hessian():
    springs, crystal = rocksalt()
    found = fc.autodiff(springs, crystal, 2)
    full = found.full()
    np.testing.assert_allclose(full[found.rows], found.values, atol=1e-12)
    np.testing.assert_allclose(full, full.transpose(1, 0, 3, 2), atol=1e-12)


def test_parts_of_a_sum_add_up():
    a = 3.56
    first, second = Springs([(a * 3**0.5 / 4, 20.0)]), Springs([(a * 3**0.5 / 4, 0.0), (a / 2**0.5, 3.0)])
    both, crystal = diamond(a)
    total = fc.autodiff(first, crystal, 3) + fc.autodiff(second, crystal, 3)
    np.testing.assert_allclose(total.values, fc.autodiff(both, crystal, 3).values, atol=1e-10)
    np.testing.assert_allclose((total - total).values, 0.0)
    with pytest.raises(UserError, match="different supercells"):
        total + fc.autodiff(both, crystal, 2)


def test_file_round_trip(tmp_path):
    springs, crystal = rocksalt()
    phonons = Phonons(fc.autodiff(springs, crystal, 3), masses=[7.016, 2.014])
    path = tmp_path / "phonopy_params.yaml"
    phonons.save(path)
    again = Phonons.load(path)
    q = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(again.frequencies(q), phonons.frequencies(q), atol=1e-6)
    np.testing.assert_allclose(fc.load_force_constants(path).values, phonons.force_constants.values, atol=1e-8)


def test_text_format_holds_the_full_constants(tmp_path):
    springs, crystal = rocksalt()
    constants = fc.autodiff(springs, crystal, 2)
    Phonons(constants).write_force_constants(tmp_path / "out" / "FORCE_CONSTANTS")
    np.testing.assert_allclose(parse_FORCE_CONSTANTS(tmp_path / "out" / "FORCE_CONSTANTS"), constants.full(), atol=1e-9)


def test_mistakes_have_remedies(tmp_path):
    springs, crystal = diamond()
    with pytest.raises(UserError, match="displacement"):
        fc.finite_displacement(springs, crystal, 2, distance=0.0)
    with pytest.raises(UserError, match="no supercell"):
        fc.autodiff(springs, crystal, [2, 2])
    with pytest.raises(UserError, match="no such phonopy file"):
        fc.load_force_constants(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(UserError, match="unreadable"):
        fc.load_force_constants(tmp_path / "broken.yaml")


def test_conventional_supercells():
    _, crystal = diamond()
    matrix = fc.conventional_matrix(crystal, (2, 2, 1))
    assert abs(np.linalg.det(matrix)) == pytest.approx(16)
    np.testing.assert_allclose(np.sort(np.linalg.norm(matrix @ crystal.cell, axis=1)), [3.56, 7.12, 7.12])


def test_interpolation_keeps_frequencies_and_restores_symmetry():
    springs, crystal = diamond()
    flat = fc.autodiff(springs, crystal, fc.conventional_matrix(crystal, (2, 2, 1)))
    round_ = flat.interpolated(fc.conventional_matrix(crystal, 2))
    direct = fc.autodiff(springs, crystal, fc.conventional_matrix(crystal, 2))
    assert Phonons(round_).symmetric and not Phonons(flat).symmetric
    q = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    found, exact = Phonons(round_).frequencies(q), Phonons(direct).frequencies(q)
    np.testing.assert_allclose(found[:2], exact[:2], atol=1e-3)  # Gamma and X fit the flat cell
    assert np.abs(found[2] - exact[2]).max() > 50  # L does not: what the cell has not resolved stays unknown
    np.testing.assert_allclose(Phonons(direct.interpolated(4)).frequencies(q), exact, atol=1e-3)


@pytest.mark.parametrize("conventional", [(2, 2, 2), (2, 2, 1)])
@pytest.mark.parametrize("make", [diamond, rocksalt])
def test_projection_is_that_of_symfc(make, conventional):
    _, crystal = make()
    matrix = fc.conventional_matrix(crystal, conventional)
    cell = phonopy_api.geometry(crystal, matrix)
    anything = np.random.default_rng(5).normal(size=(2, len(cell.supercell), 3, 3))
    ph = phonopy_api.lattice(crystal, matrix, [1.0, 1.0])
    phonopy_api.set_force_constants(ph, anything)
    ph.symmetrize_force_constants(use_symfc_projector=True)
    projected = cell.symmetry.project(anything)
    np.testing.assert_allclose(projected, ph.force_constants, atol=1e-12)
    np.testing.assert_allclose(cell.symmetry.project(projected), projected, atol=1e-13)
