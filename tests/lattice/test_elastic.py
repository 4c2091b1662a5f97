"""Elastic constants against those of springs: c11 = (2 k1 + 4 k2) / a, c12 = c44 = 2 k2 / a for rock salt."""

from __future__ import annotations

import pytest
from springs import Springs, diamond, rocksalt

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import force_constants as fc
from mlffx.lattice.elastic import elastic_constants
from mlffx.lattice.phonons import Phonons
from mlffx.units import EV_A3_TO_GPA


def test_rock_salt_springs():
    springs, crystal = rocksalt()
    found = elastic_constants(Phonons(fc.autodiff(springs, crystal, 4)))
    unit = EV_A3_TO_GPA / 4.017
    assert found["c11"] == pytest.approx((2 * 4.0 + 4 * 0.5) * unit, rel=1e-3)
    assert found["c44"] == pytest.approx(2 * 0.5 * unit, rel=1e-3)
    assert found["c12"] == pytest.approx(2 * 0.5 * unit, rel=1e-2)


def test_masses_do_not_matter_but_stability_does():
    springs, crystal = diamond()
    constants = fc.autodiff(springs, crystal, 4)
    natural, heavy = Phonons(constants), Phonons(constants, masses=[13.0, 13.0])
    assert elastic_constants(natural) == pytest.approx(elastic_constants(heavy), rel=1e-6)
    soft = fc.autodiff(Springs([(3.56 * 3**0.5 / 4, 20.0), (3.56 / 2**0.5, -2.0)]), crystal, 4)
    with pytest.raises(UserError, match="no stable"):
        elastic_constants(Phonons(soft))


def test_only_cubic_crystals():
    crystal = Crystal.from_prototype("wurtzite", ["Zn", "S"], 3.8)
    springs = Springs([(2.33, 5.0), (3.8, 1.0)])
    with pytest.raises(UserError, match="cubic"):
        elastic_constants(Phonons(fc.autodiff(springs, crystal, 2)))
