"""What W&B is told, read back from its offline files; and that a run does not depend on its server."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from run_files import rows
from small_twin import SMALL
from wandb_files import offline_runs

from mlffx.evaluation.entry import entry_point as evaluate
from mlffx.training.entry import entry_point as train_entry
from mlffx.training.epoch_metrics import EpochMetrics

ROOT = Path(__file__).resolve().parents[2]
LOGGED = [
    *[o for o in SMALL if o != "logger=csv"],
    "model=painn",
    "model.n_hidden=8",
    "model.cutoff=2.8",
    "trainer.max_epochs=4",
    "wandb.tags=[mine]",
]


@pytest.mark.slow
def test_base_delta_and_evaluation_read_back(tmp_path, monkeypatch):
    """Config, commit, hashes, rows with units, phonons, tables, and artifacts from the base to the evaluation."""
    fitted = ["potential=delta", "level=high", "model=force_constants", "data.n_frames=48"]
    delta = tmp_path / "model=linear,seed=0"
    places = [f"run_dir='{delta}'", f"cache_dir={tmp_path / 'bases'}"]
    train_entry([*LOGGED[:-4], *fitted, "wandb.group=ladder", "wandb.tags=[mine]", *places])
    (base,) = (p for p in (tmp_path / "bases").iterdir() if p.is_dir())
    (below,), (top,) = offline_runs(base), offline_runs(delta)
    assert top.run.run_group == "ladder"
    assert set(top.run.tags) == {"delta", "high", "force_constants", "mine", "model=linear", "seed=0"}
    assert top.run.job_type == "training"
    environment = json.loads((delta / "environment.json").read_text())
    assert top.config["commit"] == environment["commit"]
    assert top.config["data_sha256"] == environment["data"]
    assert top.config["model"]["name"] == "force_constants"
    errors = json.loads((delta / "metrics.json").read_text())
    key = "test_difference_energy_rmse_meV_per_atom"
    assert top.summary[key] == pytest.approx(errors[key])
    assert top.exit_code == 0
    assert len(below.made) == 1
    assert top.used == below.made, "the delta stands on what the base put out"

    monkeypatch.setattr("sys.argv", ["evaluate.py"])
    evaluate([f"run='{delta}'", "phonons=quick", "samples=2", "progress=false"])
    (judged,) = offline_runs(delta / "evaluation")
    assert judged.used == top.made
    assert judged.run.run_group == "ladder"
    assert judged.config["training_runs"] == [top.run.run_id]
    (row,) = judged.rows("phonons")
    table = json.loads((delta / "evaluation" / "wandb" / "latest-run" / "files" / row["phonons"]["path"]).read_text())
    with (delta / "evaluation" / "comparison.csv").open() as file:
        written = list(csv.DictReader(file))
    assert len(table["data"]) == len(written)
    column = {name: i for i, name in enumerate(table["columns"])}
    for line, expected in zip(table["data"], written, strict=True):
        assert line[column["q"]] == expected["q_label"]
        assert line[column["frequency_cm1"]] == pytest.approx(float(expected["model_cm1"]), abs=0.006)
    assert row["parity"]["nrows"] == len(judged_frames(delta))
    phonons = json.loads((delta / "evaluation" / "phonons.json").read_text())["frequencies_cm1"]
    assert judged.summary["phonons/GAMMA_LTO_cm1"] == pytest.approx(phonons["GAMMA"]["LTO"]["mean"], abs=0.01)
    assert [n for n in judged.made if n.startswith("evaluation-")]


def judged_frames(run):
    """Frames an evaluation plots: fitted and held out, without those that took no part."""
    from mlffx.training.run_directory import RunDirectory
    from mlffx.training.settings import TrainSettings
    from mlffx.training.task import prepare

    split = prepare(TrainSettings.read(RunDirectory(run).read_config())).split
    return [*split.train, *split.validation, *split.test]


def test_epochs_read_back_are_those_of_metrics_csv(train):
    run = train(*LOGGED, "level=low", "wandb.phonons_every=2")
    (stored,) = offline_runs(run)
    logged = stored.rows("train_loss")
    assert len(logged) == 4
    for written, sent in zip(rows(run), logged, strict=True):
        assert {k: float(v) for k, v in written.items()} == pytest.approx({k: sent[k] for k in written})
    for name in ("val_energy_rmse_meV_per_atom", "val_forces_rmse_meV_per_A", "gradient_norm", "learning_rate"):
        assert logged[-1][name] > 0
    with (run / "phonons.csv").open() as file:
        watched = [r for r in csv.DictReader(file) if r["mode"] == "GAMMA_LTO_cm1"]
    assert [int(r["epoch"]) for r in watched] == [1, 3]
    assert [r["phonons/GAMMA_LTO_cm1"] for r in stored.rows("phonons/GAMMA_LTO_cm1")] == pytest.approx(
        [float(r["cm1"]) for r in watched], abs=1e-3
    )


def test_a_resumed_run_is_the_same_run(train, monkeypatch, tmp_path):
    written = EpochMetrics.on_train_epoch_end

    def stop(self, trainer, module):
        written(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochMetrics, "on_train_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train(*LOGGED, "level=low")
    monkeypatch.setattr(EpochMetrics, "on_train_epoch_end", written)
    run = train(*LOGGED, "level=low")
    first, second = offline_runs(run)
    assert first.run.run_id == second.run.run_id
    assert (first.exit_code, second.exit_code) == (1, 0)
    epochs = [row["epoch"] for r in (first, second) for row in r.rows("train_loss")]
    assert sorted(set(epochs)) == [0, 1, 2, 3]


class Failing(BaseHTTPRequestHandler):
    """Answers every request with an error."""

    def do_POST(self):
        self.send_response(500)
        self.end_headers()

    do_GET = do_PUT = do_POST

    def log_message(self, *args):
        pass


class Dying(BaseHTTPRequestHandler):
    """A server that knows just enough to begin a run, and is gone at the first row."""

    asked = rows = 0

    def do_POST(self):
        type(self).asked += 1
        if self.path == "/healthz":
            self.send_response(404)
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        if "file_stream" in self.path:
            type(self).rows += 1
            self.close_connection = True
            threading.Thread(target=gone, args=[self.server], daemon=True).start()
            return
        answer = {"data": _answer(body)}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST

    def log_message(self, *args):
        pass


def gone(server):
    """Stop serving, and refuse connections."""
    server.shutdown()
    server.server_close()


def _answer(body):
    viewer = {"id": "u", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
    bucket = {
        "id": "abc",
        "name": "run",
        "displayName": "run",
        "description": "",
        "config": "{}",
        "sweepName": None,
        "historyLineCount": 0,
        "project": {"id": "p", "name": "mlffx", "entity": {"id": "e", "name": "someone"}},
    }
    if "UpsertBucket" in body:
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}
    return {
        "viewer": viewer,
        "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []},
        "model": {"bucket": None},
        "project": None,
    }


@contextlib.contextmanager
def serving(handler):
    """A server on this machine, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        gone(server)


def test_a_server_that_cannot_be_reached_makes_an_offline_run(train, monkeypatch, capsys):
    began = time.monotonic()
    with serving(Failing) as address:
        for name, value in {"BASE_URL": address, "API_KEY": "0" * 40}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        wandb.teardown()  # the settings of other tests in this process
        run = train(*LOGGED, "level=low", "wandb.mode=online")
    assert time.monotonic() - began < 60
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B: ")]
    wandb.teardown()
    assert len(said) == 1 and "answers with 500" in said[0] and "wandb sync" in said[0]
    assert [int(r["epoch"]) for r in rows(run)] == [0, 1, 2, 3]
    (stored,) = offline_runs(run)
    assert len(stored.rows("train_loss")) == 4


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_is_not_waited_for(tmp_path):
    """From the command line: no row is lost, the end comes in time, and what was not sent is on disk."""
    run = tmp_path / "run"
    began = time.monotonic()
    with serving(Dying) as address:
        more = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "MLFFX_WANDB_PATIENCE": "10"}
        command = [sys.executable, str(ROOT / "train.py"), *LOGGED, "level=low", "wandb.mode=online"]
        done = subprocess.run(
            [*command, f"run_dir={run}"], env=os.environ | more, capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 0, done.stderr
    assert Dying.asked > 0, "the server was never asked"
    assert Dying.rows > 0, done.stderr
    assert [int(r["epoch"]) for r in rows(run)] == [0, 1, 2, 3]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert time.monotonic() - began < 150
    assert "Traceback" not in done.stderr
    assert list((run / "wandb").glob("run-*/run-*.wandb"))
