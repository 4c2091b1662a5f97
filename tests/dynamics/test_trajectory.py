"""Runs that survive a kill, are not repeated, and say when something is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.dynamics import production
from mlffx.dynamics.production import finished, run_trajectory
from mlffx.dynamics.trajectory import Schedule
from mlffx.errors import UserError
from mlffx.potentials.harmonic import HarmonicPotential

pytestmark = pytest.mark.usefixtures("single_thread")
ARRAYS = ("velocities", "displacements", "forces", "potential", "kinetic")
SCHEDULE = Schedule(300.0, 2.0, 40, 80, 4, 20, 3, thermostat_time=50.0, seed=7, skin=0.02, checkpoint_every=25)


def run(bonds, folder, schedule=SCHEDULE, **options):
    crystal, potential = bonds
    supercell = crystal.supercell([2, 2, 2])
    return run_trajectory(potential, supercell, supercell.get_masses(), schedule, folder, **options)


def kill_after(monkeypatch, steps):
    """The process dies in the middle of step `steps` + 1."""
    real, done = production.advance, []

    def advance(*arguments):
        done.append(1)
        if len(done) > steps:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(production, "advance", advance)


@pytest.mark.parametrize("steps", [10, 33, 60, 101])
def test_a_killed_run_continues_bit_for_bit(bonds, tmp_path, monkeypatch, steps):
    whole = run(bonds, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            run(bonds, tmp_path / "killed")
    damaged = np.load(tmp_path / "killed" / "velocities.npy", mmap_mode="r+")
    damaged[steps // SCHEDULE.sample_every :] = np.nan  # what was under way when it died
    again = run(bonds, tmp_path / "killed")
    for name in ARRAYS:
        assert np.array_equal(getattr(whole, name), getattr(again, name)), name
    assert np.abs(whole.velocities).min() > 0


def test_a_finished_run_is_read_and_not_repeated(bonds, tmp_path, monkeypatch):
    first = run(bonds, tmp_path)
    kill_after(monkeypatch, 0)
    again = run(bonds, tmp_path)
    assert np.array_equal(first.velocities, again.velocities)
    crystal, potential = bonds
    supercell = crystal.supercell([2, 2, 2])
    assert finished(tmp_path, potential, supercell, supercell.get_masses(), SCHEDULE)
    assert not finished(tmp_path, potential, supercell, 2 * supercell.get_masses(), SCHEDULE)
    assert not finished(tmp_path / "nothing", potential, supercell, supercell.get_masses(), SCHEDULE)


def test_another_run_is_not_overwritten(bonds, tmp_path):
    run(bonds, tmp_path)
    other = Schedule(400.0, 2.0, 40, 80, 4, 20, 3)
    with pytest.raises(UserError, match=r"another potential or schedule.*resume=false"):
        run(bonds, tmp_path, other)
    assert run(bonds, tmp_path, other, resume=False).temperature().mean() > 200


def test_seeds_differ(bonds, tmp_path):
    first = run(bonds, tmp_path / "a", Schedule(300.0, 2.0, 0, 20, 4, 20, 2, seed=0))
    second = run(bonds, tmp_path / "b", Schedule(300.0, 2.0, 0, 20, 4, 20, 2, seed=1))
    assert not np.allclose(first.velocities, second.velocities)


def test_samples_are_velocities_of_the_stored_energy(bonds, tmp_path):
    result = run(bonds, tmp_path)
    from mlffx.units import AMU_A2_FS2_TO_EV, KB_EV

    kinetic = 0.5 * AMU_A2_FS2_TO_EV * np.einsum("i,tria->tr", result.masses, result.velocities.astype(float) ** 2)
    assert np.allclose(kinetic, result.kinetic, rtol=1e-6)
    freedom = 3 * result.n_atoms - 3
    assert np.allclose(result.temperature(), 2 * kinetic.mean(axis=0) / (freedom * KB_EV), rtol=1e-6)
    assert result.element_temperatures()["Al"] == pytest.approx(result.temperature().mean(), rel=1e-5)
    slope, rest = result.energy_drift()
    assert slope < 1 and 0 < rest < 0.5  # meV


def test_a_crystal_that_falls_apart_is_reported(springs, tmp_path):
    unstable = HarmonicPotential(-springs.force_constants, springs.supercell.positions, springs.supercell.cell.array)
    with pytest.raises(UserError, match=r"replica \d left the crystal \(atom"):
        run_trajectory(
            unstable, springs.supercell, springs.masses, Schedule(300.0, 1.0, 200, 200, checkpoint_every=50), tmp_path
        )
