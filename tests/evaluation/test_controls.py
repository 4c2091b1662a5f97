"""Verdicts on cases that are clear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from twin_runs import made_up_spectra

from mlffx.evaluation.controls import (
    agreement,
    cheap_base_forces,
    force_recovery,
    residual_trend,
    shuffled_differences,
    size_dependence,
    truth_recovered,
)
from mlffx.evaluation.figures.energies import EnergyResiduals
from mlffx.evaluation.uncertainty import Estimate


def _e(mean: float, sigma: float, n: int = 4) -> Estimate:
    return Estimate(np.array(mean), np.array(sigma), n)


def test_shuffled_labels() -> None:
    assert shuffled_differences(_e(1.0, 4.0), 57.0).word == "pass"
    assert shuffled_differences(_e(40.0, 4.0), 57.0).word == "fail"
    assert shuffled_differences(_e(1.0, 60.0), 57.0).word == "inconclusive"  # shuffles scatter as far as the shift
    assert shuffled_differences(_e(1.0, float("nan"), 1), 57.0).word == "inconclusive"
    assert shuffled_differences(_e(0.0, 0.0), 5.3, real_sigma=7.7).word == "inconclusive"  # no shift to be proven
    assert (
        "in order +57.0 ± 7.7 cm⁻¹ (X TO)"
        in shuffled_differences(_e(0.0, 0.0), 57.0, real_sigma=7.7, mode="X TO").statement
    )


def test_forces_never_seen() -> None:
    rng = np.random.default_rng(0)
    true = [rng.normal(size=(8, 3)) for _ in range(4)]
    assert force_recovery([f + 0.02 * rng.normal(size=f.shape) for f in true], true).word == "pass"
    assert force_recovery([0 * f + rng.normal(size=f.shape) for f in true], true).word == "fail"
    verdict = force_recovery([1.2 * f for f in true], true, trained_with_forces=0.01)
    assert verdict.word == "inconclusive" and "with forces 10 meV" in verdict.statement


def test_forces_above_a_cheap_base() -> None:
    rng = np.random.default_rng(0)
    true = [rng.normal(size=(8, 3)) for _ in range(4)]
    base, near, far = ([f + s * rng.normal(size=f.shape) for f in true] for s in (0.4, 0.02, 0.5))
    found = cheap_base_forces("base", base, near, far, true)
    assert found.word == "pass" and found.numbers["composed_rms_error_meV_per_A"] < 30
    assert cheap_base_forces("base", base, far, near, true).word == "fail"  # the difference makes it worse
    assert cheap_base_forces("base", far, [0.8 * f for f in true], near, true).word == "inconclusive"


def test_agreement_needs_error_bars() -> None:
    assert agreement("linear", _e(1368, 3), "network", _e(1371, 4)).word == "pass"
    assert agreement("linear", _e(1368, 3), "network", _e(1391, 4)).word == "fail"
    assert agreement("linear", _e(1368, float("nan")), "network", _e(1391, float("nan"))).word == "inconclusive"
    assert agreement("linear", _e(1368, 30), "network", _e(1391, 30)).word == "inconclusive"


def test_training_size() -> None:
    assert size_dependence([160, 50, 100], [_e(1367, 3), _e(1340, 9), _e(1364, 4)]).word == "pass"
    assert size_dependence([50, 100], [_e(1340, 3), _e(1367, 3)]).word == "fail"
    assert size_dependence([50], [_e(1340, 3)]).word == "inconclusive"


def _residuals(error: np.ndarray, amplitude: np.ndarray, noise: float | None) -> EnergyResiduals:
    return EnergyResiduals(np.zeros(len(error)), error, amplitude, np.ones(len(error), dtype=bool), noise)


def test_residuals_that_grow_with_amplitude() -> None:
    rng, amplitude = np.random.default_rng(1), np.linspace(0.01, 0.1, 60)
    flat, growing = rng.normal(size=60), rng.normal(size=60) * (amplitude / 0.03) ** 2
    assert residual_trend(_residuals(0.1 * flat, amplitude, 0.1)).word == "pass"
    assert residual_trend(_residuals(growing, amplitude, 0.1)).word == "fail"
    assert residual_trend(_residuals(0.01 * growing, amplitude, 0.1)).word == "pass"  # below the noise: no matter
    assert residual_trend(_residuals(flat[:5], amplitude[:5], None)).word == "inconclusive"


def test_a_twins_truth() -> None:
    model = made_up_spectra(seed=2)
    points = {
        k: replace(p, frequencies=p.frequencies.mean(axis=0, keepdims=True) * 1.004) for k, p in model.points.items()
    }
    near = replace(model, points=points)
    assert truth_recovered(model, near).word == "pass"
    far = replace(model, points={k: replace(p, frequencies=p.frequencies * 1.05) for k, p in points.items()})
    assert truth_recovered(model, far).word == "fail"
    tight = {
        k: replace(p, frequencies=p.frequencies.mean(axis=0) * (1 + 1e-4 * np.arange(4)[:, None]))
        for k, p in model.points.items()
    }
    assert truth_recovered(replace(model, points=tight), near).word == "fail"  # within 2 %, but the bars are too short
