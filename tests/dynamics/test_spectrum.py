"""Measures of densities of states on shapes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.dynamics.spectrum import Spectrum, area, broaden, compare, difference, moment, quantum_averages, wasserstein
from mlffx.errors import UserError

GRID = np.linspace(0.0, 2000.0, 2001)


def peak(centre, sigma=8.0, states=3.0):
    shape = np.exp(-0.5 * ((GRID - centre) / sigma) ** 2)
    return states * shape / np.trapezoid(shape, GRID)


def spectrum(centre, samples=None):
    return Spectrum(GRID, {"H": peak(centre)}, {"H": 1.0}, samples)


def test_moments_of_a_gaussian():
    assert moment(1.0)(GRID, peak(900.0, 30.0)) == pytest.approx(900.0, abs=1e-6)
    assert moment(2.0)(GRID, peak(900.0, 30.0)) == pytest.approx(np.hypot(900.0, 30.0), abs=1e-6)
    assert area(GRID, peak(900.0)) == pytest.approx(3.0)


def test_wasserstein_distance_of_a_shift_is_the_shift():
    assert wasserstein(GRID, peak(700.0), peak(731.0)) == pytest.approx(31.0, abs=1e-3)
    assert wasserstein(GRID, peak(700.0), 2 * peak(700.0)) == pytest.approx(0.0, abs=1e-9)
    half = 0.5 * (peak(700.0) + peak(900.0))
    assert wasserstein(GRID, peak(700.0), half) == pytest.approx(100.0, abs=1e-3)


def test_broadening_keeps_states_and_adds_widths_in_quadrature():
    wide = broaden(spectrum(1000.0), 40.0, 0.02)  # 40 + 0.02 * 1000 = 60 cm-1 full width
    assert area(GRID, wide.total) == pytest.approx(3.0, rel=1e-6)
    sigma = np.sqrt(moment(2.0)(GRID, wide.total) ** 2 - moment(1.0)(GRID, wide.total) ** 2)
    assert sigma == pytest.approx(np.hypot(8.0, 60.0 / 2.3548), rel=0.01)
    with pytest.raises(UserError, match="positive width"):
        broaden(spectrum(1000.0), 0.0)


def test_quantum_averages_of_an_einstein_crystal():
    cm1, kelvin, mass = 800.0, 300.0, 1.008
    quantum = cm1 * 1.239841984e-4  # h c w, eV
    coth = 1 / np.tanh(quantum / (2 * 8.617333262e-5 * kelvin))
    sharp = Spectrum(GRID, {"H": peak(cm1, 2.0)}, {"H": 1.0})
    found = quantum_averages(sharp, "H", kelvin, mass)
    assert found["kinetic_energy_meV"][0] == pytest.approx(750 * quantum * coth, rel=1e-4)
    omega = 2 * np.pi * cm1 * 2.99792458e10  # rad/s
    u2 = 3 * 1.054571817e-34 / (2 * mass * 1.66053906660e-27 * omega) * coth * 1e20
    assert found["mean_square_displacement_A2"][0] == pytest.approx(u2, rel=1e-4)
    assert found["einstein_cm1"][0] == pytest.approx(cm1, rel=1e-4)
    ground = quantum_averages(sharp, "H", 0.0, mass)["kinetic_energy_meV"][0]
    assert ground == pytest.approx(750 * quantum, rel=1e-4)
    hot = quantum_averages(sharp, "H", 30000.0, mass)["kinetic_energy_meV"][0]
    assert hot == pytest.approx(1500 * 8.617333262e-5 * 30000, rel=1e-3)  # 3/2 kT
    with pytest.raises(UserError, match="elements: H"):
        quantum_averages(sharp, "D", 20.0)


def test_a_density_of_states_of_the_lattice_can_be_measured():
    grid = np.linspace(-20.0, 2000.0, 2021)
    projected = {"H": np.interp(grid, GRID, peak(900.0)), "Li": np.interp(grid, GRID, peak(300.0, states=6.0))}
    found = Spectrum.of_lattice(grid, projected)
    assert found.counts == pytest.approx({"H": 1.0, "Li": 2.0}) and found.grid[0] == 0
    assert quantum_averages(found, "H", 20.0)["einstein_cm1"] == pytest.approx((900.0, 0.0), abs=0.1)


def test_paired_errors_cancel_what_two_runs_share():
    rng = np.random.default_rng(0)
    places = 800 + 20 * rng.standard_normal(200)
    first = spectrum(800.0, {"H": np.array([peak(p) for p in places])})
    second = spectrum(810.0, {"H": np.array([peak(p + 10) for p in places])})
    found = compare(first, second)
    assert found["mean_shift_total_cm1"] == pytest.approx(-10.0, abs=1e-6)
    assert found["mean_shift_total_sigma_cm1"] < 1e-6
    assert first.estimate(moment(1.0))[1] == pytest.approx(20.0, rel=0.15)
    assert area(GRID, difference(first, second).total) == pytest.approx(0.0, abs=1e-9)


def test_spectra_on_different_grids_are_refused():
    with pytest.raises(UserError, match="different grids"):
        compare(spectrum(500.0), Spectrum(GRID[:-1], {"H": peak(500.0)[:-1]}, {"H": 1.0}))
