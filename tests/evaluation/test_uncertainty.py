"""Error bars against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.evaluation.uncertainty import (
    Estimate,
    block_bootstrap,
    calibrate,
    combine,
    over_members,
    over_models,
    paired_bootstrap,
    propagate,
    small_sample_factor,
    z_scores,
)


def test_intervals_of_small_ensembles_hold_a_further_draw_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 4, 8):
        draws = rng.normal(size=(n + 1, 20000))
        estimate = over_members(draws[:n])
        inside = np.abs(draws[n] - estimate.mean) <= estimate.sigma
        assert inside.mean() == pytest.approx(0.6827, abs=0.01), n


def test_one_member_has_no_sigma_rather_than_zero() -> None:
    assert np.isnan(over_members(np.array([[1300.0, 800.0]])).sigma).all()
    assert np.isnan(small_sample_factor(1))
    within = over_members(np.array([[1300.0]]), within=np.array([[3.0]]))
    assert within.sigma == pytest.approx(3.0)


def test_unknown_parts_are_left_out_of_a_combination() -> None:
    assert combine(3.0, 4.0) == pytest.approx(5.0)
    assert combine(np.nan, 4.0) == pytest.approx(4.0)
    assert np.isnan(combine(np.nan, np.nan))


def test_model_form_spread_adds_to_what_the_runs_claim() -> None:
    total, form = over_models(
        [Estimate(np.array(1340.0), np.array(3.0), 4), Estimate(np.array(1370.0), np.array(4.0), 4)]
    )
    assert total.mean == pytest.approx(1355.0)
    assert form == pytest.approx(small_sample_factor(2) * 30 / np.sqrt(2))
    assert total.sigma == pytest.approx(np.hypot(form, np.sqrt(12.5)))


def test_linear_propagation_is_that_of_sampled_parameters() -> None:
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(4, 4))
    covariance, jacobian = factor @ factor.T, rng.normal(size=(3, 4))
    sampled = (rng.multivariate_normal(np.zeros(4), covariance, 50000) @ jacobian.T).std(axis=0)
    assert propagate(jacobian, covariance) == pytest.approx(sampled, rel=0.02)


def test_block_bootstrap_sees_the_correlation_that_a_plain_one_misses() -> None:
    rng, memory, n = np.random.default_rng(2), 0.9, 4000
    noise, series = rng.normal(size=n), np.zeros(n)
    for i in range(1, n):
        series[i] = memory * series[i - 1] + noise[i]
    truth = 1 / (1 - memory) / np.sqrt(n)  # of the mean of an AR(1) process, large n
    assert block_bootstrap(series, np.mean, block=100, n_resamples=400).sigma == pytest.approx(truth, rel=0.25)
    assert block_bootstrap(series, np.mean, block=1, n_resamples=400).sigma < 0.4 * truth


def test_calibration_finds_bars_that_are_too_narrow_and_mends_them() -> None:
    rng = np.random.default_rng(3)
    errors = rng.normal(size=2000)
    honest = calibrate(z_scores(errors, np.ones(2000), np.zeros(2000)))
    assert honest.honest and honest.factor == pytest.approx(1.0, abs=0.06)
    narrow = calibrate(z_scores(errors, np.full(2000, 0.5), np.zeros(2000)))
    assert not narrow.honest and narrow.coverage[0.68] < 0.45
    mended = calibrate(z_scores(errors, np.full(2000, 0.5 * narrow.factor), np.zeros(2000)))
    assert mended.coverage[0.68] == pytest.approx(0.68, abs=0.01)


def test_values_without_sigma_do_not_enter_the_calibration() -> None:
    assert len(z_scores(np.ones(3), np.array([1.0, np.nan, 0.0]), np.zeros(3))) == 1
    assert calibrate(np.array([])).n == 0


def test_paired_bootstrap_tells_better_from_equal() -> None:
    rng = np.random.default_rng(4)
    common = rng.normal(size=100)
    better = paired_bootstrap(common, common + np.sign(common) * 0.5)
    assert better["difference"] == pytest.approx(-0.5) and better["p_better"] > 0.99
    equal = paired_bootstrap(rng.normal(size=100), rng.normal(size=100))
    assert 0.02 < equal["p_better"] < 0.98
