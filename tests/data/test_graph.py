"""Graphs hold every image within the cutoff, and batching changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from mlffx.data import keys
from mlffx.data.graph import atoms_per_graph, batch_graphs, build_graph, edges_of, n_graphs, sum_by_graph
from mlffx.errors import UserError


def structures() -> list[Atoms]:
    diamond = bulk("C", "diamond", a=3.56, cubic=True)
    primitive = bulk("C", "diamond", a=3.56)
    salt = bulk("LiH", "rocksalt", a=4.02).repeat((2, 1, 1))
    for atoms in (diamond, primitive, salt):
        atoms.rattle(0.1, seed=1)
        atoms.positions += [9.0, -3.0, 0.0]  # not wrapped
    return [diamond, primitive, salt]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("cutoff", [2.0, 5.0])
def test_edges_are_those_of_ase(index: int, cutoff: float) -> None:
    atoms = structures()[index]
    edges = edges_of(batch_graphs([build_graph(atoms, cutoff)]))
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    ours = np.column_stack([edges.receiver, edges.sender, edges.vectors.numpy().round(8)])
    theirs = np.column_stack([i, j, vectors.round(8)])
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=1e-7)
    assert (np.diff(edges.receiver) >= 0).all()


def test_several_images_and_the_atom_itself() -> None:
    atoms = bulk("C", "diamond", a=3.56)  # images of the atom itself 2.52 A away
    edges = edges_of(batch_graphs([build_graph(atoms, 2.6)]))
    assert len(edges.sender) == 2 * (4 + 12)
    assert (edges.sender == edges.receiver).sum() == 24


def test_batch_is_the_structures_side_by_side() -> None:
    graphs = [build_graph(atoms, 3.0) for atoms in structures()]
    batch = batch_graphs(graphs)
    assert n_graphs(batch) == 3
    assert atoms_per_graph(batch).tolist() == [8, 2, 4]
    together = edges_of(batch)
    apart = [edges_of(batch_graphs([graph])) for graph in graphs]
    torch.testing.assert_close(together.vectors, torch.cat([edges.vectors for edges in apart]))
    offsets = torch.tensor([0, 8, 10]).repeat_interleave(torch.tensor([len(edges.sender) for edges in apart]))
    assert torch.equal(together.sender, torch.cat([edges.sender for edges in apart]) + offsets)
    assert torch.equal(sum_by_graph(batch[keys.NUMBERS].double(), batch), torch.tensor([48.0, 12.0, 8.0]).double())


def test_sites_travel_with_the_graph() -> None:
    atoms = structures()[0]
    graph = build_graph(atoms, 2.0, sites=atoms.positions + 1.0, site_type=np.arange(8) % 2)
    batch = batch_graphs([graph, graph])
    assert batch[keys.SITES].dtype == torch.float64
    torch.testing.assert_close(batch[keys.SITES], batch[keys.POSITIONS] + 1.0)
    assert batch[keys.SITE_TYPE].tolist() == [0, 1] * 8


def test_lengths_differentiate_like_lengths() -> None:
    batch = batch_graphs([build_graph(atoms, 2.5) for atoms in structures()])
    batch[keys.POSITIONS].requires_grad_(True)
    batch[keys.CELL].requires_grad_(True)

    def total(positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        moved = batch.clone()
        moved[keys.POSITIONS], moved[keys.CELL] = positions, cell
        return (edges_of(moved).lengths ** 3).sum()

    assert torch.autograd.gradcheck(total, (batch[keys.POSITIONS], batch[keys.CELL]))


def test_within_keeps_the_shorter_edges() -> None:
    edges = edges_of(batch_graphs([build_graph(structures()[0], 3.0)]))
    near = edges.within(2.0)
    assert len(near.sender) == int((edges.lengths < 2.0).sum()) < len(edges.sender)
    assert near.lengths.max() < 2.0
    assert edges.within(3.0) is edges


def test_graph_does_not_share_memory_with_the_structure() -> None:
    atoms = structures()[0]
    graph = build_graph(atoms, 2.0)
    before = graph[keys.POSITIONS].clone()
    atoms.positions += 1.0
    torch.testing.assert_close(graph[keys.POSITIONS], before)


def test_cutoff_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"model.cutoff: a cutoff of 50 A gives about 92\d\d\d neighbours an atom; take one"
    ):
        build_graph(structures()[0], 50.0)


def test_molecule_without_a_cell() -> None:
    edges = edges_of(batch_graphs([build_graph(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), 5.0)]))
    np.testing.assert_allclose(edges.lengths, [1.1, 1.1])
