"""How large coefficients of one kind may be, by the evidence of the labels.

Coefficients of different orders of a Taylor expansion are of different sizes and seen in energies to a different
degree. One ridge for all is set by the many anharmonic coefficients, which labels with noise hardly see, and
holds back the harmonic ones too: stiff modes move little, their part in the energies is small, and they end far from
the truth, with small error bars. Here each group has a Gaussian prior of its own; its width is what makes the labels
most probable (MacKay, Neural Comput. 4, 415, 1992). Where the labels do not show a group that would be no width, and no
doubt either; and as many coefficients as labels could be as wide as they like. A half-Cauchy density of widths settles
both (Gelman, Bayesian Anal. 1, 515, 2006); of their logarithm, so that it vanishes at zero.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

RANGE = (1e-6, 1e12)  # of a prior variance times the largest eigenvalue of its kernel: off, and free
STARTS = (1e-4, 1.0)
LIKELY = 3.0  # times the noise: scale of the density of widths


def prior_variances(a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Prior variance of the coefficients of each group over the variance of the noise, [n_groups].

    Maximises log p(b) + sum_g (log width_g - log(1 + width_g^2 / LIKELY^2)) for b = a c + noise, with c normal of
    variance_g and noise of one unknown variance, which is eliminated: log p = -n/2 log(b K^-1 b) - 1/2 log det K with
    K = 1 + sum_g variance_g a_g a_g^T. width_g is the root mean square of what the group does to a label.

    Args:
        a: [n, n_features], the columns of a group on one scale.
        b: [n]; rows of zeros in both are labels that do not count.
        groups: of each feature, [n_features], numbered from 0 without gaps.
    """
    seen = np.abs(a).sum(axis=1) + np.abs(b) > 0
    n = int(seen.sum()) - 1  # one label went into the offset
    labels = b[seen]
    basis, a = np.linalg.qr(a[seen])  # K is 1 outside the span of the columns: small matrices for many labels
    b = basis.T @ labels
    beyond = float(np.sum((labels - basis @ b) ** 2))
    kernels = np.array([a[:, groups == g] @ a[:, groups == g].T for g in range(int(groups.max()) + 1)])
    largest = np.array([np.linalg.eigvalsh(kernel)[-1] for kernel in kernels])
    kernels = kernels / np.where(largest > 0, largest, 1.0)[:, None, None]
    sizes = np.trace(kernels, axis1=1, axis2=2) / (n + 1)  # of what a variance of one does to a label, squared

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        variances = np.exp(logarithms)
        factor = cho_factor(np.eye(len(b)) + np.tensordot(variances, kernels, 1), lower=True)
        inverse = cho_solve(factor, np.eye(len(b)))
        weights = inverse @ b
        misfit = beyond + float(b @ weights)
        value = 0.5 * n * np.log(misfit) + float(np.log(np.diag(factor[0])).sum())
        ratio = variances * sizes / LIKELY**2
        value -= float((0.5 * logarithms - np.log1p(ratio)).sum())
        explained = np.einsum("i,gij,j->g", weights, kernels, weights)
        traces = np.einsum("gij,ji->g", kernels, inverse)
        return value, 0.5 * variances * (traces - n * explained / misfit) - 0.5 + ratio / (1 + ratio)

    relative = np.full(len(kernels), RANGE[0])
    if labels.any():
        starts = [np.full(len(kernels), np.log(start)) for start in STARTS]
        bounds = [tuple(np.log(RANGE))] * len(kernels)
        tries = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
        relative = np.exp(min(tries, key=lambda found: float(found.fun)).x)
    variances: np.ndarray = relative / np.where(largest > 0, largest, 1.0)
    return variances
