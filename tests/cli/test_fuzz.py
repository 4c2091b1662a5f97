"""Broken configurations and data files: one line says what is wrong, and no run directory is left without a status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from breakage import broken_config, broken_file

from mlffx.command_line import run_checked
from mlffx.training.entry import entry_point

ROOT = Path(__file__).resolve().parents[2]
TWIN = [
    "data=diamond_twin",
    "data.n_frames=10",
    "data.repetitions=[1,1,1]",
    "data.validation_size=2",
    "data.test_size=2",
    "level=low",
    "model=painn",
    "model.n_hidden=4",
    "model.n_interactions=1",
    "model.cutoff=2.0",
    "trainer.max_epochs=1",
    "trainer.progress=false",
    "logger=csv",
]
KINDS = [  # of runs, to be broken in turn
    [],
    ["potential=delta", "level=high", "delta.fit=network"],
    ["potential=delta", "level=high", "ensemble=2", "trainer.workers=1"],
    ["model=force_constants", "trainer=gpu", "trainer.accelerator=cpu"],
    ["data=ionic_twin", "potential=charge_aware", "electrostatics=latent", "model.cutoff=3.0"],
    ["trainer=ddp", "trainer.devices=1", "trainer.accelerator=cpu", "scheduler=plateau", "optimizer=adam"],
]
FILES = [*TWIN[6:], "data=files", "data.validation_size=2", "data.test_size=2", "level=declared", "level.name=dft"]


@pytest.fixture
def outcome(capfd, monkeypatch):
    """Exit status and what was said; a traceback or a run directory that says nothing of itself fails."""

    def run(arguments, folder):
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        try:
            run_checked(lambda: entry_point(arguments))
            status = 0
        except SystemExit as ended:
            status = ended.code
        said = capfd.readouterr().err
        assert status in (0, 2), f"{arguments}\n{said}"
        assert "Traceback" not in said, f"{arguments}\n{said}"
        if status == 2:
            last = said.strip().splitlines()[-1]
            assert last.startswith("error: ") and len(last) > 20, f"{arguments}\n{said}"
        for config in folder.rglob("config.yaml"):
            state = json.loads((config.parent / "status.json").read_text())
            assert state["state"] == ("finished" if status == 0 else "failed"), f"{arguments}\n{state}"
            assert state["state"] == "finished" or state["reason"]
        return status

    return run


def base_of(kind):
    """The small run with what a kind of runs sets instead; another architecture has options of its own."""
    given = {more.split("=")[0] for more in kind}
    kept = [o for o in TWIN if o.split("=")[0] not in given]
    return [*(o for o in kept if not ("model" in given and o.startswith("model."))), *kind]


def configs(outcome, tmp_path, n, seed=0):
    rng, found = np.random.default_rng(seed), []
    for k in range(n):
        folder = tmp_path / str(k)
        places = [f"run_dir={folder / 'run'}", f"cache_dir={folder / 'bases'}"]
        found.append(outcome([*broken_config(base_of(KINDS[k % len(KINDS)]), rng), *places], folder))
    return found


def files(outcome, tmp_path, n, seed=0):
    rng, found = np.random.default_rng(seed), []
    whole = labelled_file(tmp_path / "whole.xyz", rng)
    for k in range(n):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "broken.xyz").write_bytes(broken_file(whole, rng))
        levels = "data.levels={dft: {file: broken.xyz, labels: [energy, forces]}}"
        places = [f"data.root={folder}", f"run_dir={folder / 'run'}", f"cache_dir={folder / 'bases'}"]
        found.append(outcome([*FILES, levels, *places], folder))
    return found


def labelled_file(path, rng):
    """Ten structures of eight atoms with energies and forces."""
    frames = []
    for k in range(10):
        atoms = bulk("C", "diamond", a=3.57, cubic=True)
        atoms.positions += rng.normal(scale=0.02 + 0.005 * k, size=(8, 3))
        energy, forces = -72 + 0.1 * k + rng.normal(scale=0.01), rng.normal(size=(8, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path.read_text()


def test_broken_configurations(outcome, tmp_path):
    found = configs(outcome, tmp_path, 9)
    assert found.count(2) > 3


def test_broken_data_files(outcome, tmp_path):
    found = files(outcome, tmp_path, 9)
    assert found.count(2) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_two_hundred_broken_configurations(outcome, tmp_path, seed):
    configs(outcome, tmp_path, 50, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_two_hundred_broken_data_files(outcome, tmp_path, seed):
    files(outcome, tmp_path, 50, seed)


MISTAKES = {
    "model.n_hiden=3": "model.n_hiden: no such key 'model.n_hiden'; did you mean 'model.n_hidden'",
    "level=hihg": "level: unknown level 'hihg'; did you mean 'high'",
    "trainer.max_epochs=0": "trainer.max_epochs: 0 is too few; take between 1 and",
    "trainer.devices=8": "trainer.devices: 8 devices share a batch of 4 structures",
    "+=": "command line: an override without a key",
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_real_command_line_says_the_same(mistake, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *TWIN, mistake, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {MISTAKES[mistake]}"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
