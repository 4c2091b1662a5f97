"""Least squares against what can be computed by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.errors import UserError
from mlffx.potentials.linear_fit import fit_linear

N, P, ATOMS = 60, 7, 32


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(N, P)) * np.logspace(-2, 3, P)
    truth = rng.normal(size=P) / np.logspace(-2, 3, P)
    return rng, design, truth, np.full(N, float(ATOMS))


def test_noiseless_labels_give_the_coefficients_back(problem):
    _, design, truth, n_atoms = problem
    fit = fit_linear(design, design @ truth - 1.7 * n_atoms, n_atoms, ridge=1e-14)
    np.testing.assert_allclose(fit.coefficients, truth, rtol=1e-6)
    assert fit.offset == pytest.approx(-1.7, abs=1e-8)


def test_leave_one_out_is_what_leaving_out_gives(problem):
    rng, design, truth, n_atoms = problem
    energies = design @ truth + rng.normal(size=N)
    fit = fit_linear(design, energies, n_atoms, robust=False, ridge=1e-12)
    for k in (0, 17, 59):
        kept = np.arange(N) != k
        without = fit_linear(design[kept], energies[kept], n_atoms[kept], robust=False, ridge=1e-12)
        predicted = design[k] @ without.coefficients + without.offset * ATOMS
        assert predicted - energies[k] == pytest.approx(fit.leave_one_out[k], rel=1e-4)


def test_wrong_labels_are_weighed_down(problem):
    rng, design, truth, n_atoms = problem
    energies = design @ truth + 0.01 * rng.normal(size=N)
    energies[[3, 20]] += [40.0, -25.0]
    fit = fit_linear(design, energies, n_atoms)
    assert set(np.flatnonzero(fit.weights < 0.1)) == {3, 20}
    np.testing.assert_allclose(design @ (fit.coefficients - truth), 0, atol=0.05)


def test_a_useless_design_is_not_fitted(problem):
    """With more features than labels and labels of pure noise, the ridge must win."""
    rng, _, _, n_atoms = problem
    design = rng.normal(size=(N, 3 * N))
    energies = rng.normal(size=N)
    fit = fit_linear(design, energies, n_atoms)
    assert np.std(design @ fit.coefficients) < 0.5
    assert np.sqrt(np.mean(fit.leave_one_out**2)) > 0.7


def test_the_posterior_says_what_new_labels_would_give(problem):
    rng, design, truth, n_atoms = problem
    noise = np.where(np.arange(N) < N // 2, 0.1, 1.0)  # not the same for all
    direction = rng.normal(size=P) / np.logspace(-2, 3, P)
    found, claimed = [], []
    for _ in range(200):
        fit = fit_linear(design, design @ truth + noise * rng.normal(size=N), n_atoms, robust=False, ridge=1e-12)
        found.append(direction @ (fit.coefficients - truth))
        claimed.append(direction @ fit.covariance @ direction)
    assert np.sqrt(np.mean(claimed)) == pytest.approx(np.std(found), rel=0.2)
    spread = direction @ fit.spread
    assert spread @ spread == pytest.approx(direction @ fit.covariance @ direction)


def test_forces_determine_what_energies_leave_open(problem):
    rng, _, truth, _ = problem
    design = rng.normal(size=(4, P))
    force_rows = rng.normal(size=(4 * 3 * ATOMS, P))
    n_atoms = np.full(4, float(ATOMS))
    fit = fit_linear(design, design @ truth, n_atoms, force_rows, force_rows @ truth, robust=False, ridge=1e-14)
    np.testing.assert_allclose(fit.coefficients, truth, atol=1e-8)


def test_structures_that_do_not_differ_are_told(problem):
    _, design, truth, n_atoms = problem
    for same in (design[:1], np.repeat(design[:1], 20, axis=0)):
        with pytest.raises(UserError, match="do not differ"):
            fit_linear(same, same @ truth, n_atoms[: len(same)])
