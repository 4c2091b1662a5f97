"""What every charge model is: a graph and features in, charges and their energy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.electrostatics.ewald import Splitting, ewald_energy
from mlffx.electrostatics.pme import pme_energy
from mlffx.errors import UserError, nearest
from mlffx.registry import Registry

ELECTROSTATICS: Registry[Electrostatics] = Registry("electrostatics")

METHODS = ("auto", "ewald", "pme")
PME_ABOVE = 4000  # atoms; below it the direct sum is faster and its second derivatives are exact


class Electrostatics(nn.Module):
    """Base class of charge models.

    Args:
        species: atomic numbers the model knows; atoms are indexed in this order.
        split: how the Coulomb sum is divided.
        method: `ewald`, `pme` (needs torch-pme), or `auto`: PME for structures above PME_ABOVE atoms.

    Attributes:
        cutoff: range of the neighbour list the charge model needs, A; 0 where it needs none.
        needs_features: whether `forward` reads the features of the atoms.
        screens_fully: whether charge flows between distant atoms, so that macroscopic fields vanish (`qeq`).
        options: everything the model was built from; `build_electrostatics(options)` makes it again.
    """

    name: str = ""
    needs_features: bool = False
    screens_fully: bool = False
    options: dict[str, Any]

    def __init__(self, species: Sequence[int], split: Splitting, method: str = "auto") -> None:
        super().__init__()
        if method not in METHODS:
            raise UserError(f"unknown method '{method}'", nearest(method, METHODS), "electrostatics.method")
        self.species = sorted(int(z) for z in species)
        self.split, self.method, self.cutoff = split, method, split.real_cutoff
        lookup = torch.full((120,), -1, dtype=torch.int64)
        lookup[torch.tensor(self.species)] = torch.arange(len(self.species))
        self.register_buffer("_species_index", lookup, persistent=False)

    def species_index(self, graph: Data) -> Tensor:
        """[n_atoms], position of each atom's element in `species`."""
        return self._species_index[graph[keys.NUMBERS]]  # type: ignore[index]

    def coulomb(self, charges: Tensor, graph: Data, edges: Edges) -> Tensor:
        """Energy of charges [n_atoms], e, by the chosen method: [n_graphs], eV."""
        largest = int(torch.bincount(graph[keys.BATCH]).max())
        mesh = self.method == "pme" or (self.method == "auto" and largest > PME_ABOVE)
        return (pme_energy if mesh else ewald_energy)(charges, graph, edges, self.split)

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        """CHARGES [n_atoms], e, float64, neutral in each graph; ENERGY [n_graphs], eV, float64."""
        raise NotImplementedError

    def set_precision(self, dtype: torch.dtype) -> None:
        """Cast the heads; charges per species stay in float64."""
        for child in self.children():
            child.to(dtype)


@ELECTROSTATICS.register("none")
class NoCharges(Electrostatics):
    """Every charge is zero: the short-range potential alone, under the same interface.

    Args:
        species: atomic numbers.
    """

    def __init__(self, species: Sequence[int]) -> None:
        super().__init__(species, Splitting(1.0, 1.0, 0.0))

    def forward(self, graph: Data, edges: Edges, features: Tensor | None) -> dict[str, Tensor]:
        positions, cell = graph[keys.POSITIONS], graph[keys.CELL]
        return {keys.CHARGES: torch.zeros_like(positions[:, 0]), keys.ENERGY: torch.zeros_like(cell[:, 0, 0])}


def build_electrostatics(spec: Mapping[str, Any], **statistics: Any) -> Electrostatics:
    """Build a charge model from `{"name": ..., **options}`.

    Args:
        spec: options as in conf/electrostatics.
        statistics: what data and model say (species, n_features, cutoff), passed where the charge model asks for it and
            the spec does not already say it.
    """
    options = {k: v for k, v in spec.items() if k != "name"}
    wanted = ELECTROSTATICS.options(spec["name"])
    options |= {k: v for k, v in statistics.items() if k in wanted and options.get(k) is None}
    built = ELECTROSTATICS.build(spec["name"], **options)
    built.options = {"name": spec["name"], **options}
    return built


def split_for(sigma: float, cutoff: float, tolerance: float) -> Splitting:
    """Gaussian charges of width `sigma`, or point charges with real-space `cutoff` where sigma is 0."""
    return Splitting.gaussian(sigma, tolerance) if sigma else Splitting.point(cutoff, tolerance)


def per_species(values: Mapping[Any, float] | None, species: Sequence[int], where: str) -> Tensor:
    """Values given by element symbol (or atomic number) in the order of `species`, float64; zeros for None.

    Raises:
        UserError: for an element that is missing, or that the potential does not know.
    """
    if values is None:
        return torch.zeros(len(species), dtype=torch.float64)
    known = {chemical_symbols[z]: z for z in species}
    found: dict[int, float] = {}
    for key, value in values.items():
        number = key if isinstance(key, int) else atomic_numbers.get(str(key), -1)
        if number not in species:
            raise UserError(f"no element '{key}' in the data", nearest(key, known), where)
        found[number] = float(value)
    missing = [symbol for symbol, z in known.items() if z not in found]
    if missing:
        raise UserError(f"no value for {', '.join(missing)}", "give one for every element", where)
    return torch.tensor([found[z] for z in species], dtype=torch.float64)


def head(n_features: int, n_hidden: int, n_out: int, bias: bool = True) -> nn.Sequential:
    """Two-layer network from invariant features to what an atom's charge is made of; `bias` of the last layer."""
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out, bias=bias))
