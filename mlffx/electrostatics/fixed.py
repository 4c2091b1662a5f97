"""Fixed charges: one per element, given or fitted to the energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, sum_by_graph
from mlffx.electrostatics.base import ELECTROSTATICS, Electrostatics, per_species
from mlffx.electrostatics.ewald import Splitting, neutralise
from mlffx.errors import UserError


@ELECTROSTATICS.register("fixed")
class FixedCharges(Electrostatics):
    """Point charges q = Z / sqrt(epsilon_inf) per element.

    Electrons screen the interaction of ions at long range by epsilon_inf; a potential of the nuclear positions sees
    charges of Z* / sqrt(epsilon_inf), and they give its LO-TO splitting. Hence: Born charges with the measured
    epsilon_inf, or formal charges with 1, or `fit`.

    Args:
        species: atomic numbers.
        charges: charge of each element, e, by symbol. With `fit` where the fit begins: not zero, where the energy has
            no slope.
        epsilon_inf: electronic dielectric constant the charges are to be screened with.
        fit: learn the charges. They are kept neutral by subtracting the mean over each structure.
        cutoff: range of the real-space sum, A; None takes that of the model.
        tolerance: of the Ewald sum.
        method: `auto`, `ewald` or `pme`.
    """

    def __init__(
        self,
        species: Sequence[int],
        charges: Mapping[Any, float] | None = None,
        epsilon_inf: float = 1.0,
        fit: bool = False,
        cutoff: float = 4.0,
        tolerance: float = 1e-8,
        method: str = "auto",
    ) -> None:
        super().__init__(species, Splitting.point(cutoff, tolerance), method)
        if charges is None:
            raise UserError(
                "fixed charges need a charge for each element", "e.g. {Li: 1, H: -1}", "electrostatics.charges"
            )
        if epsilon_inf < 1:
            raise UserError(f"{epsilon_inf:g} is below 1", "1 means no screening", "electrostatics.epsilon_inf")
        values = per_species(charges, self.species, "electrostatics.charges") / epsilon_inf**0.5
        self.fit = fit
        if fit and not bool((values != 0).any()):
            raise UserError("a fit cannot start from zero charges", "give a rough guess", "electrostatics.charges")
        if fit:
            self.charges: Tensor = nn.Parameter(values)
        else:
            self.register_buffer("charges", values)

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        charges = self.charges[self.species_index(graph)]
        if self.fit:
            charges = neutralise(charges, graph)
        else:
            total = sum_by_graph(charges, graph).abs().max()
            if total > 1e-6:
                raise UserError(
                    f"the charges of a structure sum to {total:.3g} e", "they must sum to 0", "electrostatics.charges"
                )
        return {keys.CHARGES: charges, keys.ENERGY: self.coulomb(charges, graph, edges)}

    def set_precision(self, dtype: torch.dtype) -> None:
        """Nothing to cast."""
