"""Convergence with time step, length of the run and precision of the network."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlffx.dynamics.convergence import length_errors, time_step_errors
from mlffx.dynamics.modes import mode_groups
from mlffx.dynamics.production import run_trajectory
from mlffx.dynamics.trajectory import Schedule
from mlffx.models.base import build_model
from mlffx.potentials.network import NetworkPotential

pytestmark = pytest.mark.usefixtures("single_thread")


def test_energy_fluctuates_with_the_square_of_the_time_step(springs):
    found = time_step_errors(springs.potential, springs.supercell, springs.masses, [1.0, 0.5, 0.25])
    assert [f.time_step for f in found] == [1.0, 0.5, 0.25]
    for coarse, fine in itertools.pairwise(found):
        assert coarse.fluctuation / fine.fluctuation == pytest.approx(4, rel=0.2)
        assert fine.drift < fine.fluctuation


def test_longer_runs_come_closer_to_the_whole(springs, harmonic_run):
    rng = np.random.default_rng(0)
    shape = (4000, 4, len(springs.supercell), 3)
    noise = replace(harmonic_run, velocities=rng.standard_normal(shape).astype(np.float32))
    found = length_errors(noise, 300.0, fractions=(0.1, 0.5, 1.0))
    assert found[0].distance > found[1].distance > found[2].distance == 0
    assert found[0].sigma > found[2].sigma
    assert [f.production for f in found] == pytest.approx([0.8, 4.0, 8.0])


def test_a_harmonic_line_is_converged_from_the_start(springs, harmonic_run):
    groups = mode_groups(springs.force_constants, springs.supercell, springs.crystal, springs.masses)
    found = length_errors(harmonic_run, 60.0, groups)
    assert max(f.distance for f in found) < 0.01
    assert len(length_errors(harmonic_run, 30.0)) == 1  # shorter parts cannot resolve 30 cm-1


def test_single_precision_forces_move_atoms_like_double_precision_ones(springs, tmp_path):
    torch.manual_seed(0)
    model = build_model(
        {"name": "painn", "n_hidden": 8, "n_interactions": 1}, species=[1, 3], cutoff=3.5, mean_neighbours=20.0
    )
    potential = NetworkPotential(model, torch.zeros(2), 0.05, {"name": "painn"})
    schedule = Schedule(300.0, 0.5, 0, 60, 10, 20, 2)
    runs = {
        dtype: run_trajectory(
            potential.set_precision(dtype), springs.supercell, springs.masses, schedule, tmp_path / str(dtype)
        )
        for dtype in (torch.float64, torch.float32)
    }
    single, double = runs[torch.float32], runs[torch.float64]
    assert np.abs(double.forces).max() > 1e-3
    assert np.abs(single.displacements - double.displacements).max() < 1e-4 * np.abs(double.displacements).max()
    assert not np.array_equal(single.forces, double.forces)
