"""A real SLURM on this machine runs a DDP job of two tasks, requeues one that was preempted, and works off a sweep.

Opt-in: MLFFX_SLURM=1, as root, with Debian's slurmctld, slurmd, slurm-client and munge (tests/slurm/one_machine.sh).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlffx.potentials.build import load_potential

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("one_machine.sh")
wanted = os.environ.get("MLFFX_SLURM") and shutil.which("slurmctld") and os.geteuid() == 0
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not wanted, reason="opt-in: MLFFX_SLURM=1, as root, with SLURM")]

SETUP = [
    "data=diamond_twin",
    "data.n_frames=28",
    "data.validation_size=5",
    "data.test_size=4",
    "split_seed=1",
    "level=low",
    "model=painn",
    "model.n_hidden=8",
    "model.cutoff=2.8",
    "trainer.batch_size=3",
    "trainer.precision=float64",
    "trainer.progress=false",
    "logger=csv",
]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of its commands."""
    folder = tmp_path_factory.mktemp("slurm")
    said = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    yield {**os.environ, "SLURM_CONF": said.stdout.strip().partition("=")[2], "OMP_NUM_THREADS": "1"}
    subprocess.run([SCRIPT, "stop", folder], check=True)


def submit(slurm, folder, script, *options):
    """Number of a job."""
    path = folder / "job.sh"
    path.write_text(f"#!/bin/bash\n{script}\n")
    command = ["sbatch", "--parsable", f"--output={folder}/said", "--open-mode=append", *options, str(path)]
    return subprocess.run(command, env=slurm, capture_output=True, text=True, check=True).stdout.strip()


def state(slurm, job):
    shown = subprocess.run(["scontrol", "show", "job", job], env=slurm, capture_output=True, text=True).stdout
    return next(word.partition("=")[2] for word in shown.split() if word.startswith("JobState="))


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(1)


def train_line(arguments, run):
    return " ".join([sys.executable, str(ROOT / "train.py"), *arguments, f"run_dir={run}"])


def rows(run):
    with (run / "metrics.csv").open() as file:
        return [
            {k: float(v) for k, v in r.items() if k not in ("seconds", "structures_per_second")}
            for r in csv.DictReader(file)
        ]


def alike(one, two):
    a, b = (load_potential(run / "checkpoints" / "best.ckpt").state_dict() for run in (one, two))
    assert max(float((a[k] - b[k]).abs().max()) for k in a if a[k].is_floating_point()) < 1e-5
    assert len(rows(one)) == len(rows(two))
    for first, second in zip(rows(one), rows(two), strict=True):
        assert first == pytest.approx(second, rel=1e-6)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """By one process, without SLURM."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    line = train_line([*SETUP, "trainer.max_epochs=60"], run)
    subprocess.run(line.split(), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return run


def test_two_tasks_preempted_and_requeued(slurm, unbroken, tmp_path):
    """SIGUSR1, as `--signal=USR1@60` sends it before the time limit: checkpoint, requeue, the same weights."""
    run, said = tmp_path / "run", tmp_path / "said"
    line = train_line([*SETUP, *TWO, "trainer.max_epochs=60"], run)
    requeue = "[ $status = 138 ] && scontrol requeue $SLURM_JOB_ID"
    script = f"srun {line}\nstatus=$?\necho status $status\n{requeue}\nexit $status"
    job = submit(slurm, tmp_path, script, "--ntasks=2", "--requeue")
    until(lambda: (run / "checkpoints" / "last.ckpt").exists(), 200, lambda: said.read_text())
    subprocess.run(["scancel", "--signal=USR1", f"{job}.0"], env=slurm, check=True)
    until(lambda: "status 138" in said.read_text(), 60, lambda: said.read_text())
    first = json.loads((run / "status.json").read_text())
    assert first["state"] == "interrupted" and "SIGUSR1" in first["reason"]
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < done < 60 * 7
    until(lambda: state(slurm, job) in ("COMPLETED", "FAILED"), 300, lambda: said.read_text())
    assert state(slurm, job) == "COMPLETED", said.read_text()
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    alike(unbroken, run)
    assert "Traceback" not in said.read_text()


def test_a_wrong_number_of_tasks_is_told_once(slurm, tmp_path):
    said = tmp_path / "said"
    job = submit(
        slurm, tmp_path, "srun " + train_line([*SETUP, "trainer.max_epochs=1"], tmp_path / "run"), "--ntasks=2"
    )
    until(lambda: state(slurm, job) in ("COMPLETED", "FAILED"), 200, lambda: said.read_text())
    errors = [line for line in said.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "2 processes were started for 1 device" in errors[0], said.read_text()
    assert not (tmp_path / "run").exists()


def test_a_sweep_through_the_slurm_launcher(slurm, tmp_path):
    jobs = ["model.n_hidden=4,8", "seed=0,1", "trainer.max_epochs=2"]
    launcher = ["launcher=slurm", "launcher.cpus=1", "launcher.mem_gb=2", "launcher.timeout_min=5"]
    setup = [o for o in SETUP if "n_hidden" not in o]
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-m",
        *setup,
        *jobs,
        *launcher,
        f"sweep_dir={tmp_path / 'sweep'}",
    ]
    done = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    finished = [
        p.parent for p in (tmp_path / "sweep").rglob("status.json") if json.loads(p.read_text())["state"] == "finished"
    ]
    assert len(finished) == 4, done.stderr
