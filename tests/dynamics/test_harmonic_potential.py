"""The harmonic crystal as a potential."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.errors import UserError
from mlffx.potentials.base import evaluate
from mlffx.potentials.build import load_potential, save_potential
from mlffx.potentials.harmonic import HarmonicPotential


def graph_of(springs, displacements, wrap=False):
    atoms = springs.supercell.copy()
    atoms.positions += displacements
    if wrap:
        atoms.wrap()
    return batch_graphs([build_graph(atoms, springs.potential.cutoff)])


def test_energy_and_forces_are_those_of_the_springs(springs):
    u = 0.05 * np.random.default_rng(0).standard_normal((len(springs.supercell), 3))
    out = evaluate(springs.potential, graph_of(springs, u), stress=True)
    forces = -np.einsum("ijab,jb->ia", springs.force_constants, u)
    assert out[keys.ENERGY].item() == pytest.approx(-0.5 * (u * forces).sum(), rel=1e-12)
    assert np.allclose(out[keys.FORCES].numpy(), forces, atol=1e-12)


def test_wrapped_atoms_are_the_same_atoms(springs):
    u = 0.05 * np.random.default_rng(1).standard_normal((len(springs.supercell), 3))
    energies = [
        evaluate(springs.potential, graph_of(springs, u, wrap), forces=False)[keys.ENERGY] for wrap in (False, True)
    ]
    assert torch.allclose(*energies, rtol=1e-12)


def test_ideal_crystal_has_no_forces_and_no_stress(springs):
    out = evaluate(springs.potential, graph_of(springs, 0.0), stress=True)
    assert out[keys.FORCES].abs().max() < 1e-12 and out[keys.STRESS].abs().max() < 1e-12


def test_survives_a_file(springs, tmp_path):
    save_potential(springs.potential, tmp_path / "harmonic.pt")
    again = load_potential(tmp_path / "harmonic.pt")
    u = 0.05 * np.random.default_rng(2).standard_normal((len(springs.supercell), 3))
    graph = graph_of(springs, u)
    assert torch.equal(evaluate(again, graph)[keys.FORCES], evaluate(springs.potential, graph)[keys.FORCES])


def test_another_supercell_is_refused(springs):
    atoms = springs.crystal.supercell([3, 2, 2])
    with pytest.raises(UserError, match="supercell of the force constants"):
        springs.potential(batch_graphs([build_graph(atoms, 0.1)]), None)
    with pytest.raises(UserError, match=r"\[16, 16, 3, 3\]"):
        HarmonicPotential(springs.force_constants[:2], springs.supercell.positions, springs.supercell.cell.array)
