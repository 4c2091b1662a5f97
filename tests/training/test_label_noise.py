"""Errors of every rung beside the noise of its labels, and a note where noise was learned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_twin import SMALL

from mlffx.evaluation.rungs import above_the_noise, lines
from mlffx.training.label_noise import Rung, read_rungs

RUNG = Rung("ccsdt", "mp2", label_noise_meV_per_atom=0.22, train_rmse_meV_per_atom=0.24, test_rmse_meV_per_atom=0.27)


def test_a_training_error_below_the_noise_is_noise_that_was_learned():
    assert not RUNG.fits_noise
    assert not replace(RUNG, train_rmse_meV_per_atom=0.21).fits_noise  # the noise itself is known to some 10 %
    below = replace(RUNG, train_rmse_meV_per_atom=0.15)
    assert below.fits_noise
    assert not replace(below, label_noise_meV_per_atom=None).fits_noise
    assert not replace(below, label_noise_meV_per_atom=0.0).fits_noise
    verdicts = [above_the_noise(rungs) for rungs in ([RUNG], [RUNG, below], [])]
    assert verdicts[0] is not None and verdicts[0].word == "pass"
    assert verdicts[1] is not None and verdicts[1].word == "fail"
    assert "training error 0.150" in verdicts[1].statement and "fewer parameters" in verdicts[1].statement
    assert verdicts[2] is None
    assert lines([RUNG]) == [("rung ccsdt - mp2", "training error 0.240, held out 0.270, label noise 0.220 meV/atom")]


def test_every_rung_of_a_ladder_is_told_with_its_noise(train, capsys):
    linear = ["model=force_constants", "model.cutoff=2.8", "model.angle_orders=[3]"]
    run = train(*SMALL, "data.n_frames=48", "data.noise={high: 0.05}", "level=high", "potential=delta", *linear)
    metrics = json.loads((run / "metrics.json").read_text())
    per_atom = 1e3 * 0.05 / 32
    assert metrics["label_noise_meV_per_atom"] == pytest.approx(per_atom, rel=1e-3)
    low, high = read_rungs(run)
    assert (low.name, high.name) == ("low", "high - low")
    assert low.label_noise_meV_per_atom == 0.0
    assert high.train_rmse_meV_per_atom == metrics["train_energy_rmse_meV_per_atom"]
    assert 0.6 * per_atom < high.train_rmse_meV_per_atom < 2 * per_atom
    said = " ".join(capsys.readouterr().err.split())
    assert high.statement in said and "note" not in said
    (run / "metrics.json").unlink()
    assert read_rungs(run) == []
