"""The search: spaces and curves without jobs, and one small search that prunes, is killed, and goes on."""

from __future__ import annotations

import math

import pytest
import yaml
from small_sweeps import TWIN

from mlffx.errors import UserError
from mlffx.sweeps.plan import read_sweep
from mlffx.sweeps.search import job_of, learning_curve, space

optuna = pytest.importorskip("optuna")
SPACE = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "model.n_hidden=int(interval(4,16))", "trainer.batch_size=2,4"]
NETWORK = [*TWIN, "model=painn", "model.cutoff=2.8", "model.n_hidden=8", "launcher.threads=1"]


def test_hydras_grammar_becomes_distributions():
    found = space(read_sweep(None, SPACE))
    assert found["optimizer.lr"] == optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    assert found["model.n_hidden"] == optuna.distributions.IntDistribution(4, 16)
    assert found["batch_size"] == optuna.distributions.CategoricalDistribution(["2", "4"])


def test_what_is_drawn_becomes_overrides():
    asked = read_sweep(None, ["seed=3", *SPACE])
    job = job_of(asked, {"optimizer.lr": 0.00123, "model.n_hidden": 7, "batch_size": "4"}, "trial=0000")
    assert job.overrides == ["seed=3", "trainer.batch_size=4", "optimizer.lr=0.00123", "model.n_hidden=7"]


def test_a_growing_file_is_read_to_its_last_whole_row(tmp_path):
    path = tmp_path / "metrics.csv"
    assert learning_curve(path, "val_loss") == {}
    path.write_text("epoch,val_loss\n0,1.5\n1,nan\n2,0.5\n3,0.")
    assert learning_curve(path, "val_loss") == {0: 1.5, 2: 0.5}
    with pytest.raises(UserError, match=r"search\.metric.*val_loss"):
        learning_curve(path, "val_los")


def test_a_search_counts_trials_prunes_and_goes_on(sweep, tmp_path):
    """Two trials, then two more by the same command with another number; the worst of all rates is pruned."""
    wanted = [*NETWORK, "trainer.max_epochs=6", "optimizer.lr=5e-3,1e-12", "search.sampler=random", "search.seed=1"]
    early = ["search.startup_trials=1", "search.warmup_epochs=1", "search.metric=val_energy_rmse_meV_per_atom"]
    status, said = sweep(*wanted, *early, "search.trials=2")
    assert status == 0, said
    status, said = sweep(*wanted, *early, "search.trials=4")
    assert status == 0, said
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    states = [t.state.name for t in study.trials]
    assert len(states) == 4
    assert set(states) <= {"COMPLETE", "PRUNED"}
    best = yaml.safe_load((tmp_path / "sweep" / "best.yaml").read_text())
    assert best["parameters"] == {"lr": "0.005"}
    assert math.isclose(best["val_energy_rmse_meV_per_atom"], study.best_value)
    assert "optimizer.lr=0.005" in best["command"]


def test_a_trial_whose_sweep_was_killed_is_continued(sweep, tmp_path):
    wanted = [*NETWORK, "trainer.max_epochs=2", "seed=0,1", "search.sampler=random"]
    assert sweep(*wanted, "search.trials=1")[0] == 0
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    lost = study.ask({"seed": optuna.distributions.CategoricalDistribution(["0", "1"])})  # what a killed sweep leaves
    lost.set_user_attr("directory", f"trial={lost.number:04d}")
    (tmp_path / "sweep" / f"trial={lost.number:04d}").mkdir()
    status, said = sweep(*wanted, "search.trials=2")
    assert status == 0, said
    again = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}").trials
    assert [t.state.name for t in again] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert again[2].params == lost.params
    assert again[2].user_attrs["directory"] == f"trial={lost.number:04d}"


def test_another_search_in_the_same_place_is_refused(sweep):
    wanted = [*NETWORK, "trainer.max_epochs=1", "search.trials=1", "seed=0,1"]
    assert sweep(*wanted)[0] == 0
    status, said = sweep(*wanted, "optimizer.lr=1e-3")
    assert status == 2
    assert "sweep_dir" in said.splitlines()[-1]
