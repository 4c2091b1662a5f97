"""Equations of motion: conservation, temperature, independence of replicas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.dynamics.integrate import Noise, Thermostat, degrees_of_freedom, kinetic_energy, verlet_time_step
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.errors import UserError
from mlffx.models.base import build_model
from mlffx.potentials.base import evaluate
from mlffx.potentials.network import NetworkPotential
from mlffx.units import KB_EV

pytestmark = pytest.mark.usefixtures("single_thread")


def test_energy_error_falls_with_the_square_of_the_time_step(bonds, begin, march):
    crystal, potential = bonds
    supercell = crystal.supercell([2, 2, 2])
    spread = {}
    for dt in (4.0, 2.0, 1.0):
        engine = ReplicaForces(potential, supercell, 2)
        state, mass, _ = begin(engine, supercell.get_masses(), 300.0)
        _, energies = march(
            state,
            engine,
            mass,
            dt,
            int(800 / dt),
            measure=lambda s, m=mass: s.potential + kinetic_energy(s.velocities, m),
        )
        spread[dt] = float(torch.stack(energies).std(dim=0).mean())
    assert spread[4.0] / spread[2.0] == pytest.approx(4, rel=0.15)
    assert spread[2.0] / spread[1.0] == pytest.approx(4, rel=0.15)


def test_verlet_conserves_momentum_and_has_no_drift(bonds, begin, march):
    crystal, potential = bonds
    supercell = crystal.supercell([2, 2, 2])
    engine = ReplicaForces(potential, supercell, 2)
    state, mass, _ = begin(engine, supercell.get_masses(), 300.0)
    state, energies = march(
        state, engine, mass, 2.0, 1500, measure=lambda s: s.potential + kinetic_energy(s.velocities, mass)
    )
    total = torch.stack(energies)
    assert (mass[:, None] * state.velocities).sum(dim=1).abs().max() < 1e-10
    early, late = total[:500].mean(dim=0), total[-500:].mean(dim=0)
    assert (late - early).abs().max() < 0.2 * total.std(dim=0).max()


@pytest.mark.parametrize("kind", ["langevin", "csvr"])
def test_thermostats_reach_their_temperature(springs, begin, march, kind):
    replicas, temperature = 96, 250.0
    engine = springs.engine(replicas)
    heavy = 16 * springs.masses  # (w dt)^2/4, the error of Verlet's kinetic energy, below 0.3 %
    state, mass, noise = begin(engine, heavy, temperature)
    # rescaling alone would keep all modes in phase as they start, so both begin from Langevin's canonical ensemble
    state, _ = march(state, engine, mass, 1.0, 200, Thermostat("langevin", temperature, 20.0, noise))
    thermostat = Thermostat(kind, temperature, 20.0, noise)
    _, taken = march(
        state, engine, mass, 1.0, 800, thermostat, lambda s: (kinetic_energy(s.velocities, mass), s.potential)
    )
    freedom = degrees_of_freedom(len(springs.supercell))
    expected = 0.5 * freedom * KB_EV * temperature
    kinetic = torch.stack([k for k, _ in taken])
    potential = torch.stack([u for _, u in taken])
    for energy in (kinetic, potential):
        means = energy.mean(dim=0)  # one of each replica, independent of the others
        error = float(means.std()) / np.sqrt(replicas)
        assert abs(float(means.mean()) - expected) < 4 * error
        assert error < 0.03 * expected
    assert float(kinetic.var()) == pytest.approx(
        2 * expected**2 / freedom, rel=0.15
    )  # canonical, not merely on average


def test_langevin_gives_each_element_the_same_temperature(springs, begin, march):
    engine = springs.engine(64)
    state, mass, noise = begin(engine, 16 * springs.masses, 300.0)
    thermostat = Thermostat("langevin", 300.0, 40.0, noise)
    state, _ = march(state, engine, mass, 1.0, 200, thermostat)
    _, taken = march(state, engine, mass, 1.0, 600, thermostat, lambda s: s.velocities.square().sum(dim=2))
    per_atom = torch.stack(taken).mean(dim=(0, 1)).numpy() * springs.masses
    ratio = per_atom[springs.numbers == 1].mean() / per_atom[springs.numbers == 3].mean()
    share = (1 - 1.008 / 63.58) / (1 - 6.94 / 63.58)  # zero total momentum costs the heavy atoms more
    assert ratio == pytest.approx(share, rel=0.04)


def test_replicas_in_a_batch_run_as_if_alone(bonds, begin, march):
    crystal, potential = bonds
    supercell = crystal.supercell([2, 2, 2])

    def run(replicas):
        engine = ReplicaForces(potential, supercell, len(replicas))
        state, mass, noise = begin(engine, supercell.get_masses(), 400.0, seed=5, replicas=replicas)
        state, _ = march(state, engine, mass, 2.0, 40, Thermostat("langevin", 400.0, 50.0, noise))
        state, _ = march(state, engine, mass, 2.0, 40, Thermostat("csvr", 400.0, 50.0, noise))
        return march(state, engine, mass, 2.0, 40)[0]

    together = run([0, 1, 2])
    for i in range(3):
        alone = run([i])
        assert (alone.positions[0] - together.positions[i]).abs().max() < 1e-9
        assert (alone.velocities[0] - together.velocities[i]).abs().max() < 1e-10
    assert (together.positions[0] - together.positions[1]).abs().max() > 1e-3


def test_neighbour_list_with_skin_gives_the_energies_of_a_fresh_one(springs):
    torch.manual_seed(0)
    model = build_model(
        {"name": "painn", "n_hidden": 8, "n_interactions": 1}, species=[1, 3], cutoff=3.5, mean_neighbours=20.0
    )
    potential = NetworkPotential(model, torch.zeros(2), 1.0, {"name": "painn"}).set_precision(torch.float64)
    engine = ReplicaForces(potential, springs.supercell, 2, skin=0.5)
    rng = np.random.default_rng(3)
    positions = np.repeat(springs.supercell.positions[None], 2, axis=0)
    for _ in range(6):
        positions = positions + 0.06 * rng.standard_normal(positions.shape)
        energy, forces = engine(torch.as_tensor(positions))
        atoms, fresh = springs.supercell.copy(), []
        for replica in positions:
            atoms.positions = replica
            fresh.append(build_graph(atoms, potential.cutoff))
        expected = evaluate(engine.potential, batch_graphs(fresh))
        assert torch.allclose(energy, expected[keys.ENERGY], atol=1e-11)
        assert torch.allclose(forces.reshape(-1, 3), expected[keys.FORCES], atol=1e-11)
    assert 1 < engine.n_lists < 6  # renewed, but not at every call


def test_noise_depends_on_seed_replica_and_step_alone():
    reference = Noise(1, (0, 1)).normal(10, 4)
    assert np.array_equal(reference[1], Noise(1, (1,)).normal(10, 4)[0])
    for other in (Noise(2, (0,)).normal(10, 4)[0], Noise(1, (0,)).normal(11, 4)[0], reference[1]):
        assert not np.any(np.isclose(reference[0], other))


def test_time_step_for_a_given_shift(springs):
    dt = verlet_time_step(1334.0, 0.9)  # 40 THz and 0.5 fs: +0.9 cm-1
    assert dt == pytest.approx(0.5, rel=0.02)


def test_unknown_thermostat_is_named():
    with pytest.raises(UserError, match="did you mean 'langevin'"):
        Thermostat("langvin", 300.0, 100.0, Noise(0, (0,)))
    with pytest.raises(UserError, match="must be positive"):
        Thermostat("langevin", 0.0, 100.0, Noise(0, (0,)))
