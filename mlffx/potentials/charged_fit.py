"""Variable projection for a charge-aware potential whose short-range part is linear.

For given charges the short-range coefficients follow in closed form, so they are eliminated: with Q an orthonormal
basis of the space the short-range features span over the training structures, what is minimised is

    |(1 - Q Q^T) W (E - E_electrostatic(charge parameters))|^2

by L-BFGS over the few parameters of the charge model (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973). Energies
are enough; nothing labels a charge. W are Tukey weights from a first round: where displacements are large, the error
is that of the truncated expansion and not of the charges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, edges_of
from mlffx.errors import UserError
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.linear_fit import LinearFit, energy_design, fit_linear
from mlffx.potentials.network import NetworkPotential

INDEPENDENT = 1e-7  # singular values below this fraction of the largest are collinear features
CHUNK = 20  # structures in one batch


@dataclass(frozen=True)
class ChargedFit:
    """What the fit found; the potential holds it already.

    Attributes:
        linear: the short-range part; `linear.leave_one_out` are the errors of the whole, eV per structure.
        initial_error, projected_error: root mean square of what the short-range part cannot describe before and after
            the charges were fitted, eV per structure.
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
    robust: bool = True,
    iterations: int = 60,
) -> ChargedFit:
    """Fit charge model and short-range coefficients to energies and store both in the potential.

    Args:
        potential: a network that is linear in its `coefficients` (force constants) with any charge model.
        graphs: training structures.
        energies: [n_structures], eV.
        robust: Tukey weights on the energies.
        iterations: of L-BFGS in each of the two rounds.

    Raises:
        UserError: where the short-range part is not linear.
    """
    network, charged = potential.short_range, potential.electrostatics
    if not isinstance(network, NetworkPotential) or not hasattr(network.model, "coefficients"):
        raise UserError(
            "the closed-form fit needs a short-range part that is linear in its parameters",
            "set model=force_constants, or train by gradients",
            "model",
        )
    sizes = np.array([graph.num_nodes for graph in graphs])
    design = energy_design(network.model.describe, graphs)
    batches = [batch_graphs(graphs[k : k + CHUNK]) for k in range(0, len(graphs), CHUNK)]
    electrostatic = _Electrostatic(potential, batches)
    labels = torch.as_tensor(energies, dtype=torch.float64)
    weights = np.ones(len(graphs))
    history: list[float] = []
    for _ in range(2 if robust else 1):
        root = np.sqrt(weights)
        basis = _span(np.column_stack([design, sizes]) * root[:, None])
        history += _minimise(electrostatic, labels, torch.as_tensor(root), basis, iterations)
        remaining = energies - electrostatic.energies().numpy()
        linear = fit_linear(design, remaining, sizes, robust=robust)
        weights = linear.weights
    with torch.no_grad():
        network.model.coefficients.copy_(torch.as_tensor(linear.coefficients))  # type: ignore[operator, union-attr]
        network.scale.fill_(1.0)  # type: ignore[operator]
        network.offsets.fill_(linear.offset)  # type: ignore[operator]
    charged.zero_grad(set_to_none=True)
    return ChargedFit(linear, history[0], history[-1], len(history))


class _Electrostatic:
    """Electrostatic energies of all training structures and the gradient of a weighted sum of them, batch by batch."""

    def __init__(self, potential: ChargeAwarePotential, batches: list[Data]) -> None:
        self.model = potential.electrostatics
        self.inputs = []
        with torch.no_grad():
            for batch in batches:
                edges = edges_of(batch)
                network = potential.short_range
                out = network(batch, edges.within(network.cutoff)) if self.model.needs_features else {}
                self.inputs.append((batch, edges, out.get(keys.FEATURES)))

    def energies(self) -> Tensor:
        """[n_structures], eV."""
        with torch.no_grad():
            return torch.cat([self.model(*inputs)[keys.ENERGY] for inputs in self.inputs])

    def backward(self, slopes: Tensor) -> None:
        """Accumulate d(slopes . energies) in the parameters' gradients; one batch's graph in memory at a time."""
        start = 0
        for inputs in self.inputs:
            energy = self.model(*inputs)[keys.ENERGY]
            (energy @ slopes[start : start + len(energy)]).backward()  # type: ignore[no-untyped-call]
            start += len(energy)


def _minimise(
    electrostatic: _Electrostatic, labels: Tensor, root: Tensor, basis: Tensor, iterations: int
) -> list[float]:
    """L-BFGS over the parameters of the charge model; root-mean-square projected error of every evaluation, eV."""
    parameters = [p for p in electrostatic.model.parameters() if p.requires_grad]
    history: list[float] = []

    def residual() -> Tensor:
        weighted = root * (labels - electrostatic.energies())
        rest = weighted - basis @ (basis.T @ weighted)
        history.append(float(rest.square().mean().sqrt()))
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
        electrostatic.backward(-2 / unit * root * rest)
        return float(rest.square().sum()) / unit

    step: Callable[[Callable[[], float]], object] = optimiser.step  # type: ignore[assignment]
    step(closure)
    residual()
    return history


def _span(columns: np.ndarray) -> Tensor:
    """Orthonormal basis of the columns, [n, rank]; columns are brought to one size first."""
    sizes = np.linalg.norm(columns, axis=0)
    scaled = columns[:, sizes > 0] / sizes[sizes > 0]
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    return torch.as_tensor(left[:, singular > INDEPENDENT * singular[0]])
