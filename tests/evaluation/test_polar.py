"""Tables of polar crystals, and scalars of densities of states against one oscillator."""

from __future__ import annotations

import numpy as np
import pytest
from twin_runs import made_up_spectra

from mlffx.evaluation.moments import moments
from mlffx.evaluation.polar import moments_table, sensitivity_table
from mlffx.lattice.sensitivity import LoSensitivity


def test_moments_of_one_oscillator() -> None:
    spectra = made_up_spectra(n_members=2)
    omega = 1000.0
    spectra.element_dos["C"] = np.where(spectra.grid == omega, 1.0, 0.0)[None].repeat(2, axis=0)
    found = moments(spectra, {"C": 12.0})["C"]
    assert found.mean_cm1 == pytest.approx((omega, 0.0)) and found.rms_cm1 == pytest.approx((omega, 0.0))
    assert found.kinetic_meV[0] == pytest.approx(0.75 * 123.984, rel=1e-4)  # 1000 cm-1 are 123.984 meV
    hbar, amu = 1.054571817e-34, 1.66053906660e-27
    square = hbar / (2 * 12 * amu * 2 * np.pi * 2.99792458e10 * omega) * 1e20
    assert found.square_displacement_A2[0] == pytest.approx(square, rel=1e-5)
    (table,) = moments_table({"natural": {"C": found}})
    assert table.rows[0][:2] == ["C in natural", "1000.0 ± 0.0"]
    assert moments_table({}) == []


def test_the_table_of_lo_says_what_it_rests_on() -> None:
    (table,) = sensitivity_table({"7LiD": LoSensitivity(450.0, 860.0, 6.2, -3.1, -9.3, None)}, 4.017)
    assert table.rows == [["7LiD", "450.0", "860.0", "+6.2", "-3.1", "-9.3", ""]]
    assert any("4.017" in head for head in table.heads) and sensitivity_table({}, 4.017) == []
