"""Several processes train what one would: the same weights and metrics, every structure once, one run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import TIMES, rows, weights
from small_twin import SMALL

from mlffx.data import keys
from mlffx.errors import UserError
from mlffx.training.datamodule import EpochOrder, GraphBatches, share_of
from mlffx.training.distributed import check_processes, surrounding_world
from mlffx.training.losses import EnergyForceLoss
from mlffx.training.settings import LossSettings, TrainSettings
from mlffx.training.task import prepare

ROOT = Path(__file__).resolve().parents[2]
# 19 frames in batches of 3: the last one has a single structure, and the second process nothing of it.
SETUP = [
    *SMALL[:-1],
    "data.validation_size=5",
    "model=painn",
    "model.n_hidden=8",
    "model.cutoff=2.8",
    "level=low",
    "trainer.batch_size=3",
    "trainer.precision=float64",
    "trainer.progress=false",
]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def same_run(one, two):
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert max(float((a[k] - b[k]).abs().max()) for k in a if a[k].is_floating_point()) < 1e-5
    assert len(rows(one)) == len(rows(two))
    for first, second in zip(rows(one), rows(two), strict=True):
        assert first.keys() == second.keys()
        for key in first.keys() - set(TIMES):
            assert float(first[key]) == pytest.approx(float(second[key]), rel=1e-6, abs=1e-12), key


def command_line(arguments, start=(sys.executable,)):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, str(ROOT / "train.py"), *arguments], env=environment, capture_output=True, text=True, timeout=500
    )


def test_two_processes_train_what_one_does(train, tmp_path):
    """Forces, uneven batches and early stopping, which both processes must agree on."""
    stopping = ["trainer.max_epochs=12", "trainer.patience=1", "optimizer.lr=0.2", "scheduler=constant"]
    one = train(*SETUP, *stopping, name="one")
    assert len(rows(one)) < 12, "early stopping took no part"
    two = tmp_path / "two"
    done = command_line([*SETUP, *TWO, *stopping, f"run_dir={two}"])
    assert done.returncode == 0, done.stderr
    same_run(one, two)
    a, b = (json.loads((run / "metrics.json").read_text()) for run in (one, two))
    assert a["test_forces_rmse_meV_per_A"] == pytest.approx(b["test_forces_rmse_meV_per_A"], rel=1e-6)
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert done.stderr.count("diamond_twin:") == 1, "every process announces itself"


@pytest.mark.slow
def test_a_ladder_of_ensembles_under_torchrun(train, tmp_path):
    """Base, its members, their deltas: all in the processes torchrun started, energies only."""
    setup = [*SETUP, "potential=delta", "delta.fit=network", "level=high", "ensemble=2", "trainer.max_epochs=3"]
    setup = [o for o in setup if o != "level=low"]
    one = train(*setup, "trainer.workers=1", name="one")
    two = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = command_line([*setup, *TWO, f"run_dir={two}", f"cache_dir={tmp_path / 'other'}"], start=torchrun)
    assert done.returncode == 0, done.stderr
    for k in "01":
        same_run(one / "members" / k, two / "members" / k)
    assert sorted(p.name for p in (two / "members").iterdir()) == ["0", "1"]
    assert not list(two.rglob(".base-*"))


@pytest.fixture(scope="module")
def graphs():
    """Labelled graphs of different sizes: some structures lose atoms."""
    from mlffx.compose import composed, plain

    config = plain(composed("train", [*SMALL, "level=low"]))
    task = prepare(TrainSettings.read(config))
    found = task.graphs(2.8, np.arange(7))
    for graph in found[::3]:  # a structure repeated beside itself has twice the atoms
        names = graph.keys()  # of the graph: iterating over it gives pairs
        for name in [k for k in names if graph.is_node_attr(k)]:
            graph[name] = torch.cat([graph[name], graph[name]])
        assert graph.num_nodes == len(graph[keys.NUMBERS])
    return found


def of_labels(batch):
    """Predictions that are wrong in a way that differs from structure to structure."""
    return {keys.ENERGY: 1.01 * batch[keys.ENERGY], keys.FORCES: 0.9 * batch[keys.FORCES] + 0.1}


@pytest.mark.parametrize("size", [2, 3])
def test_the_mean_over_processes_is_the_mean_over_the_batch(graphs, size):
    loss = EnergyForceLoss(LossSettings(), True, 0.1, 1.0)
    alone = [loss(of_labels(b), b) for b in GraphBatches(graphs, 4, EpochOrder(len(graphs), 3))]
    shared = [
        [loss(of_labels(b), b) for b in GraphBatches(graphs, 4, EpochOrder(len(graphs), 3), rank, size)]
        for rank in range(size)
    ]
    for k, whole in enumerate(alone):
        mean = sum(process[k] for process in shared) / size
        assert float(mean) == pytest.approx(float(whole), rel=1e-12)


def test_every_structure_is_in_one_process_once(graphs):
    for epoch in (0, 1):
        found = []
        for rank in range(3):
            order = EpochOrder(len(graphs), 0)
            order.set_epoch(epoch)
            for batch in GraphBatches(graphs, 4, order, rank, 3):
                if share_of(batch).of_structures > 0:
                    found += batch.frame.tolist()
        assert sorted(found) == list(range(len(graphs)))


def test_batches_are_taken_up_where_they_were_left(graphs):
    def frames(batches):
        return [b.frame.tolist() for b in batches]

    whole = frames(GraphBatches(graphs, 2, EpochOrder(len(graphs), 5)))
    left = GraphBatches(graphs, 2, EpochOrder(len(graphs), 5))
    begun = iter(left)
    first = [next(begun).frame.tolist(), next(begun).frame.tolist()]
    again = GraphBatches(graphs, 2, EpochOrder(len(graphs), 5))
    again.load_state_dict(left.state_dict())
    assert first + frames(again) == whole
    assert frames(again) == whole, "the next epoch begins at its beginning"


def test_processes_that_srun_and_torchrun_start(monkeypatch):
    assert surrounding_world() is None
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script that calls python without srun
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert surrounding_world() is None
    check_processes(1, 1)
    with pytest.raises(UserError, match=r"3 nodes.*srun or torchrun"):
        check_processes(1, 3)
    step = {"STEP_NUM_TASKS": "4", "PROCID": "3", "LOCALID": "1", "JOB_ID": "77", "NODELIST": "node[01-02]"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    world = surrounding_world()
    assert (world.rank, world.local_rank, world.size, world.address) == (3, 1, 4, "node01")
    check_processes(2, 2)
    with pytest.raises(UserError, match=r"4 processes.*1 device.*trainer.devices=4"):
        check_processes(1, 1)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert surrounding_world().size == 2
