from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from cases import CRYSTALS, Case, close
from suite import ModelSuite

from mlffx.data import keys
from mlffx.data.graph import edges_of
from mlffx.errors import UserError
from mlffx.models.bpnn import BehlerParrinello
from mlffx.models.symmetry_functions import SymmetryFunctions, exponents, monomials
from mlffx.potentials.base import evaluate
from mlffx.potentials.build import load_potential, save_potential


def triplet_sums(model: BehlerParrinello, case: Case, zetas: tuple[int, ...]) -> np.ndarray:
    """The definitions, by loops over neighbours and pairs of neighbours: [n_atoms, n_features]."""
    graph = case.graph(case.atoms)
    edges, functions = edges_of(graph), model.functions
    element = model.species_index(graph)[edges.sender].tolist()
    x = edges.lengths / model.cutoff
    envelope = (1 - 28 * x**6 + 48 * x**7 - 21 * x**8).unsqueeze(-1)
    g2, g5 = ((basis(edges.lengths) * envelope).numpy() for basis in (functions.radial, functions.angular))
    unit, n_species, rows = (edges.vectors / edges.lengths.unsqueeze(-1)).numpy(), functions.n_species, []
    for i in range(len(case.atoms)):
        near = np.flatnonzero(edges.receiver.numpy() == i)
        radial = np.zeros((n_species, g2.shape[1]))
        angular = np.zeros((n_species, n_species, g5.shape[1], 2, len(zetas)))
        for j in near:
            radial[element[j]] += g2[j]
            for k in near[near != j]:
                cosine = unit[j] @ unit[k]
                values = [[2.0 ** (1 - z) * max(1 + s * cosine, 0.0) ** z for z in zetas] for s in (1, -1)]
                angular[element[j], element[k]] += (g5[j] * g5[k])[:, None, None] * np.array(values)
        parts = [radial.ravel()]
        for a, b in functions.pairs:
            parts += [angular[a, b, :, 0].ravel(), angular[a, b, :, 1].ravel()]
        rows.append(np.concatenate(parts))
    return np.array(rows)


class TestBehlerParrinello(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "bpnn", "n_hidden": [8, 8], "n_radial": 5, "n_angular": 3}

    def test_equals_sums_over_triplets(self, case: Case) -> None:
        """At a shorter cutoff, for the sake of the loops; to the precision that cancellation in (1 - cos)^4 leaves."""
        zetas = (1, 2, 4)
        model = BehlerParrinello(case.potential.model.species, 3.0, n_radial=3, n_angular=2, zetas=zetas)
        graph = case.graph(case.atoms)
        features = model.raw_features(graph, edges_of(graph).within(3.0))
        short = Case(case.crystal, case.potential, case.ideal, case.atoms)
        short.potential.cutoff = 3.0
        close(features, torch.as_tensor(triplet_sums(model, short, zetas)), 1e-12)

    def test_standardised_features(self, case: Case, tmp_path: Path) -> None:
        """Training structures have mean 0 and deviation 1 at most after `fit_features`, also from the checkpoint."""
        model, graph = case.potential.model, case.graph([case.atoms, case.crystal.supercell([2, 2, 2])])
        before = case.energies(case.atoms)
        model.fit_features(graph, edges_of(graph))
        features = evaluate(case.potential, graph, forces=False)[keys.FEATURES]
        for species in range(len(model.species)):
            mine = features[model.species_index(graph) == species]
            assert mine.mean(dim=0).abs().max() < 1e-9
            deviation = mine.std(dim=0)  # below 1 where a function hardly varies
            assert (deviation - 1).max() < 1e-9 and ((deviation - 1).abs() < 1e-9).double().mean() > 0.3
        assert (case.energies(case.atoms) - before).abs() > 1e-6
        save_potential(case.potential, tmp_path / "model.ckpt")
        restored = load_potential(tmp_path / "model.ckpt")
        close(evaluate(restored, graph, forces=False)[keys.FEATURES], features, 1e-12)


def test_number_of_features_for_two_elements() -> None:
    functions = SymmetryFunctions(2, 4.0, n_radial=5, n_angular=3, zetas=(1, 4), start=0.5)
    assert functions.n_features == 2 * 5 + 3 * 3 * 2 * 2


def test_monomials_follow_their_exponents() -> None:
    x = torch.randn(7, 3, dtype=torch.float64)
    expected = torch.stack([(x ** torch.as_tensor(row)).prod(dim=1) for row in exponents(5)], dim=1)
    assert len(exponents(5)) == math.comb(8, 3)
    torch.testing.assert_close(monomials(x, 5), expected)


@pytest.mark.parametrize("options", [{"zetas": [1.5]}, {"zetas": []}, {"start": 5.0}])
def test_impossible_functions_are_refused(options: dict[str, Any]) -> None:
    species = [int(z) for z in CRYSTALS["diamond"].numbers[:1]]
    with pytest.raises(UserError, match=r"zetas|first Gaussian"):
        BehlerParrinello(species, **options)
