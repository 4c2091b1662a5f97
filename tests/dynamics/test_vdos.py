"""Densities of states from molecular dynamics of a harmonic crystal, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlffx.dynamics.modes import commensurate_spectrum
from mlffx.dynamics.production import run_trajectory
from mlffx.dynamics.spectrum import area, compare, moment, wasserstein
from mlffx.dynamics.trajectory import Schedule, Trajectory
from mlffx.dynamics.vdos import (
    bootstrap_weights,
    frequency_grid,
    lag_window,
    segment_length,
    undo_verlet,
    velocity_spectrum,
)
from mlffx.errors import UserError

pytestmark = pytest.mark.usefixtures("single_thread")
RESOLUTION = 30.0


@pytest.fixture(scope="module")
def expected(springs, harmonic_run):
    length = segment_length(RESOLUTION, harmonic_run.sample_step, len(harmonic_run.velocities))
    return commensurate_spectrum(
        springs.force_constants, springs.masses, springs.numbers, length, harmonic_run.sample_step
    )


@pytest.mark.parametrize("method", ["welch", "vacf"])
def test_harmonic_dynamics_has_the_harmonic_density_of_states(springs, harmonic_run, expected, method):
    found = velocity_spectrum(harmonic_run, RESOLUTION, method)
    assert area(found.grid, found.total) == pytest.approx(3 * len(springs.supercell), rel=1e-9)
    for element in ("H", "Li"):
        assert area(found.grid, found.density[element]) == pytest.approx(3 * 8, rel=1e-9)
    result = compare(found, expected)
    for key in ("total", "H", "Li"):
        assert result[f"w1_{key}_cm1"] < 0.3 * RESOLUTION
        assert abs(result[f"mean_shift_{key}_cm1"]) < 4 * result[f"mean_shift_{key}_sigma_cm1"]
        assert result[f"mean_shift_{key}_sigma_cm1"] < 6


def test_peaks_are_where_the_modes_are_with_their_width(harmonic_run, expected):
    found = velocity_spectrum(harmonic_run, RESOLUTION)
    strongest = expected.grid[expected.total.argmax()]
    near = np.abs(found.grid - strongest) < 30
    assert found.grid[near][found.total[near].argmax()] == pytest.approx(strongest, abs=found.grid[1])
    assert found.resolution == pytest.approx(RESOLUTION, rel=0.02)


def test_welch_equals_autocorrelation(harmonic_run):
    welch, vacf = (velocity_spectrum(harmonic_run, RESOLUTION, method) for method in ("welch", "vacf"))
    assert wasserstein(welch.grid, welch.total, vacf.total) < 0.1
    assert np.abs(welch.total - vacf.total).max() < 0.02 * welch.total.max()


def white_noise(n_samples, n_replicas, n_atoms, seed=0):
    v = np.random.default_rng(seed).standard_normal((n_samples, n_replicas, n_atoms, 3)).astype(np.float32)
    empty = np.zeros((0, n_replicas, n_atoms, 3))
    energies = np.zeros((n_samples, n_replicas))
    numbers = np.full(n_atoms, 6)
    return Trajectory(v, empty, empty, energies, energies, np.full(n_atoms, 12.0), numbers, 1.0, 1.0, None)


def test_lag_window_is_half_a_window_and_the_grid_covers_nyquist():
    window = lag_window(64)
    assert window[0] == 1 and window[-1] < 1e-3 and (np.diff(window) < 0).all()
    assert frequency_grid(64, 2.0)[-1] == pytest.approx(33356.41 / 4, rel=1e-6)


@pytest.mark.parametrize(("replicas", "samples"), [(12, 1000), (2, 6000)])
def test_bootstrap_errors_are_the_scatter_of_repeated_runs(replicas, samples):
    measure = moment(1.0)
    values, errors = [], []
    for seed in range(40):
        found = velocity_spectrum(
            white_noise(samples, replicas, 4, seed), 600.0, n_bootstrap=60, verlet_correction=False
        )
        value, error = found.estimate(measure)
        values.append(value)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_errors_of_few_replicas_are_honest(harmonic_run):
    """24 runs of 4 replicas: their scatter is the error that each of them states."""
    values, errors = [], []
    for first in range(0, 96, 4):
        part = replace(harmonic_run, velocities=harmonic_run.velocities[:, first : first + 4])
        value, error = velocity_spectrum(part, 2 * RESOLUTION, n_bootstrap=60).estimate(moment(1.0))
        values.append(value)
        errors.append(error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.45)


def test_bootstrap_weights_are_paired_and_sum_to_one():
    first, second = (bootstrap_weights(8, 3, 50, 4) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.allclose(first.sum(axis=(1, 2)), 1)
    assert np.ptp(first, axis=2).max() == 0  # replicas are drawn whole
    assert np.ptp(bootstrap_weights(2, 6, 50, 4), axis=2).max() > 0


def test_verlet_shift_is_undone(springs, tmp_path):
    """A time step of 2 fs moves 2000 cm-1 by more than 10 cm-1; the corrected spectrum has the moments of theory."""
    schedule = Schedule(300.0, 2.0, 200, 1000, 2, 100, 48, thermostat_time=40.0)
    coarse = run_trajectory(springs.potential, springs.supercell, springs.masses, schedule, tmp_path)
    length = segment_length(40.0, coarse.sample_step, len(coarse.velocities))
    theory = commensurate_spectrum(springs.force_constants, springs.masses, springs.numbers, length, coarse.sample_step)
    seen = velocity_spectrum(coarse, 40.0, verlet_correction=False)
    top = theory.grid > 1600

    def high(s):
        return moment(1.0)(s.grid[top], s.density["H"][top])

    assert high(seen) - high(theory) > 10
    assert high(velocity_spectrum(coarse, 40.0)) == pytest.approx(high(theory), abs=5)
    moved = undo_verlet(seen, coarse.time_step)
    assert area(moved.grid, moved.total) == pytest.approx(area(seen.grid, seen.total), rel=1e-9)


def test_short_runs_and_unknown_methods_are_refused(harmonic_run):
    with pytest.raises(UserError, match=r"ps of production resolve .* run at least"):
        velocity_spectrum(harmonic_run, 1.0)
    with pytest.raises(UserError, match="did you mean 'welch'"):
        velocity_spectrum(harmonic_run, method="welsh")


def test_a_spectrum_can_stand_for_a_primitive_cell(harmonic_run):
    found = velocity_spectrum(harmonic_run, RESOLUTION).counted_as({"H": 1.0, "Li": 1.0})
    assert area(found.grid, found.total) == pytest.approx(6.0, rel=1e-9)
    assert found.sigma("H").max() > 0 and found.sigma().max() > found.sigma("H").min()
    assert replace(found, samples=None).estimate(area)[1] == 0
