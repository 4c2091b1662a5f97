"""Summaries of sweeps that were made up: tables, curves, references, failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from small_sweeps import rows

from mlffx.compose import composed, plain
from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.modes import modes_of, run_modes
from mlffx.evaluation.summarize import main, series, summarize
from mlffx.evaluation.sweep_runs import FORCES, OPTICAL, PHONONS, add_phonons, read_runs
from mlffx.potentials.build import save_potential
from mlffx.training.run_directory import RunDirectory

DATA = ["data=diamond_twin", "data.n_frames=28", "data.validation_size=4", "data.test_size=4"]


def write_run(path: Path, error: float, *overrides: str, exact: str | None = None, state: str = "finished") -> None:
    config = plain(composed("train", [*DATA, *overrides, f"run_dir='{path}'"]))
    run = RunDirectory(path)
    path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    run.set_status(state, **({} if state == "finished" else {"reason": "training diverged"}))
    metrics = {
        "test_energy_rmse_meV_per_atom": error,
        "test_forces_rmse_meV_per_A": 10 * error,
        "train_frames": config["data"]["train_size"],
        "train_seconds": 1.0,
    }
    run.write_metrics(metrics)
    if exact:
        save_potential(twin_potentials(config["data"])[exact], run.best)


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    """painn and force constants, two sizes, two seeds; one job failed, one has not begun."""
    jobs = {}
    for model in ("painn", "force_constants"):
        for size in (10, 20):
            for seed in (0, 1):
                values = {"model": model, "size": str(size), "seed": str(seed)}
                name = ",".join(f"{k}={v}" for k, v in values.items())
                jobs[name] = {"values": values, "overrides": []}
                if values == {"model": "painn", "size": "20", "seed": "1"}:
                    continue
                bad = values == {"model": "painn", "size": "10", "seed": "1"}
                own = [f"model={model}", f"data.train_size={size}", f"seed={seed}", "level=low", "loss=energy"]
                level = "high" if model == "painn" else "low"
                state = "failed" if bad else "finished"
                write_run(tmp_path / name, 20 / size + seed, *own, exact=level, state=state)
    record = {"name": "made_up", "command": "python train.py -m", "axes": ["model", "size", "seed"], "jobs": jobs}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(record))
    return tmp_path


def test_curves_hold_the_seeds_of_each_size(sweep_dir):
    found = {s.name: s for s in series(read_runs(sweep_dir))}
    assert list(found) == ["painn", "force constants (linear)"], "the linear baseline comes last"
    assert found["force constants (linear)"].values(FORCES) == {10: [20.0, 30.0], 20: [10.0, 20.0]}
    assert found["painn"].values(FORCES) == {10: [20.0], 20: [10.0]}
    assert found["painn"].task == "low, energies"


def test_phonon_errors_are_taken_against_the_exact_ones_of_a_twin(sweep_dir):
    sweep = read_runs(sweep_dir)
    reference = add_phonons(sweep, {}, lambda items, name: items)
    data = plain(composed("train", [*DATA]))["data"]
    crystal = Crystal.from_prototype("diamond", ["C"], data["crystal"]["a"])
    low, high = (modes_of([twin_potentials(data)[level]], crystal) for level in ("low", "high"))
    assert np.allclose(reference["low"].mean, low.mean)
    for run in sweep.runs:
        if run.finished:
            is_low = run.settings.model["name"] == "force_constants"
            assert run.numbers[OPTICAL] == pytest.approx((low if is_low else high).optical)
            assert run.numbers[PHONONS] == pytest.approx(0.0 if is_low else high.mae(low), abs=1e-6)
    assert 1290 < low.optical < 1310, "the twin's low level resembles DFT"


def test_modes_are_computed_once_a_checkpoint(sweep_dir, monkeypatch):
    run = RunDirectory(next(p for p in sweep_dir.iterdir() if "force_constants" in p.name))
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56074511)
    first = run_modes(run, crystal)
    monkeypatch.setattr("mlffx.evaluation.modes.modes_of", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(run_modes(run, crystal).mean, first.mean)
    run.best.write_bytes(run.best.read_bytes() + b" ")
    with pytest.raises(pytest.fail.Exception):
        run_modes(run, crystal)


def test_the_summary_lists_what_failed_and_what_is_missing(sweep_dir):
    out = summarize(sweep_dir)
    found = {r["job"]: r for r in rows(out / "summary.csv")}
    assert len(found) == 8
    assert found["model=painn,size=10,seed=1"]["reason"] == "training diverged"
    assert found["model=painn,size=20,seed=1"]["state"] == "missing"
    assert float(found["model=force_constants,size=10,seed=0"]["phonon_mae_cm1"]) == pytest.approx(0, abs=1e-5)
    page = (out / "summary.html").read_text()
    assert "training diverged" in page
    assert "exact ones of the analytic twin" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert (out / "learning_curves.pdf").stat().st_size > 5000


def test_a_directory_of_runs_without_a_record(tmp_path):
    for lr in ("1e-3", "2e-3"):
        write_run(tmp_path / f"lr{lr}", 1.0, "level=low", "model=painn", "data.train_size=10", f"optimizer.lr={lr}")
    found = read_runs(tmp_path)
    assert found.axes == ["optimizer.lr"]
    assert sorted(r.values["optimizer.lr"] for r in found.runs) == ["0.001", "0.002"]


def test_the_reference_given_by_the_user_comes_first(tmp_path):
    for name in ("low", "high"):
        write_run(tmp_path / name, 1.0, "level=low", "model=force_constants", "data.train_size=10", exact=name)
    found = read_runs(tmp_path)
    reference = add_phonons(found, {"low": tmp_path / "high"}, lambda items, name: items)["low"]
    errors = {run.name: run.numbers[PHONONS] for run in found.runs}
    assert errors["high"] == pytest.approx(0.0, abs=1e-9)
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56074511)
    assert errors["low"] == pytest.approx(run_modes(RunDirectory(tmp_path / "low"), crystal).mae(reference))
    assert errors["low"] > 10


def test_summarizing_nothing(tmp_path):
    with pytest.raises(UserError, match="no runs here"):
        summarize(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        summarize(tmp_path / "gone")
    with pytest.raises(UserError, match="LEVEL=RUN_DIR"):
        main([str(tmp_path), "--reference", "ccsdt"])
