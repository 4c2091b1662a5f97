"""Force constants of a file as a potential: written, read, and the same in another supercell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice.expansion import load_potential_of
from mlffx.lattice.force_constants import autodiff
from mlffx.lattice.phonons import Phonons
from mlffx.models.base import build_model
from mlffx.potentials.network import NetworkPotential


@pytest.fixture
def springs():
    """A second-order model of diamond with known coefficients, range 3 A."""
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56)
    spec = {"name": "force_constants", "species": [6], "crystal": crystal.to_arrays(), "cutoff": 2.7, "orders": []}
    model = build_model(spec)
    model.coefficients.data = torch.linspace(-1.0, 2.0, model.n_features, dtype=torch.float64)
    return crystal, NetworkPotential(model, torch.zeros(1), 1.0, spec)


def test_a_phonopy_file_comes_back_as_a_potential(springs, tmp_path):
    crystal, potential = springs
    written = autodiff(potential, crystal, 3 * np.eye(3, dtype=int))
    Phonons(written).save(tmp_path / "phonopy_params.yaml")
    again = load_potential_of(tmp_path / "phonopy_params.yaml")
    for n in (3, 4):
        matrix = n * np.eye(3, dtype=int)
        expected, found = autodiff(potential, crystal, matrix), autodiff(again, crystal, matrix)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_a_supercell_too_small_for_its_force_constants_is_refused(springs, tmp_path):
    crystal, potential = springs
    Phonons(autodiff(potential, crystal, 2 * np.eye(3, dtype=int))).save(tmp_path / "phonopy_params.yaml")
    with pytest.raises(UserError, match="larger supercell"):
        load_potential_of(tmp_path / "phonopy_params.yaml")
