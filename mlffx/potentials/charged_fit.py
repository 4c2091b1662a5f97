"""Least squares for a charge-aware potential whose short-range part is linear: charges outside, everything else inside.

Energies of point charges per element are a quadratic form, E_ewald = sum_ab q_a q_b M_ab, with M_ab of every structure
computed once. For given charges the coefficients of the short-range part follow in closed form (`fit_linear`), so that
what is left is a minimum over one charge per element under neutrality: one number for a binary crystal (variable
projection, Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973). Energies are enough; no charge is labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import null_space
from scipy.optimize import minimize, minimize_scalar
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, edges_of
from mlffx.electrostatics.fixed import FixedCharges
from mlffx.errors import UserError
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.linear_fit import LinearFit, energy_design, fit_linear
from mlffx.potentials.network import NetworkPotential

LARGEST = 2.5  # e; the search for the charge of a binary crystal ends here
COARSE = 26  # charges tried before the minimum is refined


@dataclass(frozen=True)
class ChargedFit:
    """What the fit found.

    Attributes:
        charges: of each element in `species` order, e; the first element with a charge is positive by convention where
            energies alone cannot tell the common sign.
        linear: of the short-range part.
        profile: charges tried [n, n_species], and the root-mean-square leave-one-out error of each, eV per structure.
    """

    charges: np.ndarray
    linear: LinearFit
    profile: tuple[np.ndarray, np.ndarray]


def fit_charged(
    potential: ChargeAwarePotential, graphs: Sequence[Data], energies: np.ndarray, robust: bool = True
) -> ChargedFit:
    """Fit charges and short-range coefficients to energies, and store both in the potential.

    Args:
        potential: a model linear in its `coefficients` (force constants) with `fixed` charges and `fit: true`.
        graphs: training structures.
        energies: [n_structures], eV.
        robust: Tukey weights on the energies.

    Raises:
        UserError: for any other kind of potential.
    """
    network, ions = potential.short_range, potential.electrostatics
    linear = isinstance(network, NetworkPotential) and hasattr(network.model, "coefficients")
    if not linear or not isinstance(ions, FixedCharges) or not ions.fit:
        raise UserError(
            "the closed-form fit is for force constants with one fitted charge per element",
            "set model=force_constants electrostatics=fixed electrostatics.fit=true, or train by gradients",
            "potential",
        )
    assert isinstance(network, NetworkPotential)
    design = energy_design(network.model.describe, graphs)
    forms, counts = quadratic_forms(ions, graphs)
    sizes = counts.sum(axis=1)
    neutral = null_space(np.unique(counts / sizes[:, None], axis=0))  # [n_species, n_free]
    if neutral.shape[1] == 0:
        raise UserError("no charges are neutral in every structure", "the compositions differ too much", "electrostatics")

    def solve(free: np.ndarray, ridge: float | None = None) -> LinearFit:
        q = neutral @ free
        return fit_linear(design, energies - np.einsum("a,gab,b->g", q, forms, q), sizes, robust=robust, ridge=ridge)

    tried: list[tuple[np.ndarray, float]] = []

    def cost(free: np.ndarray) -> float:
        error = float(np.sqrt(np.mean(solve(np.atleast_1d(free)).leave_one_out ** 2)))
        tried.append((neutral @ np.atleast_1d(free), error))
        return error

    start = neutral.T @ ions.charges.detach().cpu().numpy()
    if neutral.shape[1] == 1:
        grid = np.linspace(0, LARGEST, COARSE) / np.abs(neutral).max()
        best = int(np.argmin([cost(np.array([x])) for x in grid]))
        bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
        free = np.atleast_1d(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x)
        free = free * (np.sign(start[0]) or 1.0)  # the energy does not know the common sign; keep that of the guess
    else:
        free = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x
    found = solve(free)
    charges = neutral @ free
    with torch.no_grad():
        ions.charges.copy_(torch.as_tensor(charges))
        network.model.coefficients.copy_(torch.as_tensor(found.coefficients))
        network.scale.fill_(1.0)  # type: ignore[operator]
        network.offsets.fill_(found.offset)  # type: ignore[operator]
    return ChargedFit(charges, found, (np.array([q for q, _ in tried]), np.array([e for _, e in tried])))


def quadratic_forms(ions: FixedCharges, graphs: Sequence[Data], chunk: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """M [n_structures, n_species, n_species], eV/e^2, and atoms of each species [n_structures, n_species].

    Unit charges on one species are not neutral; the background of `ewald_energy` cancels in neutral combinations.
    """
    n = len(ions.species)
    forms, counts = [], []
    with torch.no_grad():
        for start in range(0, len(graphs), chunk):
            graph = batch_graphs(graphs[start : start + chunk])
            edges = edges_of(graph)
            one_hot = torch.nn.functional.one_hot(ions.species_index(graph), n).to(torch.float64)
            single = [ions.coulomb(one_hot[:, a], graph, edges) for a in range(n)]
            block = torch.zeros(len(single[0]), n, n, dtype=torch.float64)
            for a in range(n):
                block[:, a, a] = single[a]
                for b in range(a):
                    both = ions.coulomb(one_hot[:, a] + one_hot[:, b], graph, edges)
                    block[:, a, b] = block[:, b, a] = 0.5 * (both - single[a] - single[b])
            forms.append(block)
            per_graph = torch.zeros(len(block), n, dtype=torch.float64)
            counts.append(per_graph.index_add(0, graph[keys.BATCH], one_hot))
    return torch.cat(forms).numpy(), torch.cat(counts).numpy()
