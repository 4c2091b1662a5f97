"""Charge equilibration: charges that minimise an energy with learned electronegativities and hardnesses.

    E(q) = sum_i (chi_i q_i + eta_i q_i^2 / 2) + q^T A q / 2   subject to   sum_i q_i = 0,

A the Coulomb matrix of Gaussian charges (Rappe & Goddard, J. Phys. Chem. 95, 3358, 1991; with environment-dependent
electronegativities: Ko, Finkler, Goedecker & Behler, Nat. Commun. 12, 398, 2021). A is positive semi-definite, so the
problem has one solution for any positive hardness. The linear systems of all structures are solved at once, and the
solution is differentiated implicitly by `torch.linalg.solve`.

Charge flows between any two atoms here, at a cost that does not grow with distance: at long wavelengths the model is a
metal. Its electronic dielectric constant is infinite, macroscopic fields vanish, and there is no LO-TO splitting at
Gamma. It is offered for comparison; insulators are described by `fixed` or `latent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.electrostatics.base import ELECTROSTATICS, Electrostatics, head, per_species
from mlffx.electrostatics.ewald import Splitting, gaussian_matrix
from mlffx.electrostatics.padding import Layout, layout_of
from mlffx.errors import UserError


@ELECTROSTATICS.register("qeq")
class EquilibratedCharges(Electrostatics):
    """chi_i = chi0[species] + network, eta_i = softplus(eta0[species] + network), both in eV.

    Args:
        species: atomic numbers.
        n_features: invariant features of each atom; the model's.
        electronegativity: where chi0 begins, eV/e, by symbol; None for zero.
        hardness: where eta begins for every element, eV/e^2, above the self energy of the Gaussian.
        n_hidden: width of the network.
        sigma: width of the Gaussian charges, A.
        tolerance: of the Ewald sum.
    """

    needs_features = True
    screens_fully = True

    def __init__(
        self,
        species: Sequence[int],
        n_features: int,
        electronegativity: Mapping[Any, float] | None = None,
        hardness: float = 5.0,
        n_hidden: int = 32,
        sigma: float = 1.0,
        tolerance: float = 1e-7,
    ) -> None:
        super().__init__(species, Splitting.gaussian(sigma, tolerance), "ewald")
        if hardness <= 0:
            raise UserError(f"a hardness of {hardness:g} eV/e^2 is not positive", where="electrostatics.hardness")
        chi = per_species(electronegativity, self.species, "electrostatics.electronegativity")
        eta = torch.full_like(chi, hardness).expm1().log()  # softplus of it is the hardness
        self.per_species = nn.Parameter(torch.stack([chi, eta], dim=-1))
        self.head = head(n_features, n_hidden, 2)

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        assert features is not None
        raw = self.per_species[self.species_index(graph)] + self.head(features).to(self.per_species.dtype)
        layout = layout_of(graph)
        electronegativity = layout.pad(raw[:, 0])
        hardness = layout.pad(nn.functional.softplus(raw[:, 1]))
        matrix = gaussian_matrix(graph, layout, self.split) + torch.diag_embed(hardness)
        charges = _constrained_minimum(matrix, electronegativity, layout)
        quadratic = 0.5 * torch.einsum("gi,gij,gj->g", charges, matrix, charges)
        return {keys.CHARGES: layout.unpad(charges), keys.ENERGY: quadratic + (electronegativity * charges).sum(dim=1)}


def _constrained_minimum(matrix: Tensor, linear: Tensor, layout: Layout) -> Tensor:
    """Neutral q [n_graphs, n_max] that minimises q^T matrix q / 2 + linear q; 0 on padding.

    Solves [[matrix, 1], [1^T, 0]] [q, mu] = [-linear, 0], mu the common chemical potential; padded rows read q = 0.
    """
    here = layout.occupied().to(matrix.dtype)
    matrix = matrix * here.unsqueeze(1) * here.unsqueeze(2) + torch.diag_embed(1 - here)
    corner = matrix.new_zeros((len(matrix), 1, 1))
    top = torch.cat([matrix, here.unsqueeze(2)], dim=2)
    system = torch.cat([top, torch.cat([here.unsqueeze(1), corner], dim=2)], dim=1)
    right = torch.cat([-linear * here, linear.new_zeros((len(linear), 1))], dim=1)
    return torch.linalg.solve(system, right)[:, :-1]
