"""What every architecture must do. A test class inherits `ModelSuite`, names its architecture and is held to all of it:

class TestPaiNN(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "painn", "n_hidden": 16}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase.calculators.morse import MorsePotential
from cases import (
    CONVENTIONAL,
    CRYSTALS,
    MIRROR,
    PAPER,
    THREEFOLD,
    Case,
    close,
    moved_atom,
    rattled,
    transformed,
)

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import build_graph, edges_of
from mlffx.models import MODELS, build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.build import load_potential, save_potential
from mlffx.potentials.network import NetworkPotential


class ModelSuite:
    """Inherit and set `options`.

    Attributes:
        options: `{"name": ..., **options}`; small sizes, so that the whole suite takes seconds.
        species: atomic numbers of the model; those of the crystal when empty.
        materials: crystals the architecture is tested on.
        without_gradient: parameters that an energy does not depend on, each with the reason in a comment.
        learning_rate, training_steps: of the training tests (Adam).
        float32_tolerance: of energies and forces, relative to the largest force and to the scale an atom.
    """

    options: ClassVar[dict[str, Any]]
    species: ClassVar[tuple[int, ...]] = ()
    materials: ClassVar[tuple[str, ...]] = ("diamond", "rocksalt")
    without_gradient: ClassVar[frozenset[str]] = frozenset()
    learning_rate: ClassVar[float] = 5e-3
    training_steps: ClassVar[int] = 60
    float32_tolerance: ClassVar[float] = 1e-4

    # ---- building

    def statistics(self, crystal: Crystal) -> dict[str, Any]:
        """What training would tell `build_model` about the data."""
        conventional = crystal.supercell(CONVENTIONAL)
        n_edges = build_graph(conventional, self.options.get("cutoff", 4.0))[keys.EDGE_INDEX].shape[1]
        return {
            "species": list(self.species or sorted({int(z) for z in crystal.numbers})),
            "mean_neighbours": n_edges / len(conventional),
            "crystal": {
                "cell": crystal.cell.tolist(),
                "scaled_positions": crystal.scaled_positions.tolist(),
                "numbers": crystal.numbers.tolist(),
            },
        }

    def make(self, material: str) -> Case:
        crystal = CRYSTALS[material]
        wanted = MODELS.options(self.options["name"])
        spec = {k: v for k, v in self.statistics(crystal).items() if k in wanted} | self.options
        torch.manual_seed(0)
        model = build_model(spec).to(torch.float64)
        with torch.no_grad():  # an architecture that starts at zero is tested away from it
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        offsets = -1.3 - 0.2 * torch.arange(len(model.species), dtype=torch.float64)
        ideal = crystal.supercell(CONVENTIONAL)
        return Case(crystal, NetworkPotential(model, offsets, 0.7, spec), ideal, rattled(ideal, seed=1))

    @pytest.fixture
    def case(self, material: str) -> Case:
        return self.make(material)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test that takes a case runs on every material of the class."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("material", self.materials)

    @staticmethod
    def operations(case: Case) -> list[np.ndarray]:
        """A rotation and a reflection the architecture must know."""
        if getattr(case.potential.model, "needs_sites", False):
            return [THREEFOLD, MIRROR]
        rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
        rotation *= np.linalg.det(rotation)  # proper
        return [rotation, -rotation]

    # ---- symmetry

    def test_rotation_and_reflection(self, case: Case) -> None:
        before = case.evaluate(case.atoms, stress=True)
        assert before[keys.FORCES].abs().max() > 1e-5  # else there is nothing to compare
        for operation in self.operations(case):
            other = Crystal(case.crystal.cell @ operation, case.crystal.scaled_positions, case.crystal.numbers)
            turned = Case(other, case.potential, case.ideal, transformed(case.atoms, operation))
            if getattr(case.potential.model, "needs_sites", False):
                turned.crystal = case.crystal
            after, matrix = turned.evaluate(turned.atoms, stress=True), torch.as_tensor(operation)
            close(after[keys.ENERGY], before[keys.ENERGY])
            close(after[keys.FORCES], before[keys.FORCES] @ matrix)
            close(after[keys.STRESS], matrix.T @ before[keys.STRESS] @ matrix)
            close(after[keys.FEATURES], before[keys.FEATURES])

    def test_translation(self, case: Case) -> None:
        before, moved = case.evaluate(case.atoms), case.atoms.copy()
        moved.positions += [0.31, -0.17, 5.2]
        after = case.evaluate(moved)
        close(after[keys.ENERGY], before[keys.ENERGY])
        close(after[keys.FORCES], before[keys.FORCES])

    def test_permutation(self, case: Case) -> None:
        order = np.random.default_rng(4).permutation(len(case.atoms))
        before, after = case.evaluate(case.atoms), case.evaluate(case.atoms[order])
        close(after[keys.ENERGY], before[keys.ENERGY])
        close(after[keys.FORCES], before[keys.FORCES][order])
        close(after[keys.FEATURES], before[keys.FEATURES][order])

    def test_repetition(self, case: Case) -> None:
        close(case.energies(case.atoms.repeat(2)), 8 * case.energies(case.atoms))

    def test_cell_smaller_than_cutoff(self, case: Case) -> None:
        primitive, large = case.crystal.primitive(), case.crystal.supercell(PAPER)
        close(case.energies(primitive), case.energies(large) / 16)
        strained = [atoms.copy() for atoms in (primitive, large)]
        for atoms in strained:
            atoms.set_cell(
                atoms.cell.array @ np.array([[1.005, 0.01, 0], [0, 0.995, 0], [0.005, 0, 1]]), scale_atoms=True
            )
        close(case.energies(strained[0]), case.energies(strained[1]) / 16)

    def test_elements_differ(self, case: Case) -> None:
        if len(case.potential.model.species) == 1 or getattr(case.potential.model, "needs_sites", False):
            pytest.skip("one element, or elements fixed by the sites")
        swapped, other = case.atoms.copy(), case.crystal
        swapped.numbers = case.atoms.numbers.sum() // len(case.atoms) * 2 - case.atoms.numbers
        other = Crystal(other.cell, other.scaled_positions, other.numbers[::-1].copy())
        energy = Case(other, case.potential, case.ideal, swapped).energies(swapped)
        assert (energy - case.energies(case.atoms)).abs() > 1e-6

    # ---- derivatives

    def test_forces_are_minus_the_gradient(self, case: Case) -> None:
        step, coordinates = 1e-4, [0, 4, 11, 17]
        energies = case.energies([moved_atom(case.atoms, c, s) for c in coordinates for s in (step, -step)])
        numerical = -(energies[::2] - energies[1::2]) / (2 * step)
        forces = case.evaluate(case.atoms)[keys.FORCES].flatten()
        assert (forces[coordinates] - numerical).abs().max() < 1e-5 * forces.abs().max()

    def test_stress_is_the_strain_derivative(self, case: Case) -> None:
        step, structures = 1e-4, []
        components = [(0, 0), (1, 2), (0, 2)]
        for a, b in components:
            for sign in (step, -step):
                strain = np.eye(3)
                strain[a, b] += sign / 2
                strain[b, a] += sign / 2
                structures.append(case.atoms.copy())
                structures[-1].set_cell(case.atoms.cell.array @ strain, scale_atoms=True)
        energies = case.energies(structures)
        numerical = (energies[::2] - energies[1::2]) / (2 * step) / case.atoms.cell.volume
        stress = case.evaluate(case.atoms, stress=True)[keys.STRESS][0]
        analytic = torch.stack([stress[a, b] for a, b in components])
        assert (analytic - numerical).abs().max() < 1e-5 * stress.abs().max()

    def test_hessian_symmetric_and_sum_rule(self, case: Case) -> None:
        for atoms in (case.atoms, case.ideal):
            hessian = case.hessian(atoms)
            assert torch.isfinite(hessian).all() and hessian.abs().max() > 1e-4
            close(hessian.T, hessian)
            close(hessian + hessian.reshape(len(hessian), -1, 3).sum(dim=1).repeat(1, len(atoms)), hessian)

    def test_hessian_at_the_perfect_crystal(self, case: Case) -> None:
        """Where vector features vanish the Hessian must still be the derivative of the forces."""
        coordinates, step = [0, len(case.ideal) * 3 - 2], 2e-3
        steps = [-2 * step, -step, step, 2 * step]
        forces = case.evaluate([moved_atom(case.ideal, c, s) for c in coordinates for s in steps])[keys.FORCES]
        weights = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * step)
        numerical = -torch.einsum("s,csx->cx", weights, forces.reshape(len(coordinates), 4, -1))
        close(case.hessian(case.ideal, coordinates), numerical, 1e-5)

    def test_smooth_at_the_cutoff(self, case: Case) -> None:
        """An atom moves through the cutoff of a neighbour: energy, forces and curvature must not jump."""
        edges = edges_of(case.graph(case.atoms))
        pairs = (edges.sender != edges.receiver).nonzero().flatten()
        last = pairs[edges.lengths[pairs].argmax()]
        coordinate = 3 * int(edges.sender[last]) + int(edges.vectors[last].abs().argmax())
        vector, axis = edges.vectors[last].numpy(), coordinate % 3
        rest = case.potential.cutoff**2 - (vector**2).sum() + vector[axis] ** 2
        shift, gap = float(np.sign(vector[axis]) * np.sqrt(rest) - vector[axis]), 1e-6
        sides = [moved_atom(case.atoms, coordinate, shift + s) for s in (-gap, gap)]
        counts = [case.graph(side)[keys.EDGE_INDEX].shape[1] for side in sides]
        assert abs(counts[1] - counts[0]) == 2  # the pair, in both directions
        inside, outside = (case.evaluate(side) for side in sides)
        close(inside[keys.ENERGY], outside[keys.ENERGY] + 2 * gap * outside[keys.FORCES].flatten()[coordinate], 1e-9)
        close(inside[keys.FORCES], outside[keys.FORCES], 1e-4)
        close(*(case.hessian(side, [coordinate]) for side in sides), 1e-4)

    # ---- numbers

    def test_batch_equals_single(self, case: Case) -> None:
        structures = [case.atoms, case.crystal.primitive(), rattled(case.crystal.supercell([2, 1, 1]), 5), case.ideal]
        together = case.evaluate(structures, stress=True)
        single = [case.evaluate(atoms, stress=True) for atoms in structures]
        for key in (keys.ENERGY, keys.FORCES, keys.STRESS, keys.FEATURES):
            close(together[key], torch.cat([result[key] for result in single]))

    def test_float32(self, case: Case) -> None:
        double = case.evaluate(case.atoms)
        case.potential.set_precision(torch.float32)
        single = case.evaluate(case.atoms)
        assert single[keys.ENERGY].dtype == single[keys.FORCES].dtype == torch.float64
        per_atom = (single[keys.ENERGY] - double[keys.ENERGY]).abs() / len(case.atoms)
        assert per_atom < self.float32_tolerance * 0.7
        assert per_atom > 0 or case.potential.model.dtype == torch.float64  # a model may insist on float64
        close(single[keys.FORCES], double[keys.FORCES], self.float32_tolerance)

    def test_features(self, case: Case) -> None:
        features = case.evaluate(case.atoms)[keys.FEATURES]
        assert features.shape == (len(case.atoms), case.potential.model.n_features)
        assert (features[0] - features[1:]).abs().max() > 1e-6  # displaced atoms see different surroundings

    def test_checkpoint(self, case: Case, tmp_path: Path) -> None:
        save_potential(case.potential, tmp_path / "model.ckpt")
        restored = load_potential(tmp_path / "model.ckpt")
        assert restored.spec() == case.potential.spec()
        copy = Case(case.crystal, restored, case.ideal, case.atoms)  # type: ignore[arg-type]
        close(copy.evaluate(case.atoms)[keys.FORCES], case.evaluate(case.atoms)[keys.FORCES], 1e-12)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
    def test_gpu(self, case: Case) -> None:
        expected, graph = case.evaluate(case.atoms, stress=True), case.graph(case.atoms).to("cuda")
        actual = evaluate(case.potential.to("cuda"), graph, stress=True)
        for key in (keys.ENERGY, keys.FORCES, keys.STRESS):
            close(actual[key].detach().cpu(), expected[key], 1e-8)

    # ---- training

    def test_every_parameter_gets_a_gradient(self, case: Case) -> None:
        graph = case.graph(case.atoms)
        (evaluate(case.potential, graph, forces=False)[keys.ENERGY] ** 2).sum().backward()
        idle = {n for n, p in case.potential.model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
        assert idle == self.without_gradient

    @pytest.mark.parametrize("with_forces", [False, True], ids=["energy", "energy+forces"])
    def test_training_lowers_the_loss(self, case: Case, with_forces: bool) -> None:
        structures = [rattled(case.ideal, seed, size=0.02 + 0.02 * seed) for seed in range(6)]
        nearest = case.ideal.get_all_distances(mic=True)[0][1:].min()
        for atoms in structures:
            atoms.calc = MorsePotential(epsilon=0.5, r0=nearest, rho0=4.0, rcut1=2.8, rcut2=3.4)
        energies = torch.tensor([atoms.get_potential_energy() for atoms in structures], dtype=torch.float64)
        forces = torch.as_tensor(np.concatenate([atoms.get_forces() for atoms in structures]))
        graph, n = case.graph(structures), len(case.atoms)
        case.potential.model.fit_features(graph, edges_of(graph))
        with torch.no_grad():
            case.potential.scale.copy_(energies.std() / n)
            misfit = energies - evaluate(case.potential, graph, forces=False)[keys.ENERGY]
            case.potential.offsets.add_(misfit.mean() / n)
        optimizer, losses = torch.optim.Adam(case.potential.parameters(), lr=self.learning_rate), []
        for _ in range(self.training_steps):
            result = evaluate(case.potential, graph, forces=with_forces, create_graph=with_forces)
            loss = ((result[keys.ENERGY] - energies) ** 2).mean() / n
            if with_forces:
                loss = loss + ((result[keys.FORCES] - forces) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0], losses
