"""Greedy choice of the structures whose labels would say most, for any model whose doubts are Gaussian.

Doubt is given by its *factors*: row i of `pool` [n_pool, m] says how the energy of structure i moves with m independent
unit normal variables, so that the covariance of the energies is pool @ pool.T. For least squares the factors are the
features times the square root of the posterior covariance, for an ensemble the deviations of the members from their
mean divided by sqrt(m - 1). Labelling a structure conditions the Gaussian on its energy; no label is needed to know by
how much the doubt shrinks, so a whole batch is chosen one structure at a time and never holds the same thing twice.

Without targets the most doubtful energy is taken next, which is D-optimal design (Wynn, Ann. Math. Stat. 41, 1655,
1970). With targets, quantities with factors of their own such as force constants, the structure that takes most off
their summed variance is taken (active learning by Cohn, Neural Networks 9, 1071, 1996).
"""

from __future__ import annotations

import numpy as np

from mlffx.errors import UserError


def choose(
    pool: np.ndarray,
    n: int,
    noise: float | np.ndarray,
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """Indices of the n structures to label, in the order of their importance.

    Args:
        pool: factors of the energies, [n_pool, m], eV.
        n: how many.
        noise: standard deviation of a label, eV, one or [n_pool]; what the model cannot describe counts as noise.
        targets: factors of what one wants to know, [n_targets, m]; None wants the energies themselves.

    Raises:
        UserError: for more structures than there are.
    """
    if n > len(pool):
        raise UserError(f"{n} structures of a pool of {len(pool)}", "ask for fewer, or give a larger pool", "n")
    factors = np.array(pool, dtype=float)
    wanted = None if targets is None else np.array(targets, dtype=float)
    variance_of_label = np.broadcast_to(np.square(np.asarray(noise, dtype=float)), (len(factors),)) + 1e-30
    chosen: list[int] = []
    for _ in range(n):
        variance = (factors**2).sum(axis=1)
        if wanted is None:
            gain = variance / variance_of_label
        else:
            gain = ((wanted @ factors.T) ** 2).sum(axis=0) / (variance + variance_of_label)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        factors, wanted = conditioned(factors, best, float(variance_of_label[best]), wanted)
    return np.array(chosen)


def conditioned(
    factors: np.ndarray, known: int, variance: float, wanted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Factors after the energy of one structure has been measured with this noise variance, eV^2.

    The variables' covariance 1 - x x^T / (x.x + variance) has the root 1 - t x x^T / x.x with
    t = 1 - sqrt(variance / (x.x + variance)).
    """
    x = factors[known]
    square = float(x @ x)
    if square == 0.0:
        return factors, wanted
    shrink = (1 - np.sqrt(variance / (square + variance))) / square

    def update(rows: np.ndarray) -> np.ndarray:
        return rows - shrink * np.outer(rows @ x, x)

    return update(factors), None if wanted is None else update(wanted)


def ensemble_factors(values: np.ndarray) -> np.ndarray:
    """Factors of quantities from their values over members, [m, n] -> [n, m]."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise UserError("one potential has no doubts", "train an ensemble, or a fit in closed form", "run")
    return (values - values.mean(axis=0)).T / np.sqrt(len(values) - 1)
