"""What moves LO at Gamma, against the formula of a diatomic crystal."""

import pytest
from springs import rocksalt

from mlffx.lattice import Phonons, autodiff
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.nac import plasma_frequency, reference_nac
from mlffx.lattice.sensitivity import lo_sensitivity


def test_lo_moves_as_the_formula_says():
    springs, crystal = rocksalt()
    constants, nac = autodiff(springs, crystal, 2), reference_nac(crystal, "lih")
    deuteride = masses_of(crystal.numbers, {"Li": "7Li", "H": "D"})
    for masses in (None, deuteride):
        phonons = Phonons(constants, masses, nac)
        found = lo_sensitivity(phonons)
        assert found is not None
        plasma = plasma_frequency(crystal, nac, phonons.masses)
        assert found.lo**2 == pytest.approx(found.to**2 + plasma**2, rel=1e-5)
        one_percent = 0.01 * plasma**2 / found.lo
        assert found.per_percent_charge == pytest.approx(one_percent, rel=1e-3)
        assert found.per_percent_dielectric == pytest.approx(-one_percent / 2, rel=1e-3)
        assert found.per_percent_lattice == pytest.approx(-1.5 * one_percent, rel=1e-3)
        assert nac.uncertainty is not None
        charge, dielectric = nac.uncertainty
        expected = 100 * one_percent * (charge**2 + dielectric**2 / 4) ** 0.5
        assert found.sigma_inputs == pytest.approx(expected, rel=1e-3)
    assert lo_sensitivity(Phonons(constants)) is None
