"""What every architecture is: graph and edges in, an energy and invariant features per atom out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.errors import UserError
from mlffx.registry import Registry

MODELS: Registry[AtomicModel] = Registry("model")


class AtomicModel(nn.Module):
    """Base class of architectures.

    A subclass sets `n_features` and implements `describe`; it must be twice differentiable in the edge vectors also
    where they are symmetric (no square root of something that vanishes in the perfect crystal), and smooth at the
    cutoff.

    Args:
        species: atomic numbers the model knows; atoms are indexed in this order.
        cutoff: A.
    """

    name: str = ""
    n_features: int
    # Whether only sums of features over all atoms, and none over one species, keep the symmetries of an energy.
    only_sums: bool = False

    def __init__(self, species: Sequence[int], cutoff: float) -> None:
        super().__init__()
        if cutoff <= 0:
            raise UserError(f"a cutoff of {cutoff:g} A is not positive", where="model.cutoff")
        self.species = sorted(int(z) for z in species)
        self.cutoff = float(cutoff)
        lookup = torch.full((120,), -1, dtype=torch.int64)
        lookup[torch.tensor(self.species)] = torch.arange(len(self.species))
        self.register_buffer("_species_index", lookup, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return next(self.parameters()).dtype

    def set_precision(self, dtype: torch.dtype) -> None:
        """Cast the parameters; an architecture that is only right in float64 stays there."""
        self.to(dtype)

    def species_index(self, graph: Data) -> Tensor:
        """[n_atoms], position of each atom's element in `species`."""
        return self._species_index[graph[keys.NUMBERS]]  # type: ignore[index]

    def fit_features(self, graph: Data, edges: Edges) -> None:
        """Called once with training structures before training: what the architecture takes from their statistics."""

    def describe(self, graph: Data, edges: Edges) -> Tensor:
        """Invariant features of each atom, [n_atoms, n_features]; `edges` are within the cutoff, vectors in float64."""
        raise NotImplementedError

    def readout(self, features: Tensor, graph: Data) -> Tensor:
        """Energy of each atom from its features, [n_atoms], in units of the potential's scale."""
        raise NotImplementedError

    def forward(self, graph: Data, edges: Edges) -> dict[str, Tensor]:
        """ATOMIC_ENERGY [n_atoms] and FEATURES [n_atoms, n_features]."""
        features = self.describe(graph, edges.within(self.cutoff))
        return {keys.ATOMIC_ENERGY: self.readout(features, graph), keys.FEATURES: features}


def complete_spec(spec: dict[str, Any], **statistics: Any) -> dict[str, Any]:
    """`spec` with the statistics its architecture asks for and it does not already say: all that rebuilding takes."""
    wanted = MODELS.options(spec["name"])
    given = {k: v for k, v in spec.items() if v is not None}
    return {k: v for k, v in statistics.items() if k in wanted} | given


def build_model(spec: dict[str, Any], **statistics: Any) -> AtomicModel:
    """Build an architecture from `{"name": ..., **options}`.

    Args:
        spec: options as in conf/model; None means the default, or what the statistics say.
        statistics: what the data says (species, mean_neighbours, crystal...); see `complete_spec`.

    Raises:
        UserError: for an option that the architecture does not have, of another type, or a count below one.
    """
    options = complete_spec(spec, **statistics)
    for key, value in options.items():
        if key.startswith("n_") and isinstance(value, int) and value < 1:
            raise UserError(f"{key} of {value}", "give at least 1", f"model.{key}")
    return MODELS.build(options.pop("name"), **options)
