"""The lean equivariant operations against e3nn's general ones."""

import math

import numpy as np
import pytest
import torch
from ase.build import bulk
from e3nn import o3
from reference import e3nn_convolution

from mlffx.data.graph import Edges, batch_graphs, build_graph, edges_of
from mlffx.models.convolution import SILU_SCALE, Convolution, PathLinear, RadialNetwork, SpeciesConvolution
from mlffx.models.edge_table import EdgeTable
from mlffx.models.irreps import Irrep, SphericalHarmonics, dimension, natural
from mlffx.models.radial import BesselBasis, segment_sum

CUTOFF = 3.0


def random_edges(n_atoms: int, n_edges: int) -> Edges:
    """Edges sorted by receiver; the last atom has none."""
    receiver = torch.randint(n_atoms - 1, (n_edges,)).sort().values
    vectors = torch.randn(n_edges, 3, dtype=torch.float64)
    vectors = vectors / vectors.norm(dim=1, keepdim=True) * (0.5 + 2.4 * torch.rand(n_edges, 1, dtype=torch.float64))
    return Edges(torch.randint(n_atoms, (n_edges,)), receiver, vectors, vectors.norm(dim=1))


def table_of(edges: Edges, n_atoms: int, l_max: int) -> EdgeTable:
    return EdgeTable.of(edges, n_atoms, CUTOFF, BesselBasis(5, CUTOFF), SphericalHarmonics(l_max), torch.float64)


@pytest.mark.parametrize("l_max", range(5))
def test_spherical_harmonics(l_max: int) -> None:
    unit = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), unit, False, "component")
    torch.testing.assert_close(SphericalHarmonics(l_max)(unit.T).T, expected)


@pytest.mark.parametrize(
    ("irreps_in", "irreps_out", "l_max"),
    [
        (natural(1), natural(3), 3),
        (natural(2), natural(2), 2),
        (
            [Irrep(0, 1), Irrep(0, -1), Irrep(1, 1), Irrep(1, -1)],
            [Irrep(0, 1), Irrep(1, -1), Irrep(1, 1), Irrep(0, -1)],
            2,
        ),
    ],
    ids=["natural", "l2", "parity"],
)
def test_convolution(irreps_in: list[Irrep], irreps_out: list[Irrep], l_max: int) -> None:
    torch.manual_seed(0)
    n_atoms, c, n_hidden = 5, 3, 4
    edges = random_edges(n_atoms, 40)
    rectangle = table_of(edges, n_atoms, l_max)
    lean = Convolution(irreps_in, l_max, irreps_out, c, n_hidden).double()
    x = torch.randn(n_atoms, dimension(irreps_in), c, dtype=torch.float64)
    expand = torch.randn(5, n_hidden, dtype=torch.float64)
    radial = BesselBasis(5, CUTOFF)(edges.lengths) @ expand @ lean.weight / math.sqrt(n_hidden)
    expected = e3nn_convolution(lean, radial, x, edges, l_max)
    result = lean(x, rectangle.radial @ expand, 1.0, rectangle)
    for ir, part in zip(lean.irreps_out, result, strict=True):
        paths = [e for e, path in zip(expected, lean.paths, strict=True) if path[2] == ir]
        torch.testing.assert_close(part, torch.cat(paths, dim=2))


@pytest.mark.parametrize("n_species", [1, 3])
def test_species_convolution(n_species: int) -> None:
    torch.manual_seed(0)
    n_atoms, c, n_hidden, l_max = 5, 3, 4, 2
    edges = random_edges(n_atoms, 40)
    rectangle = table_of(edges, n_atoms, l_max)
    lean = SpeciesConvolution(n_species, l_max, c, n_hidden).double()
    mixing = PathLinear(lean.n_paths, c, [2] * (l_max + 1)).double()
    features, species = torch.randn(n_species, c, dtype=torch.float64), torch.arange(n_atoms) % n_species
    expand = torch.randn(5, n_hidden, dtype=torch.float64)
    radial = BesselBasis(5, CUTOFF)(edges.lengths) @ expand @ lean.weight / math.sqrt(n_hidden)
    expected = mixing(e3nn_convolution(lean, radial, features[species].unsqueeze(1), edges, l_max), 0.3)
    result = lean(features, mixing.scaled(0.3), rectangle.radial @ expand, 1.0, species, rectangle)
    torch.testing.assert_close(torch.cat(result, dim=1), torch.cat(expected, dim=1))


def test_radial_network_derivatives() -> None:
    """Up to the third, against torch's own."""
    network, x = RadialNetwork(3, [4, 5]).double(), torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,)) and torch.autograd.gradgradcheck(network, (x,))
    plain = x
    for k, weight in enumerate(network.weights):
        plain = torch.nn.functional.silu(plain @ weight * (SILU_SCALE if k else 1.0) / math.sqrt(len(weight)))
    thirds = []
    for y in (network(x), plain):
        for _ in range(3):
            (y,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
        thirds.append(y)
    torch.testing.assert_close(thirds[0], thirds[1])


def test_gather_and_its_gradient() -> None:
    edges = random_edges(5, 40)
    table = table_of(edges, 5, 1)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def sums(x: torch.Tensor) -> torch.Tensor:
        return table.harmonics @ table.gather(x)

    y = o3.spherical_harmonics([0, 1], edges.vectors, True, "component")
    expected = segment_sum(y.unsqueeze(2) * x[edges.sender].unsqueeze(1), edges.receiver, 5)
    torch.testing.assert_close(sums(x), expected)
    assert torch.autograd.gradcheck(sums, (x,)) and torch.autograd.gradgradcheck(sums, (x,))


@pytest.mark.parametrize("repetitions", [1, 2])
@pytest.mark.parametrize("size", [0.0, 0.05])
def test_pairs_of_a_crystal(repetitions: int, size: float) -> None:
    """Every pair of neighbours is found once, also where atoms are neighbours of their own images."""
    atoms = bulk("LiH", "rocksalt", a=4.0) * repetitions
    atoms.positions += np.random.default_rng(0).normal(scale=size, size=atoms.positions.shape)
    edges = edges_of(batch_graphs([build_graph(atoms, CUTOFF)]))
    table = table_of(edges, len(atoms), 1)
    n_edges = len(edges.sender)
    assert table.slots_of_pair.shape == (n_edges // 2, 2)
    assert len(table.slots_of_pair.unique()) == n_edges
    expected = BesselBasis(5, CUTOFF)(edges.lengths)
    found = table.spread(table.radial)
    y = o3.spherical_harmonics([0, 1], edges.vectors, True, "component")
    sums = segment_sum(y.unsqueeze(2) * expected.unsqueeze(1), edges.receiver, len(atoms))
    torch.testing.assert_close(table.harmonics @ found, sums)
