"""The search: spaces and curves without jobs, and one small search that prunes, is killed, and goes on."""

from __future__ import annotations

import math

import pytest
import yaml
from small_sweeps import TWIN

from mlffx.errors import UserError
from mlffx.sweeps.launchers import LocalSettings
from mlffx.sweeps.plan import read_sweep
from mlffx.sweeps.search import SearchSettings, _Search, learning_curve
from mlffx.sweeps.search_space import job_of, space

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


def test_a_curve_above_the_median_is_given_up(tmp_path):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1)
    study = optuna.create_study(pruner=pruner)
    searching = _Search(None, SearchSettings(trials=2), LocalSettings(), tmp_path, None, {})
    rows = ["epoch,val_loss", *(f"{epoch},{1 / (1 + epoch)}" for epoch in range(4))]
    verdicts = []
    for factor in (1, 5, 0.5):
        trial = study.ask()
        for n in range(2, len(rows) + 1):
            values = [
                row if i == 0 else f"{row.split(',')[0]},{factor * float(row.split(',')[1])}"
                for i, row in enumerate(rows[:n])
            ]
            (tmp_path / "metrics.csv").write_text("\n".join(values) + "\n")
            verdicts.append((factor, n - 2, searching.give_up(trial, tmp_path)))
        study.tell(trial, factor)
    assert [v for v in verdicts if v[2]] == [(5, 1, True), (5, 2, True), (5, 3, True)]


def test_a_search_counts_trials_prunes_and_goes_on(sweep, tmp_path):
    """Two trials, then two more by the same command; a rate at which training diverges counts as pruned."""
    wanted = [*NETWORK, "trainer.max_epochs=6", "optimizer.lr=1e-3,0.5", "search.sampler=random", "search.seed=8"]
    early = ["search.startup_trials=1", "search.warmup_epochs=1", "search.metric=val_energy_rmse_meV_per_atom"]
    status, said = sweep(*wanted, *early, "search.trials=2")
    assert status == 0, said
    status, said = sweep(*wanted, *early, "search.trials=4")
    assert status == 0, said
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    states = [t.state.name for t in study.trials]
    assert len(states) == 4
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert all(t.params == {"lr": "0.5"} for t in study.trials if t.state.name == "PRUNED")
    best = yaml.safe_load((tmp_path / "sweep" / "best.yaml").read_text())
    assert best["parameters"] == {"lr": "0.001"}
    assert math.isclose(best["val_energy_rmse_meV_per_atom"], study.best_value)
    assert "optimizer.lr=0.001" in best["command"]


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
