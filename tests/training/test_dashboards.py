"""The dashboards plot what runs log, under the names they log it by."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from mlffx.compose import composed
from mlffx.evaluation import wandb_log

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
EPOCH = {"train_loss", "val_loss", "val_energy_rmse_meV_per_atom", "val_forces_rmse_meV_per_A", "val_charge_rms_e"}
EPOCH |= {"learning_rate", "gradient_norm", "gradient_norm_max", "seconds", "structures_per_second"}
HELD_OUT = {f"test_{name}" for name in ("energy_rmse_meV_per_atom", "forces_rmse_meV_per_A")}
HELD_OUT |= {"test_difference_energy_rmse_meV_per_atom", "train_frames"}


@pytest.fixture(scope="module")
def dashboards():
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    spec = importlib.util.spec_from_file_location("wandb_dashboards", SWEEPS / "wandb_dashboards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # of wandb-workspaces
def test_every_panel_plots_something_that_is_logged(dashboards):
    made = dashboards.workspaces("someone", "mlffx")
    assert [w.name for w in made] == ["mlffx: training", "mlffx: learning curves", "mlffx: phonons"]
    known = EPOCH | HELD_OUT | {"phonons", "parity"}
    patterns = [r"phonons/[A-Z]+_[A-Z/]+(_sigma)?_cm1", r"experiment/all_(model|low_level)_(mae|bias|chi2_total)"]
    for workspace in made:
        for title, metrics in dashboards.panels(workspace):
            for metric in metrics:
                assert metric in known or any(re.fullmatch(p, metric) for p in patterns), (title, metric)
        assert workspace._to_model()  # what W&B would be sent


def test_the_names_are_those_of_the_code():
    source = "".join(
        (Path(wandb_log.__file__).parents[1] / name).read_text()
        for name in ("training/epoch_metrics.py", "training/metrics.py", "training/members.py")
    )
    for name in EPOCH | {"train_frames"}:
        assert f'"{name}"' in source, name
    assert 'f"test_{name}_rmse_meV_per_atom"' in source and '"test_forces_rmse_meV_per_A"' in source


def test_the_sweep_of_the_server_calls_train_with_keys_that_exist():
    sweep = yaml.safe_load((SWEEPS / "wandb_sweep.yaml").read_text())
    assert sweep["program"] == "train.py"
    fixed = [c for c in sweep["command"] if not c.startswith("$")]
    first = [f"{key}={about.get('values', [about.get('min')])[0]}" for key, about in sweep["parameters"].items()]
    config = composed("train", [*fixed, *first])
    assert config.wandb.mode == "online"
    assert sweep["metric"]["name"] in EPOCH
