"""Self-consistent phonons: a harmonic crystal is its own, an anharmonic one moves with temperature."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.dynamics.sscha import PhonopyModel, run_sscha
from mlffx.errors import UserError
from mlffx.lattice.force_constants import finite_displacement
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.harmonic import HarmonicPotential

pytestmark = pytest.mark.usefixtures("single_thread")
X = np.array([0.5, 0.0, 0.5])


def test_a_harmonic_crystal_is_a_fixed_point(springs):
    start = finite_displacement(springs.potential, springs.crystal, 2)
    ideal = start.supercell()
    potential = HarmonicPotential(start.full(), ideal.positions, ideal.cell.array)
    found = run_sscha(potential, springs.crystal, 2, 300.0, 12, 2, keep=2, start=start, mesh=(3, 3, 3))
    assert np.allclose(found.force_constants.values, start.values, atol=1e-7)
    assert found.free_energy_error < 1e-6
    value, error = found.estimate(lambda fc: Phonons(fc).frequencies(X)[0])
    assert np.allclose(value, Phonons(start).frequencies(X)[0], atol=1e-3) and error.max() < 1e-3


def test_zero_point_motion_and_heat_stiffen_quartic_bonds(bonds):
    crystal, potential = bonds
    start = finite_displacement(potential, crystal, 3)
    seen = []

    def highest(fc):
        return Phonons(fc).frequencies(X)[0].max()

    cold, hot = (
        run_sscha(
            potential, crystal, 3, t, 40, 3, keep=2, start=start, mesh=(5, 5, 5), report=lambda *a: seen.append(a)
        )
        for t in (0.0, 600.0)
    )
    values = [highest(start), cold.estimate(highest), hot.estimate(highest)]
    assert values[1][0] > values[0] + 3 * values[1][1]
    assert values[2][0] > values[1][0] + 3 * np.hypot(values[1][1], values[2][1])
    assert hot.free_energy < cold.free_energy  # entropy
    assert seen[-1] == (3, 3) and hot.history.shape == (3, 2)
    assert hot.force_constants.method == "sscha 600 K"


def test_heavier_isotopes_move_less(bonds):
    crystal, potential = bonds
    start = finite_displacement(potential, crystal, 2)

    def shift(mass):
        options = {"keep": 2, "start": start, "mesh": (3, 3, 3), "isotopes": {"Al": mass}}
        found = run_sscha(potential, crystal, 2, 0.0, 60, 2, **options)
        return np.abs(found.force_constants.values - start.values).max()

    assert shift(2.0) > 2 * shift(200.0)


def test_phonopy_sees_the_potential_in_batches(bonds):
    from mlffx.lattice import phonopy_api

    crystal, potential = bonds
    ph = phonopy_api.lattice(crystal, np.diag([2, 2, 2]), [26.98])
    ph.generate_displacements(distance=0.02)
    model = PhonopyModel(potential)
    energies, forces, stress = model.evaluate(ph.supercells_with_displacements)
    assert energies.shape == (len(forces),) and forces.shape[1:] == (8, 3) and stress.shape == (len(forces), 6)
    assert model.n_evaluated == len(forces)
    assert np.abs(forces.sum(axis=1)).max() < 1e-10


def test_impossible_requests_are_refused(bonds):
    crystal, potential = bonds
    with pytest.raises(UserError, match="four snapshots or more"):
        run_sscha(potential, crystal, 2, 300.0, 1, 2)
