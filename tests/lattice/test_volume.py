"""Volume dependence against springs whose Grueneisen parameters can be written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from springs import Springs, diamond

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import sum_by_graph
from mlffx.errors import UserError
from mlffx.lattice.force_constants import finite_displacement
from mlffx.lattice.phonons import Phonons
from mlffx.lattice.volume import at_scale, at_volumes, frequency_shifts
from mlffx.models.force_constants import ForceConstantModel
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.network import NetworkPotential


class Morse(Potential):
    """Morse bonds between first and (weaker) second neighbours of diamond: softens as it expands."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.near, self.far = a * 3**0.5 / 4, a / 2**0.5
        self.cutoff = self.far * 1.08

    def forward(self, graph, edges):
        first = edges.lengths.detach() < 0.5 * (self.near + self.far)
        depth = torch.where(first, 3.0, 0.5).to(torch.float64)
        rest = torch.where(first, self.near, self.far).to(torch.float64)
        pair = 0.5 * depth * (1 - torch.exp(-1.8 * (edges.lengths - rest))) ** 2
        per_atom = torch.zeros(len(graph[keys.POSITIONS]), dtype=torch.float64).index_add(0, edges.receiver, pair)
        total = sum_by_graph(per_atom, graph)
        return {keys.ENERGY: total, keys.PARTS: {}}


def test_grueneisen_of_springs_is_minus_one_third():
    """Gamma^2 ~ k_r + 2 k_t with k_t = k (1 - r0/r): stretched springs stiffen, d ln(omega)/d ln(V) = 1/3."""
    springs, crystal = diamond()
    volumes = at_volumes(springs, crystal, 2, scales=(0.999, 1.0, 1.001), method="autodiff")
    assert volumes.grueneisen()["GAMMA"]["LTO"] == pytest.approx(-1 / 3, rel=5e-3)
    gamma = volumes.phonons[1].frequencies([0, 0, 0])[0, -1]
    shift = volumes.shift(3.56 * 1.001)["GAMMA"]["LTO"]
    assert shift == pytest.approx(gamma * 0.001, rel=1e-2)  # (V/V0)^(1/3) = a/a0
    assert volumes.shift(3.56)["GAMMA"]["LTO"] == pytest.approx(0, abs=1e-6)


def test_anharmonic_bonds_expand():
    a = 3.56
    volumes = at_volumes(Morse(a), Crystal.from_prototype("diamond", ["C"], a), 2)
    assert volumes.grueneisen()["GAMMA"]["LTO"] > 0.3
    assert volumes.energies.argmin() == 2 and volumes.reference == pytest.approx(a)
    found = volumes.quasi_harmonic([0.0, 150.0, 300.0, 450.0], mesh=7)
    assert found.lattice_constant[0] > a  # zero-point motion
    assert (np.diff(found.lattice_constant) > 0).all()
    assert found.expansion[0] == pytest.approx(0, abs=1e-9) and found.expansion[2] > 0
    curvature = np.polyfit(volumes.lattice_constants**3 / 4, volumes.energies, 2)[0] * 2 * a**3 / 4 * 160.2176634
    assert found.bulk_modulus[0] == pytest.approx(curvature, rel=0.1)
    assert "extrapolated" in found.note


def test_mistakes_have_remedies():
    springs, crystal = diamond()
    with pytest.raises(UserError, match="at least two"):
        at_volumes(springs, crystal, 2, scales=(1.0,))
    with pytest.raises(UserError, match="at least five"):
        at_volumes(springs, crystal, 2, scales=(0.99, 1.01)).quasi_harmonic([0.0, 100.0])
    springs.crystal = crystal
    with pytest.raises(UserError, match="no other volume"):
        at_volumes(springs, crystal, 2)


def expansion(springs: Springs, crystal: Crystal, orders: tuple[int, ...]) -> NetworkPotential:
    """Force constants fitted to forces of displaced structures at the lattice constant of the crystal alone."""
    reach = float(springs.lengths.max()) + 0.1
    model = ForceConstantModel([6], crystal, cutoff=reach, anharmonic_cutoff=reach, orders=orders)
    potential = NetworkPotential(model, torch.zeros(1), 1.0, {}).eval()
    ideal, rng, frames = crystal.supercell([3, 3, 3]), np.random.default_rng(0), []
    for _ in range(6):
        frames.append(ideal.copy())
        frames[-1].positions += 0.03 * rng.normal(size=ideal.positions.shape)

    def forces(p: Potential) -> np.ndarray:
        return np.concatenate(evaluate_atoms(p, frames, forces=True).forces).ravel()

    columns = []
    for k in range(model.n_features):
        model.coefficients.data = torch.eye(model.n_features, dtype=torch.float64)[k]
        columns.append(forces(potential))
    fitted, *_ = np.linalg.lstsq(np.stack(columns, axis=1), forces(springs), rcond=None)
    model.coefficients.data = torch.as_tensor(fitted)
    return potential


def moved(potential: Potential, crystal: Crystal, scale: float) -> dict[str, dict[str, float]]:
    start = Phonons(finite_displacement(potential, crystal, 2))
    return frequency_shifts(start, Phonons(finite_displacement(at_scale(potential, scale), crystal.scaled(scale), 2)))


def test_anharmonic_force_constants_know_the_shift_to_another_lattice_constant():
    """Fitted at one volume only, against the same springs at the other one."""
    springs, crystal = diamond()
    true, found = moved(springs, crystal, 1.004), moved(expansion(springs, crystal, (3, 4)), crystal, 1.004)
    gamma = Phonons(finite_displacement(springs, crystal, 2)).frequencies([0, 0, 0])[0, -1]
    assert true["GAMMA"]["LTO"] == pytest.approx(gamma * 0.004, rel=0.02)  # omega ~ V^(1/3) ~ a, as above
    for label, branch in (("GAMMA", "LTO"), ("X", "TA"), ("X", "TO"), ("X", "LA"), ("L", "LA")):
        assert abs(true[label][branch]) > 1.0
        assert found[label][branch] == pytest.approx(true[label][branch], rel=0.03, abs=0.05)


def test_an_expansion_stays_as_it_was_and_needs_third_order():
    springs, crystal = diamond()
    potential = expansion(springs, crystal, (3,))
    at_scale(potential, 1.01)
    assert potential.model.stretch is None and np.array_equal(potential.crystal.cell, crystal.cell)
    with pytest.raises(UserError, match="no other volume"):
        at_scale(expansion(springs, crystal, ()), 1.01)
