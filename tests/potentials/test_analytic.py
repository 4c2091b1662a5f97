"""The valence force field equals its definition, and the shipped twin has the phonons its documentation states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.neighborlist import neighbor_list

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.force_constants import autodiff, finite_displacement
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.analytic import ValenceParameters, ValencePotential
from mlffx.potentials.base import evaluate
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.build import build_potential, load_potential, save_potential

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "conf/data/diamond_twin.yaml").read_text())
PARAMETERS = ValenceParameters(2.68, 1.673, 1.593, 1.62, 1.016, 1.18, 1.656, energy=-3.0)
POTENTIAL = ValencePotential(PARAMETERS)


def rattled(size: float = 0.08, seed: int = 0):  # type: ignore[no-untyped-def]
    atoms = bulk("C", "diamond", a=3.56, cubic=True)
    atoms.rattle(size, seed=seed)
    return atoms


def by_definition(atoms, p: ValenceParameters) -> float:  # type: ignore[no-untyped-def]
    """Plain loops over pairs and triplets."""

    def window(r: float, cutoff: float) -> float:
        return float(np.exp(p.softness / (r - cutoff) - p.softness / (p.bond - cutoff))) if r < cutoff - 1e-3 else 0.0

    i, d, vectors = neighbor_list("idD", atoms, p.tail_cutoff)
    energy = p.energy * len(atoms)
    for r in d:
        energy += 0.5 * p.tail * np.exp(-(((r - p.tail_centre) / p.tail_width) ** 2)) * window(r, p.tail_cutoff)
        if r < p.bond_cutoff:
            energy += 0.5 * p.depth * ((1 - np.exp(-p.steepness * (r - p.bond))) ** 2 - 1) * window(r, p.bond_cutoff)
    for atom in range(len(atoms)):
        bonds = [(r, v / r) for a, r, v in zip(i, d, vectors, strict=True) if a == atom and r < p.bond_cutoff]
        for j, (rj, vj) in enumerate(bonds):
            for rk, vk in bonds[:j]:
                both = window(rj, p.bond_cutoff) * window(rk, p.bond_cutoff)
                energy += both * (p.angle * (vj @ vk + 1 / 3) ** 2 + p.stretch * (rj - p.bond) * (rk - p.bond))
    return float(energy)


@pytest.mark.parametrize("seed", range(3))
def test_moments_equal_sums_over_triplets(seed: int) -> None:
    atoms = rattled(0.15, seed)
    assert evaluate_atoms(POTENTIAL, [atoms]).energies[0] == pytest.approx(by_definition(atoms, PARAMETERS), abs=1e-9)


def test_twice_differentiable_also_at_the_perfect_crystal() -> None:
    for size in (0.0, 0.1):
        graph = batch_graphs([build_graph(rattled(size), POTENTIAL.cutoff)])

        def energy(positions: torch.Tensor, graph=graph) -> torch.Tensor:  # type: ignore[no-untyped-def]
            moved = graph.clone()
            moved[keys.POSITIONS] = positions
            return evaluate(POTENTIAL, moved, forces=False)[keys.ENERGY].sum()

        positions = graph[keys.POSITIONS].clone().requires_grad_(True)
        assert torch.autograd.gradcheck(energy, (positions,), atol=1e-6)
        assert torch.autograd.gradgradcheck(energy, (positions,), atol=1e-5)


def test_energy_is_smooth_where_atoms_cross_the_cutoffs() -> None:
    without_tail = ValencePotential(replace(PARAMETERS, tail=0.0))
    for potential, cutoff in ((without_tail, PARAMETERS.bond_cutoff), (POTENTIAL, PARAMETERS.tail_cutoff)):
        lengths = cutoff + np.linspace(-2e-3, 2e-3, 9)
        frames = []
        for length in lengths:
            atoms = bulk("C", "sc", a=20.0).repeat((2, 1, 1))
            atoms.positions[1] = atoms.positions[0] + [length, 0, 0]
            frames.append(atoms)
        energies = evaluate_atoms(potential, frames).energies
        np.testing.assert_allclose(energies, energies[-1], atol=1e-9)


def test_saved_and_loaded(tmp_path: Path) -> None:
    save_potential(POTENTIAL, tmp_path / "twin.pt")
    loaded = load_potential(tmp_path / "twin.pt")
    atoms = rattled()
    np.testing.assert_array_equal(
        evaluate_atoms(loaded, [atoms]).energies, evaluate_atoms(build_potential(POTENTIAL.spec()), [atoms]).energies
    )
    assert isinstance(loaded, ValencePotential) and loaded.valence == PARAMETERS
    with pytest.raises(UserError, match=r"potential: an analytic potential needs 'angle'"):
        build_potential({"kind": "analytic", "depth": 1, "steepness": 1, "bond": 1})


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("low", {"GAMMA": {"LTO": 1299.0}, "X": {"TA": 799.3, "TO": 1060.0}, "L": {"TA": 557.7, "LO": 1222.0}}),
        ("high", {"GAMMA": {"LTO": 1367.9}, "X": {"TA": 810.8, "TO": 1106.8}, "L": {"TA": 566.9, "LO": 1250.9}}),
    ],
)
def test_phonons_of_the_shipped_twin(level: str, expected: dict[str, dict[str, float]]) -> None:
    crystal = Crystal.from_prototype("diamond", ["C"], CONFIG["crystal"]["a"])
    potential = twin_potentials(CONFIG)[level]
    exact = autodiff(potential, crystal, 4)  # 4 x 4 x 4 primitive cells: X and L are commensurate
    found = labelled_frequencies(Phonons(exact))
    for label, branches in expected.items():
        for branch, frequency in branches.items():
            assert found[label][branch] == pytest.approx(frequency, abs=0.1)
    assert np.abs(finite_displacement(potential, crystal, 4).values - exact.values).max() < 1e-4
