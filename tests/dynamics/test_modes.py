"""Normal modes of supercells, and lines of known place and width."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.dynamics.integrate import Noise, Thermostat, advance, start
from mlffx.dynamics.modes import commensurate_q, commensurate_spectrum, mode_groups, normal_modes
from mlffx.dynamics.production import run_trajectory
from mlffx.dynamics.projection import mode_lines, mode_spectrum, oscillator_spectrum
from mlffx.dynamics.spectrum import area, compare, moment
from mlffx.dynamics.trajectory import Schedule, Trajectory
from mlffx.dynamics.vdos import frequency_grid, velocity_spectrum
from mlffx.errors import UserError
from mlffx.lattice.force_constants import finite_displacement
from mlffx.lattice.phonons import Phonons

pytestmark = pytest.mark.usefixtures("single_thread")


def test_supercell_modes_are_the_phonons_at_commensurate_wave_vectors(springs):
    constants = finite_displacement(springs.potential, springs.crystal, 2, symmetrise=False)
    supercell = constants.supercell()
    masses = np.where(supercell.numbers == 1, 1.008, 6.94)
    frequencies, vectors = normal_modes(constants.full(), masses)
    assert np.allclose(vectors.T @ vectors, np.eye(len(vectors)), atol=1e-10)
    phonons = Phonons(constants, [6.94, 1.008])
    expected = np.sort(phonons.frequencies(np.array(list(np.ndindex(2, 2, 2))) / 2).ravel())
    assert np.allclose(np.sort(frequencies)[3:], expected[3:], atol=0.05)
    groups = mode_groups(constants.full(), supercell, springs.crystal, masses)
    for group in groups:
        assert np.abs(phonons.frequencies(group.q)[0] - group.frequency).min() < 0.05
    assert sum(g.vectors.shape[1] for g in groups) == 3 * len(supercell) - 3  # every q equals its own opposite here


@pytest.mark.parametrize("matrix", [[2, 2, 2], [3, 3, 3], [4, 2, 1], [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]])
def test_commensurate_wave_vectors_are_all_there_once(springs, matrix):
    supercell = springs.crystal.supercell(matrix)
    rows = springs.crystal.repetitions(supercell.cell.array)
    found = commensurate_q(supercell, springs.crystal)
    everything = set()
    for q in found:
        assert np.allclose(rows @ q, np.rint(rows @ q), atol=1e-9)
        for one in (q, -q):
            everything.add(tuple(np.round(one % 1.0, 6) % 1.0))
    assert len(everything) == len(supercell) // 2


def test_projections_are_complete_and_normalised(springs):
    """With ±q counted once, pairs count twice."""
    supercell = springs.crystal.supercell([3, 3, 3])
    phi = springs.constants_of(supercell)
    masses = np.where(supercell.numbers == 1, 1.008, 6.94)
    groups = mode_groups(phi, supercell, springs.crystal, masses)
    everything = np.concatenate([g.vectors for g in groups], axis=1)
    assert np.allclose(np.linalg.norm(everything, axis=0), 1)
    assert sum(g.n_modes for g in groups) == 3 * len(supercell) - 3
    assert sum(g.shares().sum() for g in groups) == pytest.approx(3 * len(supercell) - 3)
    frequencies = np.sort(np.repeat([g.frequency for g in groups], [g.n_modes for g in groups]))
    direct = np.sort(normal_modes(phi, masses)[0])[3:]
    assert np.allclose(frequencies, direct, atol=0.5)


def test_harmonic_lines_are_sharp_and_where_they_belong(springs, harmonic_run):
    groups = mode_groups(springs.force_constants, springs.supercell, springs.crystal, springs.masses)
    for line in mode_lines(harmonic_run, groups, 30.0):
        assert line.frequency == pytest.approx(line.harmonic, abs=0.02)
        assert line.linewidth < 0.1


def test_friction_is_read_off_as_a_linewidth(springs):
    """A Langevin oscillator is a damped oscillator: its full width is the friction, 1/(2 pi c tau) in cm-1."""
    time_fs, replicas, every, n_samples = 150.0, 32, 3, 900
    engine = springs.engine(replicas)
    import torch

    mass = torch.as_tensor(springs.masses)
    noise = Noise(3, tuple(range(replicas)))
    thermostat = Thermostat("langevin", 300.0, time_fs, noise)
    state = start(torch.as_tensor(springs.supercell.positions).repeat(replicas, 1, 1), mass, 300.0, noise, engine)
    velocities = np.zeros((n_samples, replicas, len(mass), 3), dtype=np.float32)
    for step in range(-400, n_samples * every):
        state = advance(state, engine, mass, 0.8, thermostat)
        if step >= 0 and step % every == 0:
            velocities[step // every] = state.velocities.numpy()
    nothing = np.zeros((0, replicas, len(mass), 3))
    energies = np.zeros((n_samples, replicas))
    run = Trajectory(
        velocities, nothing, nothing, energies, energies, springs.masses, springs.numbers, 0.8, 0.8 * every, None
    )
    groups = mode_groups(springs.force_constants, springs.supercell, springs.crystal, springs.masses)
    expected = 33356.41 / (2 * np.pi * time_fs)
    lines = mode_lines(run, groups, 40.0)
    widths = np.array([line.linewidth for line in lines])
    errors = np.array([line.linewidth_sigma for line in lines])
    assert np.average(widths, weights=1 / errors**2) == pytest.approx(expected, rel=0.06)
    assert (np.abs(widths - expected) < 5 * errors).all()
    for line in lines:
        assert abs(line.frequency - line.harmonic) < max(5 * line.frequency_sigma, 2.0)


def test_mode_spectrum_of_a_harmonic_crystal_has_no_noise_left(springs, harmonic_run):
    groups = mode_groups(springs.force_constants, springs.supercell, springs.crystal, springs.masses)
    found = mode_spectrum(harmonic_run, groups, 30.0)
    length, step = (len(found.grid) - 1), harmonic_run.sample_step
    expected = commensurate_spectrum(springs.force_constants, springs.masses, springs.numbers, length, step)
    for key in ("total", "H", "Li"):
        assert compare(found, expected)[f"w1_{key}_cm1"] < 1.0
    assert area(found.grid, found.total) == pytest.approx(3 * len(springs.supercell), rel=1e-9)
    plain = velocity_spectrum(harmonic_run, 30.0)
    assert found.estimate(moment(1.0))[1] < 0.02 * plain.estimate(moment(1.0))[1]


def test_mode_spectrum_of_an_anharmonic_crystal_agrees_with_welch_and_is_less_noisy(bonds, tmp_path):
    crystal, potential = bonds
    constants = finite_displacement(potential, crystal, 2)
    supercell, masses = constants.supercell(), constants.supercell().get_masses()
    schedule = Schedule(500.0, 3.0, 200, 1000, 3, 50, 32, thermostat_time=60.0)
    run = run_trajectory(potential, supercell, masses, schedule, tmp_path)
    groups = mode_groups(constants.full(), supercell, crystal, masses)
    for measure in (moment(1.0), moment(2.0)):
        plain, error = velocity_spectrum(run, 30.0).estimate(measure)
        value, less = mode_spectrum(run, groups, 30.0).estimate(measure)
        assert abs(value - plain) < 4 * error
        assert less < 0.5 * error
    with pytest.raises(UserError, match="method=welch"):
        mode_spectrum(run, [])


def test_oscillator_spectrum_is_a_lorentzian_when_well_resolved():
    length, step, centre, width = 4000, 4.0, 500.0, 30.0
    grid, seen = frequency_grid(length, step), oscillator_spectrum(centre, width, length, step)
    exact = grid**2 * width / ((grid**2 - centre**2) ** 2 + (grid * width) ** 2)
    assert np.abs(seen / seen.max() - exact / exact.max())[grid > 50].max() < 0.02


def test_commensurate_spectrum_counts_three_states_per_atom(springs):
    found = commensurate_spectrum(springs.force_constants, springs.masses, springs.numbers, 500, 2.0)
    assert area(found.grid, found.total) == pytest.approx(3 * len(springs.supercell), rel=1e-9)
    assert found.samples is None and found.sigma().max() == 0
