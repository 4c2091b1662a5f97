"""Force constants against distance, of springs whose ends are known."""

import numpy as np
import pytest
from springs import Springs, rocksalt

from mlffx.data.crystal import Crystal
from mlffx.lattice import autodiff, conventional_matrix
from mlffx.lattice.decay import shell_norms
from mlffx.potentials.ionic_twin import IonicTwin


def test_springs_end_where_they_end():
    springs, crystal = rocksalt()
    distance, norm = shell_norms(autodiff(springs, crystal, conventional_matrix(crystal, 2)))
    a = 4.017
    np.testing.assert_allclose(distance, [a / 2, a / 2**0.5, a * 0.75**0.5], atol=1e-6)
    assert norm[:2] == pytest.approx([4.0, 0.5], rel=1e-6)  # a spring k at rest: |k n n| = k
    assert norm[2] == pytest.approx(0, abs=1e-9)
    assert isinstance(springs, Springs)
    assert len(shell_norms(autodiff(springs, crystal, conventional_matrix(crystal, 2)), reach=3.0)[0]) == 2


def test_charges_leave_a_tail_that_falls_with_the_third_power():
    """Dipole-dipole matrices between ions of charge q: sqrt(6) q^2 e^2 / r^3, whatever the direction."""
    crystal, charge = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02), 0.5
    twin = IonicTwin(charge=charge, repulsion={"unlike": (0.0, 0.3), "anion": (0.0, 0.3)})
    distance, norm = shell_norms(autodiff(twin, crystal, conventional_matrix(crystal, 3)))
    expected = 6**0.5 * charge**2 * 14.399645 / distance**3
    assert len(distance) >= 6
    np.testing.assert_allclose(norm[:3], expected[:3], rtol=0.05)  # images of the supercell add a little
