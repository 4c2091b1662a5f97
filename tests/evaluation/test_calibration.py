"""Repetitions on a twin: the study finds the truth, goes on where it was, and says whether bars are honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from twin_runs import TWIN

from mlffx.errors import UserError
from mlffx.evaluation import calibration


def write_config(path: Path, **changes: object) -> Path:
    config = {
        "data": TWIN | {"n_frames": 36, "noise": {"high": 0.003}},
        "level": {"name": "high"},
        "potential": {"kind": "delta"},
        "model": {"name": "force_constants", "cutoff": 2.0},
    }
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(config | changes))
    return path


def test_repetitions_scatter_about_the_truth_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, store = write_config(tmp_path / "run"), tmp_path / "store.json"
    two = calibration.study(run, 2, samples=4, store=store)
    assert two.frequencies.shape == two.sigmas.shape == (2, len(two.modes)) and two.modes[0] == "GAMMA LTO"
    assert np.abs(two.frequencies - two.truth).max() < 0.1 * two.truth.max() and (two.sigmas > 0).all()
    assert np.ptp(two.frequencies[:, 0]) > 0  # other structures and noise
    monkeypatch.setattr(calibration, "fit_one", lambda *a: pytest.fail("repeated what was finished"))
    again = calibration.study(run, 2, samples=4, store=store)
    assert np.array_equal(again.frequencies, two.frequencies)
    assert again.scaled(3.0).overall.factor == pytest.approx(two.overall.factor / 3)
    with pytest.raises(pytest.fail.Exception):
        calibration.study(run, 2, samples=5, store=store)  # another question


def test_the_factor_of_the_first_run_is_tried_on_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)

    def study(run: str, *arguments: object) -> calibration.Study:
        sigma = {"wide": 1.0, "narrow": 0.5}[Path(run).name]
        return calibration.Study(
            ["GAMMA LTO"], 1300 + rng.normal(size=(400, 1)), np.full((400, 1), sigma), np.array([1300.0])
        )

    monkeypatch.setattr(calibration, "study", study)
    for name in ("narrow", "wide"):
        (tmp_path / name / "evaluation").mkdir(parents=True)
    calibration.main([str(tmp_path / "narrow"), str(tmp_path / "wide")])
    narrow, wide = (
        json.loads((tmp_path / n / "evaluation" / "calibration.json").read_text()) for n in ("narrow", "wide")
    )
    assert narrow["factor"] == wide["factor"] == pytest.approx(2.0, abs=0.2)
    assert narrow["with_factor"]["coverage"]["0.68"] == pytest.approx(0.68, abs=0.06)
    assert wide["with_factor"]["coverage"]["0.68"] > 0.9  # was honest before
    assert (tmp_path / "narrow" / "evaluation" / "coverage.png").is_file()
    assert "in the 68 % bar" in capsys.readouterr().out


def test_only_what_can_be_judged_in_minutes_is_repeated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would train a network"):
        calibration.study(write_config(tmp_path / "net", model={"name": "painn"}, delta={"fit": "network"}))
    with pytest.raises(UserError, match="true phonons"):
        calibration.study(write_config(tmp_path / "paper", data={"kind": "paper"}))
