"""Prior widths by evidence: what is known of the coefficients' sizes must come out, and help."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.potentials.evidence import LIKELY, prior_variances
from mlffx.potentials.linear_fit import fit_linear

N, ATOMS = 160, 64
SIZES, COUNTS, NOISE = np.array([1.0, 0.03]), (14, 24), 2.0


def problem(seed: int):
    """Few large coefficients and many small ones under noise: design [N, 38], labels, truth, groups."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1], COUNTS)
    a = rng.normal(size=(N, len(groups)))
    truth = rng.normal(size=len(groups)) * SIZES[groups]
    return a, a @ truth + NOISE * rng.normal(size=N), truth, groups


def test_widths_are_those_the_coefficients_were_drawn_with():
    found = []
    for seed in range(12):
        a, b, _, groups = problem(seed)
        found.append(prior_variances(a, b, groups))
    ratio = np.sqrt(np.median(found, axis=0)) * NOISE / SIZES
    assert ratio[0] == pytest.approx(1, rel=0.3)
    assert 0.3 < ratio[1] < 3  # far below the noise: about its size, and never nothing


def test_labels_of_pure_noise_leave_nothing():
    a, _, _, groups = problem(0)
    noise = np.random.default_rng(0).normal(size=N)
    fit = fit_linear(a, noise, np.full(N, ATOMS), robust=False, groups=groups)
    assert np.std(a @ fit.coefficients) < 0.3
    assert fit_linear(a, np.zeros(N), np.full(N, ATOMS), groups=groups).degrees_of_freedom == pytest.approx(1, abs=0.1)


def test_a_ridge_for_each_kind_is_nearer_to_the_truth_than_one_for_all():
    errors, sigmas = [], []
    for seed in range(20):
        a, b, truth, groups = problem(seed)
        kinds = ({"groups": groups}, {})
        fits = [fit_linear(a, b, np.full(N, ATOMS), robust=False, **kind) for kind in kinds]
        errors.append([np.sqrt(np.mean((fit.coefficients - truth) ** 2)) for fit in fits])
        sigmas.append(((fits[0].coefficients - truth) / np.sqrt(np.diag(fits[0].covariance)))[groups == 0])
    by_kind, one = np.mean(errors, axis=0)
    assert by_kind < 0.9 * one
    assert np.sqrt(np.mean(np.square(sigmas))) == pytest.approx(1, abs=0.2)


def test_the_penalty_of_a_fit_gives_the_fit_again():
    a, b, _, groups = problem(0)
    n_atoms = np.full(N, ATOMS)
    for kind in ({"groups": groups}, {"ridge": 1e-2}):
        fit = fit_linear(a, b, n_atoms, robust=False, **kind)
        again = fit_linear(a, b, n_atoms, robust=False, penalty=fit.penalty)
        np.testing.assert_allclose(again.coefficients, fit.coefficients, rtol=1e-8)
        np.testing.assert_allclose(again.covariance, fit.covariance, rtol=1e-6, atol=1e-12)


def test_wrong_labels_do_not_widen_the_priors():
    a, b, truth, groups = problem(0)
    b[[3, 50]] += [200.0, -300.0]
    fit = fit_linear(a, b, np.full(N, ATOMS), groups=groups)
    assert set(np.flatnonzero(fit.weights < 0.1)) >= {3, 50}
    clean = fit_linear(a, a @ truth + NOISE * np.random.default_rng(9).normal(size=N), np.full(N, ATOMS), groups=groups)
    assert np.abs(fit.coefficients - truth).max() < 3 * np.abs(clean.coefficients - truth).max()


def test_more_features_than_labels_are_not_fitted_exactly():
    """Most of the labels is noise: a fit through all of them would take it for coefficients."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(30, 38))
        b = a[:, 0] + 2 * rng.normal(size=30)
        fit = fit_linear(a, b, np.full(30, ATOMS), robust=False, groups=np.repeat([0, 1], COUNTS))
        assert fit.degrees_of_freedom < 27
        assert np.std(a @ fit.coefficients + fit.offset * ATOMS - b) > 0.2
        assert np.isfinite(fit.covariance).all()


def test_one_way_of_holding_back_at_a_time():
    a, b, _, groups = problem(0)
    with pytest.raises(ValueError, match="one of"):
        fit_linear(a, b, np.full(N, ATOMS), groups=groups, ridge=1e-3)


def test_no_other_widths_are_more_probable():
    """By the formula of the docstring, with the whole matrix of the labels."""
    a, b, _, groups = problem(2)
    n = len(b)
    sizes = np.array([(a[:, groups == g] ** 2).sum() / n for g in range(2)])

    def log_probability(variances: np.ndarray) -> float:
        k = np.eye(n) + (a * variances[groups]) @ a.T
        width = np.sqrt(variances * sizes)
        likelihood = -0.5 * (n - 1) * np.log(b @ np.linalg.solve(k, b)) - 0.5 * np.linalg.slogdet(k)[1]
        return float(likelihood + np.sum(np.log(width) - np.log1p((width / LIKELY) ** 2)))

    found = prior_variances(a, b, groups)
    best = log_probability(found)
    for factor in (0.8, 1.25):
        for g in range(2):
            assert log_probability(np.where(np.arange(2) == g, factor * found, found)) < best
