"""Names of modes at the points where experiments list them."""

from __future__ import annotations

import numpy as np
import pytest
from springs import diamond, rocksalt

from mlffx.lattice import force_constants as fc
from mlffx.lattice import paths
from mlffx.lattice.branches import (
    branch_frequencies,
    branches,
    labelled_frequencies,
    longitudinal_fractions,
    match_branch,
    measured_frequency,
)
from mlffx.lattice.nac import isotropic
from mlffx.lattice.phonons import Phonons


@pytest.fixture(scope="module")
def carbon() -> Phonons:
    springs, crystal = diamond()
    return Phonons(fc.autodiff(springs, crystal, 4))


@pytest.fixture(scope="module")
def hydride() -> Phonons:
    springs, crystal = rocksalt()
    return Phonons(fc.autodiff(springs, crystal, 4), nac=isotropic(crystal, {3: 1.0, 1: -1.0}, 3.61, "table"))


def test_diamond_has_the_names_of_the_tables(carbon):
    named = labelled_frequencies(carbon)
    assert set(named) == {"GAMMA", "X", "L", "W", "K"}
    assert set(named["GAMMA"]) == {"LTO"}
    assert set(named["X"]) == {"TA", "LA", "TO"}
    assert set(named["L"]) == {"TA", "LA", "TO", "LO"}
    assert set(named["W"]) == {"TA", "LA", "TO"}
    assert set(named["K"]) == {"TA_1", "TA_2", "LA", "TO_1", "TO_2", "LO"}
    for label, q in paths.labelled_points(carbon.crystal).items():
        found = branches(carbon, q)
        assert sum(b.degeneracy for b in found) == (3 if label == "GAMMA" else 6)
        assert [b.frequency for b in found] == sorted(b.frequency for b in found)


def test_polarisations_at_x_of_diamond(carbon):
    found = {b.name: b for b in branches(carbon, paths.point(carbon.crystal, "X"))}
    assert {name: b.degeneracy for name, b in found.items()} == {"TA": 2, "LA": 2, "TO": 2}
    assert found["LA"].longitudinal == pytest.approx(1) and found["TA"].longitudinal == pytest.approx(0, abs=1e-9)


def test_rocksalt_splits_at_gamma_only_with_charges(hydride):
    split = branch_frequencies(hydride, [0, 0, 0])
    assert set(split) == {"TO", "LO"} and split["LO"] > split["TO"]
    bare = branch_frequencies(Phonons(hydride.force_constants), [0, 0, 0])
    assert bare == {"TO": pytest.approx(split["TO"], rel=1e-6)}
    assert set(labelled_frequencies(hydride)["L"]) == {"TA", "LA", "TO", "LO"}


def test_branches_are_continuous_along_a_line(hydride):
    along = [
        branch_frequencies(hydride, paths.to_primitive(hydride.crystal, (x, 0, 0))) for x in np.linspace(0.05, 1, 20)
    ]
    for name in ("TA", "LA", "TO", "LO"):
        assert np.abs(np.diff([b[name] for b in along])).max() < 120
        assert np.abs(np.diff([b[name] for b in along], n=2)).max() < 40
    start = branch_frequencies(hydride, [0, 0, 0])
    assert along[0]["LO"] == pytest.approx(start["LO"], rel=0.01)
    assert along[0]["TO"] == pytest.approx(start["TO"], rel=0.01)


def test_degenerate_modes_are_rotated_until_the_fraction_is_definite():
    mixed = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0].astype(complex)
    vectors = mixed[:, None, :]  # three modes of one atom, any orthogonal basis
    np.testing.assert_allclose(
        longitudinal_fractions(np.ones(3), vectors, np.array([0, 0.6, 0.8])), [0, 0, 1], atol=1e-12
    )


def test_measured_points_find_their_branch(carbon, hydride):
    named = labelled_frequencies(carbon)
    assert measured_frequency(carbon, (1, 0, 0), "LA") == pytest.approx(named["X"]["LA"])
    assert measured_frequency(carbon, (1, 0, 0), "LO") == pytest.approx(named["X"]["LA"])  # one level
    assert measured_frequency(carbon, (0, 0, 0), "TO") == pytest.approx(named["GAMMA"]["LTO"])
    ascending = [measured_frequency(hydride, (0.75, 0.75, 0), f"mode_{k}") for k in range(1, 7)]
    assert ascending == sorted(ascending)
    assert measured_frequency(hydride, (0.75, 0.75, 0), "mode_7") is None
    assert match_branch({"TA_1": 1.0, "TA_2": 2.0}, "TA") is None
