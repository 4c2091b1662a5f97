"""Whole sweeps: one process a job, only what is missing, failures that stay alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from small_sweeps import LINEAR, TWIN, done, rows

ROOT = Path(__file__).resolve().parents[2]


def state(path: Path) -> str:
    return json.loads((path / "status.json").read_text())["state"]


def test_a_sweep_runs_what_is_missing(sweep, tmp_path):
    status, said = sweep(*LINEAR, "seed=0,1", "launcher=joblib", "launcher.jobs=2", "launcher.threads=1")
    assert status == 0, said
    assert sorted(done(said)) == ["seed=0", "seed=1"]
    first = tmp_path / "sweep" / "seed=0"
    assert state(first) == "finished"
    written = (first / "metrics.json").stat().st_mtime_ns
    assert yaml.safe_load((tmp_path / "sweep" / "sweep.yaml").read_text())["axes"] == ["seed"]
    status, said = sweep(*LINEAR, "seed=0,1,2")
    assert status == 0, said
    assert done(said) == ["seed=2"]
    assert (first / "metrics.json").stat().st_mtime_ns == written


def test_a_failing_job_does_not_stop_the_others_and_is_tried_again(sweep, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.yaml").write_text("{}")
    delta = [o for o in LINEAR if not o.startswith(("level", "loss"))] + ["level=high", "potential=delta"]
    bases = f"potential.base=ase:emt,{tmp_path / 'base'}"
    status, said = sweep(*delta, bases, "launcher.threads=1")
    assert status == 1
    (bad,) = [p for p in (tmp_path / "sweep").iterdir() if p.is_dir() and state(p) == "failed"]
    (good,) = [p for p in (tmp_path / "sweep").iterdir() if p.is_dir() and state(p) == "finished"]
    reason = json.loads((bad / "status.json").read_text())["reason"]
    assert "checkpoint" in reason
    assert reason in said
    status, said = sweep(*delta, bases, "launcher.threads=1")
    assert status == 1
    assert done(said) == [bad.name]
    from mlffx.evaluation.summarize import main

    main([str(tmp_path / "sweep"), "--no-phonons"])
    found = {r["job"]: r for r in rows(tmp_path / "sweep" / "summary" / "summary.csv")}
    assert found[bad.name]["state"] == "failed"
    assert found[bad.name]["reason"] == reason
    assert float(found[good.name]["test_energy_rmse_meV_per_atom"]) > 0
    assert "no checkpoint" in (tmp_path / "sweep" / "summary" / "summary.html").read_text()


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["model=painn,pain"], ["pain", "painn"]),
        (["trainer.max_epochs=3,many"], ["max_epochs", "many"]),
        (["data.train_size=5,500"], ["train_size", "500"]),
        (["model.n_hidden=8,0"], ["n_hidden"]),
        (["seed=0,1", "launcher=jobib"], ["jobib", "joblib"]),
        (["seed=0,1", "launcher=joblib", "launcher.jobs=0"], ["launcher.jobs", "1 or more"]),
        (["seed=0,1", "launcher.job=2"], ["launcher.job"]),
        (["seed=0,1", "run_dir=here"], ["run_dir", "sweep_dir"]),
        (["seed=0,1", "hydra/launcher=joblib"], ["launcher="]),
        (["seed=0,1", "sweep=nothing"], ["nothing", "learning_curves"]),
        (["optimizer.lr=interval(1e-4,1e-2)"], ["optimizer.lr", "search.trials"]),
        (["search.trials=3"], ["search.trials", "interval"]),
        (["search.trials=3", "optimizer.lr=interval(1e-2,1e-4)"], ["optimizer.lr"]),
        (["search.trials=3", "model=force_constants", "seed=0,1"], ["least squares"]),
        (["search.trials=3", "optimizer.lr=interval(1e-4,1e-2)", "search.storage=postgres//x"], ["search.storage"]),
        (["search.trials=0", "seed=0,1"], ["search.trials"]),
    ],
)
def test_a_mistake_in_any_value_is_told_before_the_first_job(sweep, tmp_path, overrides, wanted):
    status, said = sweep(*TWIN, "model.cutoff=2.8", *overrides)
    assert status == 2, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    for word in wanted:
        assert word in errors[0]
    assert not list((tmp_path / "sweep").glob("*/status.json"))


def test_a_run_is_not_finished_before_its_metrics(tmp_path, monkeypatch):
    """Killed between the two, it would never be completed."""
    from mlffx.training import train
    from mlffx.training.entry import entry_point

    collect, seen = train._collect, []

    def watched(settings, task, run, *more):
        seen.append(run.status())
        return collect(settings, task, run, *more)

    monkeypatch.setattr(train, "_collect", watched)
    entry_point([*LINEAR, f"run_dir={tmp_path / 'run'}", "trainer.progress=false"])
    assert seen == ["running"]
    assert state(tmp_path / "run") == "finished"


def test_another_configuration_in_the_same_place_is_refused(sweep, tmp_path):
    assert sweep(*LINEAR, "seed=0")[0] == 0
    status, said = sweep(*[o for o in LINEAR if o != "loss=energy"], "seed=0")
    assert status == 2
    assert "sweep_dir" in said.splitlines()[-1]
    assert "loss.energy.weight" in said.splitlines()[-1]


def test_print_shows_the_jobs_and_runs_none(sweep, tmp_path):
    status, said = sweep(*LINEAR, "seed=0,1", "print=true")
    assert status == 0
    assert said.count("missing") == 2
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_jobs_of_several_processes(sweep, tmp_path):
    """One process a job: several devices of a job are processes it starts itself."""
    network = ["model=painn", "model.n_hidden=8", "model.cutoff=2.8", "trainer.max_epochs=2"]
    status, said = sweep(*TWIN, *network, "seed=0,1", "trainer.devices=2", "trainer.batch_size=4", "launcher.threads=2")
    assert status == 0, said
    for seed in "01":
        run = tmp_path / "sweep" / f"seed={seed}"
        assert state(run) == "finished"
        assert len((run / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_submitit_runs_jobs(sweep, tmp_path):
    """The launcher of SLURM with processes of this machine in its place."""
    status, said = sweep(*LINEAR, "seed=0,1", "launcher=slurm", "launcher.cluster=local", "launcher.cpus=1")
    assert status == 0, said
    assert sorted(done(said)) == ["seed=0", "seed=1"]
    assert state(tmp_path / "sweep" / "seed=1") == "finished"


@pytest.mark.slow
def test_a_job_out_of_time_writes_a_checkpoint_and_is_queued_again(tmp_path):
    """What submitit calls before SLURM's time limit."""
    from mlffx.sweeps.launchers import ClusterJob
    from mlffx.sweeps.worker import Work

    run = tmp_path / "run"
    run.mkdir()
    network = ["model=painn", "model.n_hidden=8", "model.cutoff=2.8", "trainer.max_epochs=4000"]
    job = ClusterJob(Work("long", run, [*TWIN, *network, f"run_dir={run}", "trainer.progress=false"], 1))
    waiting = threading.Thread(target=job)
    waiting.start()
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    delayed = job.checkpoint()
    waiting.join(60)
    assert state(run) == "interrupted"
    assert delayed.function.work.overrides == [f"resume={run}"]


def test_without_slurm_that_is_said(sweep, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    status, said = sweep(*LINEAR, "seed=0,1", "launcher=slurm")
    assert status == 2
    assert "launcher=joblib" in said.splitlines()[-1]


def test_a_killed_sweep_leaves_nothing_running_and_goes_on(sweep, tmp_path):
    """kill -9 of a sweep in the middle of a job: the job ends too, and is resumed, not repeated."""
    network = [*TWIN, "model=painn", "model.n_hidden=8", "model.cutoff=2.8", "launcher.threads=1"]
    axes = ["seed=0,1", "trainer.max_epochs=400"]
    places = [f"sweep_dir={tmp_path / 'sweep'}", f"cache_dir={tmp_path / 'bases'}"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *network, *axes, *places]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    run = tmp_path / "sweep" / "seed=0"
    deadline = time.monotonic() + 240
    while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    n_lines = -1
    while n_lines != (n_lines := len((run / "metrics.csv").read_text().splitlines())):  # still growing?
        time.sleep(1.5)
    assert state(run) == "running", "it could not say that it was killed"
    # the rest of 400 epochs would take long: both jobs are asked for a few more than the first has
    for seed in "01":
        folder = tmp_path / "sweep" / f"seed={seed}"
        if (folder / "config.yaml").is_file():
            config = yaml.safe_load((folder / "config.yaml").read_text())
            config["trainer"]["max_epochs"] = n_lines + 1
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
    status, said = sweep(*network, "seed=0,1", f"trainer.max_epochs={n_lines + 1}")
    assert status == 0, said
    assert "1 begun, 1 missing" in said
    epochs = [int(r["epoch"]) for r in rows(run / "metrics.csv")]
    assert epochs == list(range(n_lines + 1))
    assert (run / "log.txt").read_text().count("--- ") == 2
