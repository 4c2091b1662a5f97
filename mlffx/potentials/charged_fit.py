"""Variable projection for a charge-aware potential whose short-range part is linear.

For given charges the short-range coefficients follow in closed form, so they are eliminated: with Q an orthonormal
basis of the space the short-range features span over the training structures, what is minimised is

    |(1 - Q Q^T) W (E - E_electrostatic(charge parameters))|^2

by L-BFGS over the few parameters of the charge model (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973). Energies
are enough, forces can join them; nothing labels a charge. W are Tukey weights from a first round: where displacements
are large, the error is that of the truncated expansion and not of the charges.

A difference of two levels is a difference of squares of charges, of either sign, and its labels may be all noise. There
the electrostatic energy of the charges found gets a factor, fitted with the short-range coefficients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, edges_of
from mlffx.errors import UserError
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.linear_fit import LinearFit, energy_design, fit_linear, force_design
from mlffx.potentials.network import NetworkPotential

INDEPENDENT = 1e-7  # singular values below this fraction of the largest are collinear features
CHUNK = 20  # structures in one batch
FELT = 1e-3  # directions of charge parameters felt less than this fraction of the strongest one are left as fitted
LARGEST_CHANGE = 1.0  # e, standard deviation of charge parameters before the labels are seen
ROUNDING = 1e-6  # eV; a prior relative to less noise than this would drown in rounding
STEP = 1e-4  # e, of charge parameters; the energy is nearly quadratic in them


@dataclass(frozen=True)
class ChargedFit:
    """What the fit found; the potential holds it already.

    Attributes:
        linear: the short-range part; `linear.leave_one_out` are the errors of the whole, eV per structure.
        initial_error, projected_error: root mean square of what the short-range part cannot describe before and after
            the charges were fitted, eV per structure (forces counted with their weight).
        evaluations: of the electrostatic energies of all structures.
    """

    linear: LinearFit
    initial_error: float
    projected_error: float
    evaluations: int


def fit_charged(
    potential: ChargeAwarePotential,
    graphs: Sequence[Data],
    energies: np.ndarray,
    forces: np.ndarray | None = None,
    force_weight: float = 1.0,
    robust: bool = True,
    iterations: int = 40,
    difference: bool = False,
) -> ChargedFit:
    """Fit charge model and short-range coefficients to energies (and forces), and store both in the potential.

    Args:
        potential: a network that is linear in its coefficients (force constants) with any charge model.
        graphs: training structures, with edges out to `potential.cutoff`.
        energies: [n_structures], eV.
        forces: [3 * n_atoms of all structures], eV/A, or None.
        force_weight: weight of a force component (eV/A) against the energy of a structure (eV), as in `fit_linear`.
        robust: Tukey weights on the energies.
        iterations: of L-BFGS in each of the two rounds.
        difference: of two levels: the electrostatic energy may have either sign (`ChargeAwarePotential.strength`).

    Raises:
        UserError: where the short-range part is not linear.
    """
    network, charged = potential.short_range, potential.electrostatics
    if not isinstance(network, NetworkPotential) or not hasattr(network.model, "set_coefficients"):
        raise UserError(
            "the closed-form fit needs a short-range part that is linear in its parameters",
            "set model=force_constants, or train by gradients",
            "model",
        )
    sizes = np.array([graph.num_nodes for graph in graphs], dtype=float)
    design = energy_design(network.model.describe, graphs)
    force_rows = None if forces is None else force_design(network.model.describe, graphs)
    batches = [batch_graphs(graphs[k : k + CHUNK]) for k in range(0, len(graphs), CHUNK)]
    electrostatic = _Electrostatic(potential, batches, forces is not None)
    labels = torch.as_tensor(np.concatenate([energies, [] if forces is None else np.ravel(forces)]))
    columns = np.column_stack([design, sizes])
    if force_rows is not None:
        columns = np.concatenate([columns, np.column_stack([force_rows, np.zeros(len(force_rows))])])
    n, weights = len(graphs), np.ones(len(graphs))
    orders: Any = network.model.orders if difference else None
    difference = difference and any(p.requires_grad for p in charged.parameters())  # given charges stay as given
    solve = partial(_least_squares, design, force_rows, sizes, force_weight, robust, orders)
    history: list[float] = []
    for _ in range(2 if robust else 1):
        root = torch.as_tensor(np.concatenate([np.sqrt(weights), np.full(len(labels) - n, force_weight)]))
        basis = _span(columns * root.numpy()[:, None])
        if difference and not history:
            _begin_strength(electrostatic, labels, root, basis)
        history += _minimise(electrostatic, labels, root, basis, n, iterations)
        coulomb = electrostatic.labels().numpy()[:, None]
        factors = coulomb if difference and coulomb.any() else coulomb[:, :0]  # what has a coefficient of its own
        target = labels.numpy() - (0.0 if factors.size else coulomb[:, 0])
        linear = solve(factors, target)
        weights = linear.weights
    n_features, before = design.shape[1], float(potential.strength)
    if factors.size:
        potential.strength *= float(linear.coefficients[-1])
    root_covariance = LinearFit.root(linear.covariance[:n_features, :n_features])
    network.model.set_coefficients(linear.coefficients[:n_features], root_covariance)  # type: ignore[operator]
    if potential.n_drawn:
        slopes, directions = _independent(electrostatic.slopes().numpy(), factors)
        any_charge = np.full(directions.shape[1], (max(linear.noise, ROUNDING) / LARGEST_CHANGE) ** 2)
        joint = solve(np.column_stack([factors, slopes]), target, np.concatenate([linear.penalty, any_charge]))
        strength = np.full((1, factors.shape[1]), before)
        spread = block_diag(np.eye(n_features), strength, directions) @ joint.spread
        potential.spread.zero_()[:, : spread.shape[1]] = torch.as_tensor(spread)
    with torch.no_grad():
        network.scale.fill_(1.0)  # type: ignore[operator]
        network.offsets.fill_(linear.offset)  # type: ignore[operator]
    charged.zero_grad(set_to_none=True)
    return ChargedFit(linear, history[0], history[-1], len(history))


def _least_squares(
    design: np.ndarray,
    force_rows: np.ndarray | None,
    sizes: np.ndarray,
    force_weight: float,
    robust: bool,
    orders: np.ndarray | None,
    more: np.ndarray,
    target: np.ndarray,
    penalty: np.ndarray | None = None,
) -> LinearFit:
    """`fit_linear` with further columns [n_labels, k] beside those of the short-range part, held back like its lowest
    order (`orders`, [n_features]), or by a penalty on all of them."""
    n = len(design)
    groups = None if orders is None or penalty is not None else np.pad(orders, (0, more.shape[1]))
    return fit_linear(
        np.column_stack([design, more[:n]]),
        target[:n],
        sizes,
        force_rows=None if force_rows is None else np.column_stack([force_rows, more[n:]]),
        forces=None if force_rows is None else target[n:],
        force_weight=force_weight,
        robust=robust,
        groups=groups,
        penalty=penalty,
    )


class _Electrostatic:
    """Electrostatic energies (and forces) of all training structures, and the gradient of a weighted sum of them.

    One batch's graph is in memory at a time.
    """

    def __init__(self, potential: ChargeAwarePotential, batches: list[Data], with_forces: bool) -> None:
        self.model, self.network, self.strength = potential.electrostatics, potential.short_range, potential.strength
        self.batches, self.with_forces = batches, with_forces

    def _evaluate(self, batch: Data, create_graph: bool) -> tuple[Tensor, Tensor]:
        """Energies [n_graphs] and forces [3 n_atoms] (empty without)."""
        moved = copy.copy(batch)
        moved[keys.POSITIONS] = batch[keys.POSITIONS].detach().requires_grad_(self.with_forces)
        edges = edges_of(moved)
        out = self.network(moved, edges.within(self.network.cutoff)) if self.model.needs_features else {}
        energy = self.strength * self.model(moved, edges, out.get(keys.FEATURES))[keys.ENERGY]
        if not self.with_forces or not energy.requires_grad:
            return energy, energy.new_zeros(batch[keys.POSITIONS].numel() if self.with_forces else 0)
        (slope,) = torch.autograd.grad(energy.sum(), moved[keys.POSITIONS], create_graph=create_graph)
        return energy, -slope.reshape(-1)

    def labels(self) -> Tensor:
        """Energies of all structures, then forces: [n_structures + 3 n_atoms]."""
        with torch.set_grad_enabled(self.with_forces):
            results = [[part.detach() for part in self._evaluate(batch, False)] for batch in self.batches]
        return torch.cat([energy for energy, _ in results] + [forces for _, forces in results])

    def slopes(self) -> Tensor:
        """Derivative of the labels with respect to each charge parameter, [n_labels, n_parameters], by differences."""
        columns = []
        for parameter in self.model.parameters():
            flat = parameter.data.view(-1)
            for k in range(len(flat)):
                start = float(flat[k])
                ends = []
                for step in (STEP, -STEP):
                    flat[k] = start + step
                    ends.append(self.labels())
                flat[k] = start
                columns.append((ends[0] - ends[1]) / (2 * STEP))
        return torch.stack(columns, dim=1)

    def backward(self, slopes: Tensor, n: int) -> None:
        """Accumulate d(slopes . labels) in the parameters' gradients; the first n slopes are of energies."""
        graph, component = 0, n
        for batch in self.batches:
            energy, forces = self._evaluate(batch, True)
            total = energy @ slopes[graph : graph + len(energy)]
            total = total + forces @ slopes[component : component + len(forces)]
            total.backward()  # type: ignore[no-untyped-call]
            graph, component = graph + len(energy), component + len(forces)


def _begin_strength(electrostatic: _Electrostatic, labels: Tensor, root: Tensor, basis: Tensor) -> None:
    """The best factor of the charges the fit begins with. Descent could not reach it across zero charges, where the
    energy has no slope."""

    def left_over(values: Tensor) -> Tensor:
        weighted = root * values
        return weighted - basis @ (basis.T @ weighted)

    coulomb = left_over(electrostatic.labels())
    if (size := float(coulomb @ coulomb)) > 0:
        electrostatic.strength.fill_(float(coulomb @ left_over(labels)) / size)


def _minimise(
    electrostatic: _Electrostatic, labels: Tensor, root: Tensor, basis: Tensor, n: int, iterations: int
) -> list[float]:
    """L-BFGS over the parameters of the charge model; projected error of every evaluation, eV per structure."""
    parameters = [p for p in electrostatic.model.parameters() if p.requires_grad]
    history: list[float] = []

    def residual() -> Tensor:
        weighted = root * (labels - electrostatic.labels())
        rest = weighted - basis @ (basis.T @ weighted)
        history.append(float((rest.square().sum() / n).sqrt()))
        return rest

    first = residual()
    if not parameters:
        return history
    unit = float(first.square().sum()) + 1e-30
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure() -> float:
        optimiser.zero_grad()
        rest = residual()
        electrostatic.backward(-2 / unit * root * rest, n)
        return float(rest.square().sum()) / unit

    step: Callable[[Callable[[], float]], object] = optimiser.step  # type: ignore[assignment]
    step(closure)
    residual()
    return history


def _independent(slopes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [n_labels, r] along the directions [n_parameters, r] in which the labels depend on the charges at all.

    A common shift of the charges of all elements, for one, changes nothing; their common size is the strength, where
    that is among the `known` columns [n_labels, k].
    """
    largest = np.linalg.norm(slopes, 2)
    left, singular, _ = np.linalg.svd(known, full_matrices=False)
    left = left[:, singular > 0]
    _, singular, right = np.linalg.svd(slopes - left @ (left.T @ slopes), full_matrices=False)
    directions = right[singular > FELT * largest].T
    return slopes @ directions, directions


def _span(columns: np.ndarray) -> Tensor:
    """Orthonormal basis of the columns, [n, rank]; columns are brought to one size first."""
    sizes = np.linalg.norm(columns, axis=0)
    scaled = columns[:, sizes > 0] / sizes[sizes > 0]
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    return torch.as_tensor(left[:, singular > INDEPENDENT * singular[0]])
