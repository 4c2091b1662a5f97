"""Mistakes are told before anything is computed, and every kind of fit gets its own recalibration."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import TWIN

from mlffx.errors import UserError
from mlffx.evaluation.entry import entry_point
from mlffx.evaluation.recalibration import LEAST_SQUARES, READOUT, UNTESTED, honest_scale
from mlffx.evaluation.run import evaluate
from mlffx.evaluation.settings import EvaluateSettings
from mlffx.training.settings import TrainSettings


def test_a_misspelt_table_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'diamond'"):
        EvaluateSettings.compose(["run=RUN", "reference=diamnd"])
    assert EvaluateSettings.compose(["run=RUN", "reference=none"]).reference == "none"


def test_an_output_for_one_run_is_refused() -> None:
    with pytest.raises(UserError, match="nowhere/evaluation"):
        entry_point(["run=nowhere", "output=there"])


def test_dynamics_that_are_too_short_are_told_before_the_run_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run at least"):
        evaluate(tmp_path / "nowhere", dynamics={"production_ps": 0.2, "resolution_cm1": 10})
    with pytest.raises(UserError, match=r"no (such )?run directory"):
        evaluate(tmp_path / "nowhere", dynamics={"production_ps": 0.2, "enabled": False})


@pytest.mark.parametrize(
    ("model", "fit", "ensemble", "scale"),
    [
        ("force_constants", "readout", 1, LEAST_SQUARES),
        ("painn", "readout", 4, READOUT),
        ("painn", "readout", 1, UNTESTED),
        ("painn", "network", 4, UNTESTED),
    ],
)
def test_sigma_is_scaled_as_twins_call_for(model: str, fit: str, ensemble: int, scale: float) -> None:
    config = {"data": TWIN, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": {"name": model}}
    assert honest_scale(TrainSettings.read(config | {"delta": {"fit": fit}, "ensemble": ensemble})) == scale
