"""The whole study on a crystal of anharmonic bonds, and its settings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlffx.config import read_settings
from mlffx.dynamics import production, run
from mlffx.dynamics.run import run_dynamics
from mlffx.dynamics.settings import Cost, DynamicsConfig
from mlffx.dynamics.spectrum import area
from mlffx.errors import UserError
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.force_constants import finite_displacement
from mlffx.lattice.paths import labelled_points
from mlffx.lattice.phonons import Phonons

pytestmark = pytest.mark.usefixtures("single_thread")
SETTINGS = {
    "temperature": 500,
    "supercell": [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
    "replicas": 6,
    "time_step_fs": 3.0,
    "equilibration_ps": 0.6,
    "production_ps": 1.8,
    "snapshot_step_fs": 60,
    "resolution_cm1": 40,
    "n_bootstrap": 50,
    "sscha_temperatures": [300],
    "sscha_snapshots": 10,
    "sscha_iterations": 4,
    "progress": False,
}


@pytest.fixture(scope="module")
def study(bonds, tmp_path_factory):
    crystal, potential = bonds
    folder = tmp_path_factory.mktemp("study")
    return run_dynamics(potential, crystal, SETTINGS, folder), folder


def test_everything_is_there_and_counts_states_per_primitive_cell(study):
    result, folder = study
    for spectrum in (result.full, result.harmonic_md, result.harmonic):
        assert area(spectrum.grid, spectrum.total) == pytest.approx(3.0, rel=1e-6)
    assert area(result.difference.grid, result.difference.total) == pytest.approx(0.0, abs=1e-6)
    stored = json.loads((folder / "dynamics.json").read_text())
    assert stored["quality"]["full"]["replicas"] == 6
    assert abs(stored["quality"]["full"]["energy_drift_meV_atom_ps"]) < 1
    assert stored["sigma_a"]["total"][0] > 0.05
    assert stored["protocol"]["supercell_atoms"] == 8
    assert set(stored["sscha"]) == {"300K"}
    arrays = np.load(folder / "dynamics.npz")
    assert arrays["full/Al"].shape == arrays["grid_cm1"].shape == arrays["difference/total_sigma"].shape
    assert result.effective is not None and result.effective.values.shape == result.force_constants.values.shape


def test_time_step_and_length_are_judged(study):
    _, folder = study
    stored = json.loads((folder / "dynamics.json").read_text())["convergence"]
    steps = [entry["time_step"] for entry in stored["time_step"]]
    assert steps == [6.0, 3.0, 1.5]
    fluctuations = [entry["fluctuation"] for entry in stored["time_step"]]
    assert fluctuations[0] > fluctuations[1] > fluctuations[2]
    assert [entry["production"] for entry in stored["length"]] == pytest.approx([0.45, 0.9, 1.35, 1.8], rel=0.02)
    assert stored["length"][-1]["distance"] == 0


def test_named_modes_are_found_among_the_lines(study):
    """The crystal has one atom a cell: three acoustic branches, none at GAMMA; the frequencies are its phonons."""
    result, _ = study
    shifts = result.shifts()
    assert {s.label for s in shifts} == {"X", "L"} & set(labelled_points(result.force_constants.crystal))
    named = labelled_frequencies(Phonons(result.force_constants))
    for s in shifts:
        assert s.harmonic == pytest.approx(named[s.label][s.branch], abs=0.6)
        assert abs(s.shift) < 0.3 * s.harmonic and s.sigma > 0


def test_harmonic_and_full_dynamics_share_their_noise(study):
    """Same seeds, same cell: initial velocities are equal and the temperatures of the replicas go together."""
    result, _ = study
    full, harmonic = (result.trajectories[name].temperature() for name in ("full", "harmonic"))
    assert np.corrcoef(full, harmonic)[0, 1] > 0.3
    comparison = result.summary()["full_against_harmonic_md"]
    assert comparison["mean_shift_total_cm1"] > 0
    assert comparison["w1_total_cm1"] >= abs(comparison["mean_shift_total_cm1"]) - 1e-6


def test_a_second_call_reads_what_is_there(study, bonds, monkeypatch, caplog):
    result, folder = study
    crystal, potential = bonds

    def never(*arguments, **options):
        raise AssertionError("what was finished was run again")

    monkeypatch.setattr(production, "advance", never)
    monkeypatch.setattr(run, "run_sscha", never)
    with caplog.at_level(logging.INFO):
        again = run_dynamics(potential, crystal, SETTINGS, folder)
    assert "finished before" in caplog.text
    assert np.array_equal(again.full.total, result.full.total)
    first, second = result.sscha[300.0], again.sscha[300.0]
    assert np.array_equal(first.force_constants.values, second.force_constants.values)
    assert np.array_equal(first.history, second.history) and len(first.iterations) == len(second.iterations)
    with pytest.raises(AssertionError, match="run again"):
        run_dynamics(potential, crystal, {**SETTINGS, "sscha_snapshots": 12}, folder)


def test_an_unstable_crystal_still_gets_its_own_dynamics(bonds, tmp_path, caplog):
    crystal, potential = bonds
    constants = finite_displacement(potential, crystal, 2)
    from dataclasses import replace

    soft = replace(constants, values=-0.01 * constants.values)
    settings = {
        **SETTINGS,
        "production_ps": 1.5,
        "equilibration_ps": 0.1,
        "sscha_temperatures": [],
        "time_step_fs": 2.0,
    }
    settings |= {"sample_step_fs": 10.0, "replicas": 2}
    found = run_dynamics(potential, crystal, settings, tmp_path, soft)
    assert "unstable" in caplog.text and found.harmonic_md is None and found.modes == []


def test_settings_that_cannot_work_are_refused_before_any_step(bonds, tmp_path):
    crystal, potential = bonds
    cases = {
        "did you mean 'replicas'": {"replica": 3},
        "dynamics.temperature: 0 is not positive": {"temperature": 0},
        "run at least": {"production_ps": 0.1},
        "cannot follow": {"sample_step_fs": 90.0},
        "did you mean 'vacf'": {"method": "vacff"},
        "unknown precision": {"precision": "half"},
        "a time step of 9 fs": {"time_step_fs": 9},
        "would take about": {"max_hours": 0},
        "dynamics.members: 0 is too few": {"members": 0},
    }
    for message, change in cases.items():
        with pytest.raises(UserError, match=message):
            run_dynamics(potential, crystal, {**SETTINGS, **change}, tmp_path / message[:5])
    with pytest.raises(UserError, match="use one supercell for both"):
        run_dynamics(potential, crystal, SETTINGS, tmp_path, finite_displacement(potential, crystal, 3))


def test_time_step_and_sampling_follow_the_highest_mode():
    schedule = DynamicsConfig(verlet_shift_cm1=1.0).schedule(1300.0)
    assert 0.45 <= schedule.time_step <= 0.55
    assert schedule.time_step * schedule.sample_every <= 33356.41 / (4 * 1300)
    assert DynamicsConfig().schedule(200.0).time_step == 2.0


def test_costs_are_told_in_words():
    assert str(Cost(20.0, 2_000_000)) == "about 20 s, 2 MB"
    assert str(Cost(600.0, 0)) == "about 10 min, 0 MB"
    assert str(Cost(7.2e4, 0)) == "about 20.0 h, 0 MB"


@pytest.mark.parametrize("name", ["none", "quick", "standard"])
def test_shipped_settings_can_be_read(name):
    folder = Path(__file__).parents[2] / "conf" / "dynamics"
    config = read_settings(DynamicsConfig, yaml.safe_load((folder / f"{name}.yaml").read_text()), "dynamics")
    assert config.enabled is (name != "none")
    if config.enabled:
        assert config.schedule(1300.0).n_samples > 100
