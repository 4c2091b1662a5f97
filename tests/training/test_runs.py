"""Runs through the real command line: what they leave behind, that they resume, and that they learn."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from run_files import rows, same, timeless, weights
from small_twin import QUICK, SMALL

from mlffx.potentials.build import load_potential
from mlffx.training.entry import entry_point

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_directory_tells_everything(train):
    run = train(*QUICK, "level=low")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["n_hidden"] == 8
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["data"]
    epochs = rows(run)
    assert [int(r["epoch"]) for r in epochs] == [0, 1, 2, 3]
    assert float(epochs[-1]["val_forces_rmse_meV_per_A"]) < float(epochs[0]["val_forces_rmse_meV_per_A"])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test_energy_rmse_meV_per_atom"] > 0
    assert metrics["test_forces_rmse_meV_per_A"] > 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 3


def test_the_same_seed_gives_the_same_weights(train):
    first, second = train(*QUICK, "level=low", name="a"), train(*QUICK, "level=low", name="b")
    assert same(weights(first), weights(second))
    other = train(*QUICK, "level=low", "seed=1", name="c")
    assert not same(weights(first), weights(other))


def test_a_run_stopped_in_the_middle_resumes_to_the_same_weights(train, tmp_path, monkeypatch):
    whole = train(*QUICK, "level=low", name="whole")

    from mlffx.training.epoch_metrics import EpochMetrics

    written = EpochMetrics.on_train_epoch_end

    def stop_after_two(self, trainer, module):
        written(self, trainer, module)
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochMetrics, "on_train_epoch_end", stop_after_two)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(*QUICK, "level=low", name="broken")
    monkeypatch.setattr(EpochMetrics, "on_train_epoch_end", written)
    broken = tmp_path / "broken"
    assert json.loads((broken / "status.json").read_text())["state"] == "interrupted"
    entry_point([f"resume={broken}"])
    assert same(weights(whole), weights(broken))
    assert timeless(whole) == timeless(broken)


def test_members_trained_side_by_side_are_those_trained_in_turn(train):
    turn = train(*QUICK, "level=low", "ensemble=2", "trainer.workers=1", name="turn")
    side = train(*QUICK, "level=low", "ensemble=2", "trainer.workers=2", name="side")
    for k in "01":
        assert same(weights(turn / "members" / k), weights(side / "members" / k))
    assert not same(weights(turn / "members" / "0"), weights(turn / "members" / "1"))


def test_energy_only_training_never_differentiates_twice(train, monkeypatch):
    asked = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: asked.append(k.get("create_graph")) or real(*a, **k))
    run = train(*QUICK, "level=low", "loss=energy", "model.n_hidden=8")
    assert not any(asked)
    assert "test_forces_rmse_meV_per_A" in json.loads((run / "metrics.json").read_text())


def test_a_delta_by_readout_a_network_and_force_constants(train):
    readout = train(*QUICK, "potential=delta", "level=high", name="readout")
    potential = load_potential(readout / "checkpoints" / "best.ckpt")
    assert len(potential.posterior_samples(3, seed=0)) == 3
    network = train(*QUICK, "potential=delta", "delta.fit=network", "level=high", name="network")
    assert set(load_potential(network / "checkpoints" / "best.ckpt").terms) == {"base", "delta"}
    linear = train(*SMALL, "data.n_frames=68", "potential=delta", "model=force_constants", "level=high", name="linear")
    errors = {
        name: json.loads((run / "metrics.json").read_text())["test_difference_energy_rmse_meV_per_atom"]
        for name, run in (("readout", readout), ("linear", linear))
    }
    assert errors["linear"] < 1.0
    assert (linear / "fit.json").is_file()


def test_a_base_is_trained_once_and_found_again(train, capsys):
    train(*SMALL, "potential=delta", "model=force_constants", "level=high", name="first")
    assert "found in the cache" not in capsys.readouterr().err
    train(*SMALL, "potential=delta", "model=force_constants", "level=high", "data.train_size=12", name="second")
    train(*SMALL, "potential=delta", "model=force_constants", "level=high", name="third")
    assert "found in the cache" in capsys.readouterr().err


def test_a_run_is_the_base_of_another(train):
    base = train(*SMALL, "model=force_constants", "level=low", name="base")
    run = train(
        *SMALL, "potential=delta", f"potential.base={base}", "model=force_constants", "level=high", name="delta"
    )
    terms = load_potential(run / "checkpoints" / "best.ckpt").terms
    stored = load_potential(base / "checkpoints" / "best.ckpt").state_dict()
    assert same({k: v for k, v in terms["base"].state_dict().items()}, stored)


def test_wandb_offline_leaves_a_run_to_read_back(train):
    run = train(*[o for o in QUICK if o != "logger=csv"], "level=low", "logger=wandb", "wandb.mode=offline")
    files = list((run / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    shutil.rmtree(run / "wandb")


def test_a_killed_run_leaves_no_workers_and_resumes(tmp_path):
    """kill -9 in the middle of an ensemble: its workers end too, and the run goes on to its end."""
    run = tmp_path / "run"
    more = [f"run_dir={run}", f"cache_dir={tmp_path / 'bases'}", "level=low", "ensemble=2", "trainer.workers=2"]
    command = [sys.executable, str(ROOT / "train.py"), *QUICK, *more, "trainer.max_epochs=200"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    begun = [run / "members" / k / "checkpoints" / "last.ckpt" for k in "01"]
    deadline = time.monotonic() + 240
    while not all(path.exists() for path in begun) and time.monotonic() < deadline:
        time.sleep(0.2)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.kill()
    process.wait()
    assert all(path.exists() for path in begun)
    while any(alive(w) for w in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(w) for w in workers)
    config = yaml.safe_load((run / "config.yaml").read_text())
    done = max(len(rows(run / "members" / k)) for k in "01")
    config["trainer"]["max_epochs"] = done + 2  # the rest of 200 epochs would take long
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    entry_point([f"resume={run}"])
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
