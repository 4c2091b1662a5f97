"""Least squares for potentials that are linear in their last parameters: force constants, and heads on frozen features.

Energies alone, or energies and forces; then structures are weighed by how well their forces can be fitted. Coefficients
of several kinds (orders of an expansion) can be held back each by a ridge of its own, which the evidence of the labels
sets; where there is one ridge it is chosen by leave-one-out error, which for linear least squares costs nothing
(Allen 1974: residual_i / (1 - leverage_i)). Outliers are weighed down by Tukey's biweight.
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
from mlffx.errors import UserError
from mlffx.potentials.evidence import prior_variances
from mlffx.potentials.ridge import centred, solve_ridge, strongest, tau_scale

Describe = Callable[[Data, Edges], Tensor]  # graph, edges -> features [n_atoms, n_features]

REWEIGHTINGS = 8
BALANCE_FLOOR = 0.01  # of the median mean-square misfit of forces: no structure is trusted without limit
BLOCK_FACTORS = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-6)
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
        ridge: relative to the largest eigenvalue of the normal matrix of standardised columns; chosen, but for groups
            or a penalty, where columns are in units of their prior widths.
        degrees_of_freedom: effective number of parameters.
        penalty: on the square of each coefficient, [n_features]; the same beside squared residuals in eV.
    """

    coefficients: np.ndarray
    offset: float
    covariance: np.ndarray
    leave_one_out: np.ndarray
    weights: np.ndarray
    ridge: float
    degrees_of_freedom: float
    penalty: np.ndarray

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
    groups: np.ndarray | None = None,
    penalty: np.ndarray | None = None,
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
        groups: kind of each feature, [n_features], numbered from 0: the evidence of the energies sets a ridge for each.
            Forces determine nearly everything, and errors of theirs are no noise: with them there is one ridge.
        penalty: [n_features], as in `LinearFit`.

    Raises:
        UserError: for a single structure, or structures that do not differ.
        ValueError: for more than one of ridge, blocks, groups and penalty.
    """
    if sum(choice is not None for choice in (ridge, blocks, groups, penalty)) > 1:
        raise ValueError("one of ridge, blocks, groups and penalty says how coefficients are held back")
    if force_rows is None and (np.ptp(design, axis=0) <= 1e-9 * np.abs(design).max(axis=0)).all():
        raise UserError("the structures to fit do not differ", "give more of them, displaced", "data.train_size")
    standard = design.std(axis=0) if force_rows is None else np.sqrt((force_rows**2).mean(axis=0))
    standard = np.where(standard > 1e-12 * max(standard.max(), 1e-300), standard, np.inf)  # constant: no information
    target = None if forces is None else force_weight * np.asarray(forces)
    everyone = balance = np.ones(len(energies))
    if blocks is not None:
        rows = None if force_rows is None else force_weight * force_rows / standard
        standard = standard / _block_factors(blocks, design / standard, energies, n_atoms, rows, target)
    groups = groups if forces is None else None
    damping = None if groups is None and penalty is None else 1.0

    def unit(weights: np.ndarray) -> np.ndarray:
        """What each column is divided by."""
        if penalty is not None:
            return np.sqrt(penalty)
        if groups is None:
            return standard
        a, b, _ = centred(design / standard, energies, n_atoms, weights)
        return standard / np.sqrt(prior_variances(a, b, groups))[groups]

    scale = unit(everyone)
    x, extra = design / scale, None if force_rows is None else force_weight * force_rows / scale
    solution = solve_ridge(x, energies, n_atoms, everyone, extra, target, ridge, damping)
    if extra is not None and target is not None:
        components = 3 * n_atoms.astype(int)
        rows, aims = extra, target
        for _ in range(REWEIGHTINGS):
            balance = _balance(aims - rows @ solution.coefficients, components)
            root = np.repeat(np.sqrt(balance), components)
            extra, target = root[:, None] * rows, root * aims
            solution = solve_ridge(x, energies, n_atoms, balance, extra, target, ridge, damping)
    weights = everyone
    if robust:
        # What was chosen with every label in stays while labels are weighed, and is chosen once more afterwards:
        # choosing both together, it would always pay to weigh down what does not fit.
        for _ in range(REWEIGHTINGS):
            residuals = np.sqrt(balance) * solution.leave_one_out
            spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals))) + 1e-12
            previous, weights = weights, np.clip(1 - (residuals / (TUKEY * spread)) ** 2, 0, None) ** 2
            solution = solve_ridge(x, energies, n_atoms, balance * weights, extra, target, solution.ridge, damping)
            if np.abs(weights - previous).max() < 1e-3:
                break
        scale = unit(weights)
        x = design / scale
        solution = solve_ridge(x, energies, n_atoms, balance * weights, extra, target, ridge, damping)
    inverse = 1 / scale
    return LinearFit(
        coefficients=solution.coefficients * inverse,
        offset=solution.offset,
        covariance=solution.covariance * np.outer(inverse, inverse),
        leave_one_out=solution.leave_one_out,
        weights=weights,
        ridge=solution.ridge,
        degrees_of_freedom=solution.degrees_of_freedom,
        penalty=solution.damping * scale**2,
    )


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
            solution = solve_ridge(x * trial, energies, n_atoms, everyone, rows, target, None)
            scores.append(tau_scale(solution.leave_one_out) ** 2)
        factors[blocks == block] = BLOCK_FACTORS[strongest(scores)]
    return factors
