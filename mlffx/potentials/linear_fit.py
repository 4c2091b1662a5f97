"""Least squares for potentials that are linear in their last parameters: force constants, and heads on frozen features.

Energies alone, or energies and forces; then structures are weighed by how well their forces can be fitted. The ridge is
chosen by leave-one-out error, which for linear least squares costs nothing (Allen 1974: residual_i / (1 - leverage_i));
outliers are weighed down by Tukey's biweight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, batch_graphs, edges_of, sum_by_graph

Describe = Callable[[Data, Edges], Tensor]  # graph, edges -> features [n_atoms, n_features]

RIDGES = np.logspace(-9, 2, 45)  # relative to the largest eigenvalue
REWEIGHTINGS = 8
BALANCE_FLOOR = 0.01  # of the median mean-square misfit of forces: no structure is trusted without limit
BLOCK_FACTORS = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-6)
TOLERATED = 1.05  # of the lowest mean square error: the strongest ridge that is not clearly worse
TUKEY = 4.685  # 95 % efficiency for normal residuals


@dataclass(frozen=True)
class LinearFit:
    """What least squares found; energies in eV per structure.

    Attributes:
        coefficients: [n_features], eV per unit of feature.
        offset: eV per atom.
        covariance: of the coefficients, [n_features, n_features]: what resampling structures would give (sandwich
            estimate, forces of a structure kept together), plus what the ridge leaves open.
        leave_one_out: predicted minus label for each structure had it been left out, [n_structures], eV.
        weights: final robust weights of the energies, [n_structures].
        ridge: chosen, relative to the largest eigenvalue of the standardised normal matrix.
        degrees_of_freedom: effective number of parameters.
    """

    coefficients: np.ndarray
    offset: float
    covariance: np.ndarray
    leave_one_out: np.ndarray
    weights: np.ndarray
    ridge: float
    degrees_of_freedom: float

    @property
    def spread(self) -> np.ndarray:
        """Root of the covariance, [n_features, n_features]: coefficients + spread @ normal is a posterior draw."""
        return self.root(self.covariance)

    @staticmethod
    def root(covariance: np.ndarray) -> np.ndarray:
        """A matrix whose product with its transpose is the covariance."""
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.clip(values, 0, None))

    @property
    def noise(self) -> float:
        """Robust standard deviation of the leave-one-out residuals, eV per structure."""
        return float(1.4826 * np.median(np.abs(self.leave_one_out - np.median(self.leave_one_out))))


def energy_design(describe: Describe, graphs: Sequence[Data], chunk: int = 20) -> np.ndarray:
    """Features summed over the atoms of each structure, [n_structures, n_features]."""
    rows = []
    with torch.no_grad():
        for start in range(0, len(graphs), chunk):
            batch = batch_graphs(graphs[start : start + chunk])
            rows.append(sum_by_graph(describe(batch, edges_of(batch)).to(torch.float64), batch))
    return torch.cat(rows).cpu().numpy()


def force_design(describe: Describe, graphs: Sequence[Data], chunk: int = 20) -> np.ndarray:
    """Minus the gradient of the summed features, [3 n_atoms of all structures, n_features]; a backward each."""
    rows = []
    for start in range(0, len(graphs), chunk):
        batch = batch_graphs(graphs[start : start + chunk])
        batch[keys.POSITIONS] = batch[keys.POSITIONS].requires_grad_(True)
        total = describe(batch, edges_of(batch)).to(torch.float64).sum(dim=0)
        columns = [
            -torch.autograd.grad(t, batch[keys.POSITIONS], retain_graph=True)[0].reshape(-1) for t in total.unbind()
        ]
        rows.append(torch.stack(columns, dim=1).detach())
    return torch.cat(rows).cpu().numpy()


def fit_linear(
    design: np.ndarray,
    energies: np.ndarray,
    n_atoms: np.ndarray,
    force_rows: np.ndarray | None = None,
    forces: np.ndarray | None = None,
    force_weight: float = 1.0,
    robust: bool = True,
    ridge: float | None = None,
    blocks: np.ndarray | None = None,
) -> LinearFit:
    """Solve energies = design @ coefficients + n_atoms * offset, with forces = force_rows @ coefficients if given.

    Args:
        design: [n_structures, n_features].
        energies: [n_structures], eV.
        n_atoms: [n_structures].
        force_rows: [n_components, n_features]; forces: [n_components], eV/A.
        force_weight: weight of a force component (eV/A) against the energy of a structure (eV).
        robust: Tukey weights on the energies.
        ridge: fixed regularisation; None chooses it by leave-one-out.
        blocks: number of the block each feature belongs to, [n_features]; blocks after the first are held back by a
            factor of their own, the strongest that leave-one-out does not mind.
    """
    scale = design.std(axis=0) if force_rows is None else np.sqrt((force_rows**2).mean(axis=0))
    scale = np.where(scale > 1e-12 * max(scale.max(), 1e-300), scale, np.inf)  # constant columns carry no information
    x = design / scale
    extra = None if force_rows is None else force_weight * force_rows / scale
    target = None if forces is None else force_weight * np.asarray(forces)
    everyone = balance = np.ones(len(energies))
    if blocks is not None and ridge is None:
        scale = scale / _block_factors(blocks, x, energies, n_atoms, extra, target)
        x, extra = design / scale, None if force_rows is None else force_weight * force_rows / scale
    solution = _solve(x, energies, n_atoms, everyone, extra, target, ridge)
    if extra is not None and target is not None:
        components = 3 * n_atoms.astype(int)
        rows, aims = extra, target
        for _ in range(REWEIGHTINGS):
            balance = _balance(aims - rows @ solution[0], components)
            root = np.repeat(np.sqrt(balance), components)
            extra, target = root[:, None] * rows, root * aims
            solution = _solve(x, energies, n_atoms, balance, extra, target, ridge)
    weights = everyone
    if robust:
        # The ridge stays as chosen with every label in while labels are weighed, and is chosen once more afterwards:
        # choosing both together, it would always pay to weigh down what does not fit.
        for _ in range(REWEIGHTINGS):
            residuals = np.sqrt(balance) * solution[2]
            spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals))) + 1e-12
            previous, weights = weights, np.clip(1 - (residuals / (TUKEY * spread)) ** 2, 0, None) ** 2
            solution = _solve(x, energies, n_atoms, balance * weights, extra, target, solution[4])
            if np.abs(weights - previous).max() < 1e-3:
                break
        solution = _solve(x, energies, n_atoms, balance * weights, extra, target, ridge)
    c, offset, loo, covariance, best, dof = solution
    inverse = 1 / scale
    return LinearFit(c * inverse, offset, covariance * np.outer(inverse, inverse), loo, weights, best, dof)


def _solve(
    x: np.ndarray,
    y: np.ndarray,
    n_atoms: np.ndarray,
    weights: np.ndarray,
    extra: np.ndarray | None,
    target: np.ndarray | None,
    ridge: float | None,
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray, float, float]:
    """One weighted ridge solution: coefficients, offset, leave-one-out residuals, covariance, ridge, parameters.

    The unpenalised offset is projected out first; leverages refer to the energies.
    """
    root = np.sqrt(weights)
    n = np.asarray(n_atoms, dtype=float)
    direction = root * n / np.linalg.norm(root * n)
    a = root[:, None] * x
    a = a - np.outer(direction, direction @ a)
    b = root * y - direction * (direction @ (root * y))
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

    if ridge is None:
        scores = np.array([_tau_scale(evaluate(r)[1][observed]) ** 2 for r in RIDGES])
        best = RIDGES[np.flatnonzero(scores <= TOLERATED * scores.min())[-1]]
    else:
        best = ridge
    coefficients, residual, inverse = evaluate(best)
    offset = float(np.average((y - x @ coefficients) / n, weights=weights * n**2))
    plain = y - x @ coefficients - offset * n
    leave_one_out = -np.where(observed, residual / np.where(observed, root, 1.0), plain)
    dof = float((values * inverse).sum()) + 1
    scores = a * residual[:, None]  # leave-one-out residuals: leverage is paid for (MacKinnon and White 1985, HC3)
    if extra is not None and target is not None:
        pull = (target - extra @ coefficients)[:, None] * extra
        scores = scores + np.add.reduceat(pull, np.r_[0, np.cumsum(3 * n.astype(int))[:-1]])
    inverse_normal = (vectors * inverse) @ vectors.T
    silent = best * values[-1] * np.median(residual[observed] ** 2) * inverse_normal @ inverse_normal
    covariance = inverse_normal @ (scores.T @ scores) @ inverse_normal + silent
    return coefficients, offset, leave_one_out, covariance, float(best), dof


def _balance(residuals: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Weight of each structure, mean 1, from the misfit of its forces.

    An expansion about the crystal is wrong by what it leaves out, and that grows with the displacements: weighed alike,
    the hottest structures would bend the force constants to repair it. Their own residuals say how far to trust them.
    """
    ends = np.cumsum(components)
    squares = np.add.reduceat(residuals**2, np.r_[0, ends[:-1]]) / components
    weights = 1 / (squares + BALANCE_FLOOR * np.median(squares) + 1e-300)
    return weights / weights.mean()


def _block_factors(
    blocks: np.ndarray,
    x: np.ndarray,
    energies: np.ndarray,
    n_atoms: np.ndarray,
    extra: np.ndarray | None,
    target: np.ndarray | None,
) -> np.ndarray:
    """Factor of each feature, [n_features]: 1 in the first block, for the others chosen one after the other."""
    factors = np.ones(len(blocks))
    everyone = np.ones(len(energies))
    for block in sorted(set(blocks.tolist()))[1:]:
        scores = []
        for factor in BLOCK_FACTORS:
            trial = np.where(blocks == block, factor, factors)
            rows = None if extra is None else extra * trial
            solution = _solve(x * trial, energies, n_atoms, everyone, rows, target, None)
            scores.append(_tau_scale(solution[2]) ** 2)
        held_back = np.flatnonzero(np.array(scores) <= TOLERATED * min(scores))[-1]
        factors[blocks == block] = BLOCK_FACTORS[held_back]
    return factors


def _tau_scale(residuals: np.ndarray) -> float:
    """Root mean square, residuals cut off at three robust standard deviations: outliers cannot choose the ridge."""
    spread = 1.4826 * np.median(np.abs(residuals)) + 1e-300
    return float(np.sqrt(np.mean(np.minimum(residuals**2, (3 * spread) ** 2))))
