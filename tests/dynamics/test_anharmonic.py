"""sigma^A and effective force constants: zero and exact for springs, right for bonds."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.dynamics.anharmonic import anharmonicity, effective_force_constants, jackknife
from mlffx.dynamics.modes import normal_modes
from mlffx.dynamics.production import run_trajectory
from mlffx.dynamics.trajectory import Schedule
from mlffx.errors import UserError
from mlffx.lattice.force_constants import finite_displacement

pytestmark = pytest.mark.usefixtures("single_thread")


def test_sigma_a_of_a_harmonic_crystal_is_zero(springs, harmonic_run):
    found = anharmonicity(harmonic_run.displacements, harmonic_run.forces, springs.force_constants, springs.numbers)
    assert found.total < 1e-10
    assert max(value for value, _ in found.elements.values()) < 1e-10


def test_sigma_a_is_the_share_of_forces_that_are_not_harmonic(springs):
    rng = np.random.default_rng(0)
    u = 0.05 * rng.standard_normal((40, 3, len(springs.supercell), 3))
    harmonic = -np.einsum("ijab,srjb->sria", springs.force_constants, u)
    rest = harmonic.std() * rng.standard_normal(u.shape)
    found = anharmonicity(u, harmonic + 0.5 * rest, springs.force_constants, springs.numbers)
    assert found.total == pytest.approx(0.5 / np.sqrt(1.25), rel=0.03)
    assert 0 < found.sigma < 0.02
    assert anharmonicity(u[:, 0], harmonic[:, 0], springs.force_constants, springs.numbers).total < 1e-10
    with pytest.raises(UserError, match="all forces vanish"):
        anharmonicity(u, 0 * u, springs.force_constants, springs.numbers)


def test_effective_force_constants_of_a_harmonic_crystal_are_its_own(springs, harmonic_run):
    found = effective_force_constants(springs.supercell, harmonic_run.displacements, harmonic_run.forces)
    assert np.allclose(found.force_constants, springs.force_constants, atol=1e-8)
    assert found.rms < 1e-8
    assert jackknife(found.blocks).max() < 1e-8


@pytest.fixture(scope="module")
def anharmonic_run(bonds, tmp_path_factory):
    crystal, potential = bonds
    constants = finite_displacement(potential, crystal, 3)
    supercell = constants.supercell()
    schedule = Schedule(600.0, 3.0, 200, 800, 2, 20, 12, thermostat_time=60.0)
    folder = tmp_path_factory.mktemp("bonds")
    return constants, supercell, run_trajectory(potential, supercell, supercell.get_masses(), schedule, folder)


def test_bonds_are_anharmonic_and_stiffen(anharmonic_run):
    constants, supercell, run = anharmonic_run
    full = constants.full()
    found = anharmonicity(run.displacements, run.forces, full, supercell.numbers)
    assert 0.05 < found.total < 0.4 and 0 < found.sigma < 0.1 * found.total
    effective = effective_force_constants(supercell, run.displacements, run.forces)

    def highest(phi):
        return normal_modes(phi, supercell.get_masses())[0].max()

    shift = highest(effective.force_constants) - highest(full)
    error = jackknife(np.array([highest(phi) for phi in effective.blocks]))
    assert shift > 5 * error > 0  # the quartic term wins
    best = anharmonicity(run.displacements, run.forces, effective.force_constants, supercell.numbers)
    assert best.total < found.total  # the best harmonic crystal leaves less


def test_third_order_takes_the_cubic_part_of_the_forces(anharmonic_run):
    _, supercell, run = anharmonic_run
    second = effective_force_constants(supercell, run.displacements, run.forces)
    third = effective_force_constants(supercell, run.displacements, run.forces, third_order=True)
    assert third.rms < 0.7 * second.rms


def test_too_few_snapshots_are_refused(springs):
    u = np.zeros((0, len(springs.supercell), 3))
    with pytest.raises(UserError, match="too few"):
        effective_force_constants(springs.supercell, u, u, recentre=False)
