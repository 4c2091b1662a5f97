"""Ewald sums against Madelung constants, another code, finite differences, and themselves in other cells."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.electrostatics.ewald import Splitting, ewald_energy, gaussian_matrix, neutralise
from mlffx.electrostatics.padding import layout_of
from mlffx.errors import UserError
from mlffx.units import COULOMB_EV_A

MADELUNG = [
    ("rocksalt", "NaCl", 1.747564594633, 0.5),
    ("cesiumchloride", "CsCl", 1.762674773071, math.sqrt(3) / 2),
    ("zincblende", "ZnS", 1.638055053389, math.sqrt(3) / 4),
]


def disordered(seed: int, repeat=(1, 1, 1)) -> tuple[Atoms, torch.Tensor]:
    """A rattled, sheared rocksalt cell with charges of no symmetry."""
    rng = np.random.default_rng(seed)
    atoms = bulk("LiH", "rocksalt", a=4.0, cubic=True) * repeat
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape)
    charges = np.where(atoms.numbers == 3, 0.8, -0.8) + 0.2 * rng.normal(size=len(atoms))
    return atoms, torch.as_tensor(charges - charges.mean())


def energy(atoms: Atoms, charges: torch.Tensor, split: Splitting) -> torch.Tensor:
    graph = batch_graphs([build_graph(atoms, max(split.real_cutoff, 2.0))])
    return ewald_energy(charges, graph, edges_of(graph), split)


@pytest.mark.parametrize(("prototype", "species", "madelung", "distance"), MADELUNG)
@pytest.mark.parametrize("real_cutoff", [3.0, 6.0])
def test_madelung_constants(prototype, species, madelung, distance, real_cutoff):
    atoms = bulk(species, prototype, a=5.0) * (2, 1, 2)
    charges = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    found = -energy(atoms, charges, Splitting.point(real_cutoff, 1e-12)).item() / 4 * distance * 5.0 / COULOMB_EV_A
    assert found == pytest.approx(madelung, abs=1e-11)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_one_tolerance_bounds_the_error_for_every_cutoff(tolerance):
    atoms, charges = disordered(0)
    exact = energy(atoms, charges, Splitting.point(6.0, 1e-14))
    for cutoff in (2.5, 4.0, 5.5):
        error = (energy(atoms, charges, Splitting.point(cutoff, tolerance)) - exact).abs().item()
        assert error < 20 * tolerance * len(atoms)


def test_agrees_with_torch_pme():
    torchpme = pytest.importorskip("torchpme")
    atoms, charges = disordered(1)
    split = Splitting.point(5.0, 1e-10)
    graph = batch_graphs([build_graph(atoms, 5.0)])
    edges = edges_of(graph)
    smearing = 1 / (math.sqrt(2) * split.alpha)
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing=smearing, prefactor=COULOMB_EV_A),
        lr_wavelength=math.pi / split.k_cutoff,  # half: their box of k-vectors is shorter than ours in sheared cells
        full_neighbor_list=True,
    ).to(torch.float64)
    pairs = torch.stack([edges.receiver, edges.sender], dim=1)
    theirs = calculator(charges.unsqueeze(-1), graph[keys.CELL][0], graph[keys.POSITIONS], pairs, edges.lengths)
    reference = (charges * theirs.squeeze(-1)).sum()
    assert ewald_energy(charges, graph, edges, split).item() == pytest.approx(reference.item(), abs=1e-7)


def test_pme_agrees_with_the_direct_sum():
    pytest.importorskip("torchpme")
    from mlffx.electrostatics.pme import pme_energy

    split = Splitting.point(4.0, 1e-8)
    structures = [disordered(seed, (2, 2, 2)) for seed in (2, 3)]
    graph = batch_graphs([build_graph(atoms, 4.0) for atoms, _ in structures])
    graph[keys.POSITIONS].requires_grad_(True)
    charges = torch.cat([q for _, q in structures])
    mesh = pme_energy(charges, graph, edges_of(graph), split)
    direct = ewald_energy(charges, graph, edges_of(graph), split)
    torch.testing.assert_close(mesh, direct, rtol=1e-6, atol=0)
    (mesh_forces,) = torch.autograd.grad(mesh.sum(), graph[keys.POSITIONS])
    (direct_forces,) = torch.autograd.grad(direct.sum(), graph[keys.POSITIONS])
    torch.testing.assert_close(mesh_forces, direct_forces, rtol=0, atol=1e-4)


def test_batched_is_unbatched_for_different_cells_and_sizes():
    structures = [disordered(0), disordered(1, (2, 1, 1)), disordered(2, (1, 2, 2))]
    split = Splitting.point(4.0, 1e-9)
    graph = batch_graphs([build_graph(atoms, 4.0) for atoms, _ in structures])
    together = ewald_energy(torch.cat([q for _, q in structures]), graph, edges_of(graph), split)
    alone = torch.cat([energy(atoms, q, split) for atoms, q in structures])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-11)


def test_supercell_has_the_energy_of_its_cells():
    atoms, charges = disordered(3)
    for split in (Splitting.point(4.0, 1e-10), Splitting.gaussian(0.8, 1e-10)):
        once = energy(atoms, charges, split)
        many = energy(atoms.repeat((2, 1, 3)), charges.repeat(6), split)
        torch.testing.assert_close(many, 6 * once, rtol=1e-9, atol=0)


def test_translation_leaves_the_energy():
    atoms, charges = disordered(4)
    moved = atoms.copy()
    moved.translate([0.3, -7.1, 2.2])
    split = Splitting.point(4.0, 1e-10)
    torch.testing.assert_close(energy(moved, charges, split), energy(atoms, charges, split), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "split", [Splitting.point(3.0, 1e-13), Splitting.gaussian(0.7, 1e-13)], ids=["point", "gaussian"]
)
def test_first_and_second_derivatives_by_finite_differences(split):
    atoms, charges = disordered(5)
    graph = batch_graphs([build_graph(atoms, 3.0)])
    positions = graph[keys.POSITIONS].clone()
    picked = [0, 3]

    def of(moves: torch.Tensor, q: torch.Tensor, strain: torch.Tensor) -> torch.Tensor:
        deformation = torch.eye(3, dtype=torch.float64) + strain
        trial = graph.clone()
        trial[keys.POSITIONS] = positions.index_add(0, torch.tensor(picked), moves) @ deformation
        trial[keys.CELL] = graph[keys.CELL] @ deformation
        return ewald_energy(q, trial, edges_of(trial), split)

    inputs = (
        torch.zeros(2, 3, dtype=torch.float64, requires_grad=True),
        charges.clone().requires_grad_(True),
        torch.zeros(3, 3, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(of, inputs, eps=1e-4, atol=2e-5)
    assert torch.autograd.gradgradcheck(of, inputs, eps=1e-4, atol=2e-4)


def test_gaussian_charges_interact_as_erf_over_r():
    """Two charges in a large box: the dipole's images contribute f 2 pi d^2 / 3 V (conducting boundary) and less."""
    sigma, distance, side = 0.9, 1.5, 40.0
    atoms = Atoms("LiH", positions=[[0, 0, 0], [distance, 0, 0]], cell=[side] * 3, pbc=True)
    charges = torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = energy(atoms, charges, Splitting.gaussian(sigma, 1e-10)).item()
    pair = -math.erf(distance / (2 * sigma)) / distance
    images = -2 * math.pi * distance**2 / (3 * side**3)
    assert found == pytest.approx(COULOMB_EV_A * (pair + images), rel=2e-5)


def test_matrix_reproduces_the_energy_and_is_positive():
    structures = [disordered(0), disordered(1, (2, 1, 1))]
    split = Splitting.gaussian(0.8, 1e-8)
    graph = batch_graphs([build_graph(atoms, 3.0) for atoms, _ in structures])
    charges = torch.cat([q for _, q in structures])
    layout = layout_of(graph)
    matrix = gaussian_matrix(graph, layout, split)
    padded = layout.pad(charges)
    energies = 0.5 * torch.einsum("gi,gij,gj->g", padded, matrix, padded)
    self_energy = COULOMB_EV_A * split.alpha / math.sqrt(math.pi) * (padded**2).sum(dim=1)
    expected = ewald_energy(charges, graph, edges_of(graph), split) + self_energy
    torch.testing.assert_close(energies, expected, rtol=1e-10, atol=0)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9


def test_energy_of_a_charged_cell_does_not_depend_on_the_splitting():
    atoms, charges = disordered(6)
    charges = charges + 0.1
    values = [energy(atoms, charges, Splitting.point(cutoff, 1e-12)) for cutoff in (3.0, 5.0)]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-9)


def test_neutralise_by_graph():
    graph = batch_graphs([build_graph(disordered(0)[0], 3.0), build_graph(disordered(1, (2, 1, 1))[0], 3.0)])
    charges = neutralise(torch.arange(24, dtype=torch.float64), graph)
    assert charges[:8].sum().abs() < 1e-12
    assert charges[8:].sum().abs() < 1e-12


@pytest.mark.parametrize(
    "make",
    [lambda: Splitting.point(0.0, 1e-8), lambda: Splitting.point(4.0, 2.0), lambda: Splitting.gaussian(-1, 1e-8)],
)
def test_impossible_splittings_are_refused(make):
    with pytest.raises(UserError, match=r"electrostatics\."):
        make()
