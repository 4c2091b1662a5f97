"""Sums over neighbours by matrix products equal sums over edges, in both layouts and all derivatives."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from cases import rattled

from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.models.neighbourhood import Neighbourhood
from mlffx.models.radial import segment_sum

EQUAL = [rattled(bulk("C", "diamond", a=3.57, cubic=True), seed) for seed in range(3)]
MIXED = [bulk("C", "diamond", a=3.57), EQUAL[0], Atoms("HF", [[0, 0, 0], [0.9, 0, 0]], cell=[9, 9, 9], pbc=True)]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("structures", [EQUAL, MIXED], ids=["equal sizes", "mixed sizes"])
def test_sum_equals_sum_over_edges(structures: list[Atoms], dense: bool) -> None:
    torch.manual_seed(0)
    graph = batch_graphs([build_graph(atoms, 3.0) for atoms in structures])
    edges = edges_of(graph)
    values = torch.randn(len(edges.receiver), 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(graph.num_nodes, 7, dtype=torch.float64, requires_grad=True)
    near = Neighbourhood(graph, edges, dense=dense)
    fast = near.sum(near.weights(values), x)
    plain = segment_sum(values.unsqueeze(-1) * x[edges.sender].unsqueeze(1), edges.receiver, len(x))
    torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("dense", [True, False])
def test_second_derivatives(dense: bool) -> None:
    graph = batch_graphs([build_graph(bulk("C", "diamond", a=3.57), 1.6)])
    edges = edges_of(graph)
    near = Neighbourhood(graph, edges, dense=dense)
    values = torch.randn(len(edges.receiver), 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    function = lambda w, x: (near.sum(near.weights(w), x) ** 2).sum()  # noqa: E731
    assert torch.autograd.gradcheck(function, (values, x))
    assert torch.autograd.gradgradcheck(function, (values, x))


def test_layout_is_chosen_by_size() -> None:
    small = batch_graphs([build_graph(EQUAL[0], 4.0)])
    large = batch_graphs([build_graph(EQUAL[0].repeat(3), 2.0)])
    assert Neighbourhood(small, edges_of(small)).dense
    assert not Neighbourhood(large, edges_of(large)).dense
