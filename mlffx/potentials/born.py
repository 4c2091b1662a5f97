"""Born effective charges of potentials that carry charges, as the long-wavelength limit of their charge density.

A potential with charges q_i(r_1, r_2, ...) interacts through rho(k) = sum_i q_i exp(-i k r_i) and 4 pi / (V k^2).
Moving atom j by u_j changes rho(k) to first order in k by -i k . Z_j u_j with

    Z_j = q_j 1 + sum_i (r_i - r_j) dq_i/du_j ,

so that the non-analytic part of its force constants is 4 pi / V (k . Z_i)(k . Z_j) / k^2 with no further screening: the
dielectric tensor that belongs to these charges is 1. (They compare with Z* / sqrt(epsilon_inf) of the material.) The
relative vectors make Z_j independent of origin and of the choice of images; charges must depend on surroundings that
fit into half the supercell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.errors import UserError
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import device_of

REACH = 8.0  # A; half of the default supercell, several times the range on which charges respond
COMMON_PATTERN = 1e-3  # relative deviation of tensors that count as multiples of one another


def charged_terms(potential: Potential) -> list[Potential]:
    """The terms of a potential that carry charges of their own (none, one, or several in a ladder)."""
    return [m for m in potential.modules() if isinstance(m, Potential) and getattr(m, "carries_charges", False)]


def born_charges(potential: Potential, crystal: Crystal, supercell: Any = None) -> dict[str, Any]:
    """Z_j of the atoms of the primitive cell.

    Args:
        potential: has exactly one term with charges.
        crystal: its ideal crystal.
        supercell: repetitions; None takes cells at least 2 REACH wide, or narrower ones for more than 2000 atoms.

    Returns:
        `born` [n_basis, 3, 3], e: first index the polarisation, second the displacement (phonopy's order), with the
        acoustic sum rule enforced by subtracting the mean; `raw` before that; `violation`: largest |component| of the
        sum of `raw` over the cell, e; `monopole`: largest |sum_i dq_i/du_j|, e/A, zero where the formula holds;
        `charges` [n_basis], e.

    Raises:
        UserError: for no charges, charges in several terms, or charges that screen fully.
    """
    term = _the_charged_term(potential)
    matrix = _wide_cell(crystal) if supercell is None else supercell
    atoms = crystal.supercell(matrix)
    site_type = atoms.arrays["site_type"]
    graph = batch_graphs([build_graph(atoms, term.cutoff, sites=atoms.positions.copy(), site_type=site_type)])
    device = device_of(term)
    graph = graph.to(device)
    with torch.enable_grad():
        positions = graph[keys.POSITIONS].detach().requires_grad_(True)
        graph[keys.POSITIONS] = positions
        charges = term(graph, edges_of(graph))[keys.CHARGES]
        raw, monopole = [], 0.0
        for basis in range(crystal.n_basis):
            atom = int(np.flatnonzero(site_type == basis)[0])
            relative = _nearest_image(positions.detach() - positions.detach()[atom], graph[keys.CELL][0])
            rows = [_slope(charges, relative[:, axis], positions)[atom] for axis in range(3)]
            monopole = max(monopole, float(_slope(charges, torch.ones_like(charges), positions)[atom].abs().max()))
            raw.append(torch.stack(rows) + charges[atom].detach() * torch.eye(3, dtype=torch.float64, device=device))
    tensors = torch.stack(raw).detach().cpu().numpy()
    total = tensors.sum(axis=0)
    first = [int(np.flatnonzero(site_type == basis)[0]) for basis in range(crystal.n_basis)]
    return {
        "born": tensors - total / len(tensors),
        "raw": tensors,
        "violation": float(np.abs(total).max()),
        "monopole": monopole,
        "charges": charges.detach().cpu().numpy()[first],
    }


def model_born_charges(potential: Potential, crystal: Crystal) -> tuple[np.ndarray, np.ndarray, float]:
    """What a non-analytical correction needs: born [n_basis, 3, 3], dielectric [3, 3] (the unit matrix, see above), and
    the largest raw violation of the acoustic sum rule, e.

    Terms of a sum do not interact: their non-analytic parts add up, not their charges; those of a difference that
    weakens the interaction are taken off. Where the tensors of all terms are multiples of one another, as in every
    cubic crystal of two elements, sqrt(sum of squares) of them says the same.

    Raises:
        UserError: for no charges, charges that screen fully, terms whose tensors have no common pattern, or that leave
            ions which repel their opposites.
    """
    terms = charged_terms(potential)
    if not terms:
        raise UserError("the potential has no charges", "take phonons.nac=reference or none", "phonons.nac")
    found = [born_charges(term, crystal) for term in terms]
    tensors = np.array([one["born"] for one in found]).reshape(len(found), -1)
    pattern = tensors[np.argmax(np.linalg.norm(tensors, axis=1))]
    multiples = tensors @ pattern / max(pattern @ pattern, 1e-30)
    if np.abs(tensors - np.outer(multiples, pattern)).max() > COMMON_PATTERN * max(np.abs(pattern).max(), 1e-30):
        raise UserError(
            f"the Born charges of {len(terms)} terms of the potential have no common pattern",
            "take phonons.nac=reference, or charges in one term only",
            "phonons.nac",
        )
    signs = [float(torch.sign(getattr(term, "strength", torch.ones(())))) for term in terms]
    if (square := float(np.array(signs) @ multiples**2)) < 0:
        raise UserError(
            f"the charges of the potential's terms add up to a negative square ({square:.2g} of the largest)",
            "take phonons.nac=reference or none",
            "phonons.nac",
        )
    born = (np.sqrt(square) * pattern).reshape(crystal.n_basis, 3, 3)
    return born, np.eye(3), max(one["violation"] for one in found)


def _the_charged_term(potential: Potential) -> Potential:
    terms = charged_terms(potential)
    if len(terms) != 1:
        raise UserError(
            f"{len(terms)} terms of the potential have charges, not one", "ask for one of them", "phonons.nac"
        )
    if getattr(getattr(terms[0], "electrostatics", None), "screens_fully", False):
        raise UserError(
            "equilibrated charges screen macroscopic fields like a metal: no Born charges, no LO-TO splitting",
            "take phonons.nac=reference or none, or electrostatics=latent",
            "phonons.nac",
        )
    return terms[0]


def _slope(charges: Tensor, weights: Tensor, positions: Tensor) -> Tensor:
    """d(sum_i w_i q_i)/dr, [n_atoms, 3]; zero where charges do not depend on positions."""
    if not charges.requires_grad:
        return torch.zeros_like(positions)
    (gradient,) = torch.autograd.grad((weights * charges).sum(), positions, retain_graph=True, allow_unused=True)
    return torch.zeros_like(positions) if gradient is None else gradient


def _nearest_image(vectors: Tensor, cell: Tensor) -> Tensor:
    """Shortest of the periodic images in fractional coordinates; the mean of both where a component is half a cell."""
    fractions = vectors @ torch.linalg.inv(cell)
    fractions = fractions - torch.round(fractions)
    return torch.where(fractions.abs() > 0.5 - 1e-6, torch.zeros_like(fractions), fractions) @ cell


def _wide_cell(crystal: Crystal) -> np.ndarray:
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell), axis=0)
    repeats = np.maximum(np.ceil(2 * REACH / heights).astype(int), 1)
    while repeats.prod() * crystal.n_basis > 2000:
        repeats = np.maximum(repeats - 1, 1)
    return repeats
