"""One weighted ridge solution: coefficients, exact leave-one-out residuals, posterior covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RIDGES = np.logspace(-9, 2, 45)  # relative to the largest eigenvalue
TOLERATED = 1.05  # of the lowest mean square error: the strongest ridge that is not clearly worse


class Solution(NamedTuple):
    """Fields as in `LinearFit`, of standardised columns; damping is the ridge times the largest eigenvalue."""

    coefficients: np.ndarray
    offset: float
    leave_one_out: np.ndarray
    covariance: np.ndarray
    ridge: float
    damping: float
    degrees_of_freedom: float


def centred(
    x: np.ndarray, y: np.ndarray, n_atoms: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted design and labels without their part along the offset, and the unit vector of the offset."""
    root = np.sqrt(weights)
    direction = root * n_atoms / np.linalg.norm(root * n_atoms)
    a, b = root[:, None] * x, root * y
    return a - np.outer(direction, direction @ a), b - direction * (direction @ b), direction


def solve_ridge(
    x: np.ndarray,
    y: np.ndarray,
    n_atoms: np.ndarray,
    weights: np.ndarray,
    extra: np.ndarray | None,
    target: np.ndarray | None,
    ridge: float | None,
    damping: float | None = None,
) -> Solution:
    """One weighted solution with a relative ridge (None: chosen by leave-one-out) or an absolute damping.

    The unpenalised offset is projected out first; leverages refer to the energies.
    """
    root, n = np.sqrt(weights), np.asarray(n_atoms, dtype=float)
    a, b, direction = centred(x, y, n, weights)
    normal, moment = a.T @ a, a.T @ b
    if extra is not None and target is not None:
        normal, moment = normal + extra.T @ extra, moment + extra.T @ target
    values, vectors = np.linalg.eigh(normal)
    values = np.clip(values, 0, None)
    projected, rotated = vectors.T @ moment, a @ vectors
    observed = weights > 1e-6 * weights.max()
    shares = rotated**2 / np.where(values > 1e-13 * values[-1], values, np.inf)
    unexplained = np.clip(1 - direction**2 - shares.sum(axis=1), 0, None)
    unexplained[unexplained < 1e-9] = 0.0

    def evaluate(relative: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        damping = relative * values[-1]
        inverse = 1 / (values + damping)
        coefficients = vectors @ (inverse * projected)
        # 1 - leverage, summed from terms that are all positive: exact also where there are more features than labels.
        freedom = unexplained + shares @ (damping * inverse)
        return coefficients, (b - a @ coefficients) / np.clip(freedom, 1e-12, None), inverse

    if damping is not None:
        ridge = damping / values[-1]
    if ridge is None:
        ridge = RIDGES[strongest([tau_scale(evaluate(r)[1][observed]) ** 2 for r in RIDGES])]
    coefficients, residual, inverse = evaluate(ridge)
    offset = float(np.average((y - x @ coefficients) / n, weights=weights * n**2))
    plain = y - x @ coefficients - offset * n
    leave_one_out = -np.where(observed, residual / np.where(observed, root, 1.0), plain)
    dof = float((values * inverse).sum()) + 1
    scores = a * residual[:, None]  # leave-one-out residuals: leverage is paid for (MacKinnon and White 1985, HC3)
    if extra is not None and target is not None:
        pull = (target - extra @ coefficients)[:, None] * extra
        scores = scores + np.add.reduceat(pull, np.r_[0, np.cumsum(3 * n.astype(int))[:-1]])
    inverse_normal = (vectors * inverse) @ vectors.T
    silent = ridge * values[-1] * np.median(residual[observed] ** 2) * inverse_normal @ inverse_normal
    covariance = inverse_normal @ (scores.T @ scores) @ inverse_normal + silent
    return Solution(coefficients, offset, leave_one_out, covariance, float(ridge), float(ridge * values[-1]), dof)


def strongest(errors: Sequence[float]) -> int:
    """The last of several ways of holding back, weakest first, whose mean square error is not clearly worse."""
    return int(np.flatnonzero(np.array(errors) <= TOLERATED * min(errors))[-1])


def tau_scale(residuals: np.ndarray) -> float:
    """Root mean square, residuals cut off at three robust standard deviations: outliers cannot choose the ridge."""
    spread = 1.4826 * np.median(np.abs(residuals)) + 1e-300
    return float(np.sqrt(np.mean(np.minimum(residuals**2, (3 * spread) ** 2))))
