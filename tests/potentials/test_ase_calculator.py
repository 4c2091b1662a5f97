"""The ASE calculator and batched evaluation agree with each other, with finite differences and with themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import sum_by_graph
from mlffx.errors import UserError
from mlffx.models.base import build_model
from mlffx.potentials.ase_calculator import MlffxCalculator
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.network import NetworkPotential


class Morse(Potential):
    """Pair potential cut off smoothly: sum over bonds of D ((1 - e^(-b (r - r0)))^2 - 1) s(r)."""

    def __init__(self, depth: float = 3.0) -> None:
        super().__init__()
        self.cutoff = 3.2
        self.register_buffer("depth", torch.tensor(depth, dtype=torch.float64))

    def forward(self, graph, edges):
        r = edges.lengths
        assert bool((r < self.cutoff).all()), "the skin must not reach the potential"
        smooth = (1 - (r / self.cutoff) ** 2) ** 3
        pair = 0.5 * self.depth * ((1 - torch.exp(-1.8 * (r - 1.54))) ** 2 - 1) * smooth
        per_atom = torch.zeros(len(graph[keys.POSITIONS]), dtype=torch.float64).index_add(0, edges.receiver, pair)
        total = sum_by_graph(per_atom, graph)
        return {keys.ENERGY: total, keys.PARTS: {"morse": total}}


class Tethered(Potential):
    """1/2 k sum (r - site)^2: needs the ideal sites."""

    def __init__(self, crystal: Crystal) -> None:
        super().__init__()
        self.crystal, self.cutoff = crystal, 2.0

    def forward(self, graph, edges):
        total = sum_by_graph(2.0 * (graph[keys.POSITIONS] - graph[keys.SITES]).square().sum(dim=1), graph)
        return {keys.ENERGY: total, keys.PARTS: {}}


def crystal(seed: int = 0, amplitude: float = 0.05):
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.positions += amplitude * np.random.default_rng(seed).normal(size=(8, 3))
    return atoms


def test_calculator_equals_batched_evaluation():
    frames = [crystal(s) for s in range(3)]
    energies, forces, stresses = evaluate_atoms(Morse(), frames, stress=True)
    calculator = MlffxCalculator(Morse())
    for atoms, e, f, s in zip(frames, energies, forces, stresses, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(e, abs=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), f, atol=1e-12)
        np.testing.assert_allclose(atoms.get_stress(voigt=False), s, atol=1e-12)


def test_chunks_do_not_change_results():
    frames = [crystal(s) for s in range(5)] + [crystal(9).repeat((2, 1, 1))]
    whole, pieces = (
        evaluate_atoms(Morse(), frames, stress=True),
        evaluate_atoms(Morse(), frames, stress=True, chunk=400),
    )
    np.testing.assert_allclose(pieces.energies, whole.energies, atol=1e-12)
    np.testing.assert_allclose(pieces.stresses, whole.stresses, atol=1e-12)
    for one, other in zip(pieces.forces, whole.forces, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert evaluate_atoms(Morse(), frames, forces=False).forces is None
    assert len(evaluate_atoms(Morse(), []).energies) == 0


def test_forces_and_stress_are_derivatives():
    atoms = crystal()
    atoms.calc = MlffxCalculator(Morse())
    step, force, stress = 1e-4, atoms.get_forces()[2, 1], atoms.get_stress(voigt=False)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[2, 1] += sign * step
        ends.append(moved.get_potential_energy())
    assert force == pytest.approx(-(ends[0] - ends[1]) / (2 * step), abs=1e-6)
    for a, b in ((0, 0), (1, 2)):
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            moved.calc = atoms.calc
            ends.append(moved.get_potential_energy())
        assert stress[a, b] == pytest.approx((ends[0] - ends[1]) / (2 * step) / atoms.get_volume(), abs=1e-7)


def test_the_neighbour_list_outlives_small_steps_but_not_large_ones():
    atoms = crystal(amplitude=0.0).repeat((2, 2, 2))
    atoms.calc = MlffxCalculator(Morse(), skin=0.6)
    rng = np.random.default_rng(1)
    for _ in range(12):
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
        fresh = evaluate_atoms(Morse(), [atoms])
        assert atoms.get_potential_energy() == pytest.approx(fresh.energies[0], abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), fresh.forces[0], atol=1e-10)
    assert 1 < atoms.calc.neighbours.builds < 12


def test_energy_is_conserved_in_molecular_dynamics():
    atoms = crystal(amplitude=0.03)
    atoms.calc = MlffxCalculator(Morse())
    start = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.5 * units.fs).run(60)
    assert abs(atoms.get_total_energy() - start) < 1e-3
    assert atoms.get_kinetic_energy() > 0.03


def test_ensemble_gives_mean_and_standard_deviation():
    atoms = crystal()
    depths = (2.8, 3.0, 3.3)
    single = [evaluate_atoms(Morse(d), [atoms]) for d in depths]
    atoms.calc = MlffxCalculator([Morse(d) for d in depths])
    energies = [s.energies[0] for s in single]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies))
    assert atoms.calc.results["energy_std"] == pytest.approx(np.std(energies, ddof=1))
    spread = np.std([s.forces[0] for s in single], axis=0, ddof=1)
    np.testing.assert_allclose(atoms.calc.get_property("forces_std", atoms), spread, atol=1e-12)


def test_sites_follow_the_crystal_and_survive_wrapping():
    ideal = Crystal.from_prototype("diamond", ["C"], 3.57)
    atoms = crystal(amplitude=0.05)
    atoms.calc = MlffxCalculator(Tethered(ideal), skin=2.0)
    energy = atoms.get_potential_energy()
    assert energy == pytest.approx(evaluate_atoms(Tethered(ideal), [atoms]).energies[0])
    atoms.positions += [0.3, -0.2, 0.1]  # the whole crystal drifts
    assert atoms.get_potential_energy() == pytest.approx(energy)
    assert atoms.calc.neighbours.builds == 1
    atoms.wrap()
    assert atoms.get_potential_energy() == pytest.approx(energy)
    assert atoms.get_forces().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-10)


def test_networks_run_in_double_by_default():
    torch.manual_seed(0)
    spec = {"name": "painn", "species": [6], "cutoff": 3.0, "n_hidden": 8, "n_interactions": 1}
    network = NetworkPotential(build_model(spec), torch.zeros(1), 1.0, spec)
    atoms = crystal()
    atoms.calc = MlffxCalculator(network)
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12
    assert network.model.dtype == torch.float64


def test_mistakes_have_remedies():
    with pytest.raises(UserError, match="no potentials"):
        MlffxCalculator([])
    with pytest.raises(UserError, match="skin"):
        MlffxCalculator(Morse(), skin=-1)
    molecule = crystal()
    molecule.pbc = False
    molecule.calc = MlffxCalculator(Morse())
    with pytest.raises(UserError, match="periodic"):
        molecule.get_potential_energy()
    with pytest.raises(UserError, match="periodic"):
        evaluate_atoms(Morse(), [molecule])
