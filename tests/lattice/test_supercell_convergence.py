"""Convergence studies find the error they are meant to find."""

from __future__ import annotations

import numpy as np
from springs import diamond

from mlffx.lattice import convergence
from mlffx.lattice import force_constants as fc
from mlffx.lattice.phonons import Phonons


def test_displacement_error_grows_with_its_square():
    springs, crystal = diamond()
    matrix = fc.conventional_matrix(crystal, 2)
    plain = convergence.displacement_convergence(springs, crystal, matrix, (0.01, 0.02, 0.04), extrapolate=False)
    np.testing.assert_allclose(plain.errors()[1:] / plain.errors()[:-1], 4, rtol=0.1)
    better = convergence.displacement_convergence(springs, crystal, matrix, (0.01, 0.04))
    assert better.errors()[1] < 0.05 * plain.errors()[2]
    assert better.converged_at(1e-2) == 0.01


def test_supercells_hold_the_range_of_the_springs():
    springs, crystal = diamond()
    found = convergence.supercell_convergence(springs, crystal, (1, 2, 3), solve=fc.autodiff)
    # One conventional cell cannot tell second neighbours apart; two can.
    assert found.errors()[0] > 10 and found.errors()[1] < 1e-3
    assert found.converged_at(1.0) == 2
    assert "X TA" in found.frequencies


def test_zero_point_energy_converges_with_the_mesh():
    springs, crystal = diamond()
    phonons = Phonons(fc.autodiff(springs, crystal, 3))
    found = convergence.mesh_convergence(phonons, (3, 7, 13))
    errors = found.errors()
    assert errors[0] > errors[1] > errors[2] == 0
    assert found.converged_at(float(errors[:2].mean())) == 7
