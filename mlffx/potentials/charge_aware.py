"""Charge-aware potentials: a short-range network and the Ewald energy of charges that are neutral by construction."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, batch_graphs, edges_of, sum_by_graph
from mlffx.electrostatics import Electrostatics, build_electrostatics
from mlffx.errors import UserError
from mlffx.potentials.base import Potential
from mlffx.potentials.network import NetworkPotential

CHUNK = 20  # structures in one batch
MOST_DRAWN = 16  # charge parameters that a posterior is drawn of; more are a network, and networks have ensembles


class ChargeAwarePotential(Potential):
    """E = E_short_range + strength E_electrostatic; PARTS shows both, CHARGES [n_atoms] in e and DIPOLE [n_graphs, 3].

    The strength is 1 but for differences of two levels fitted in closed form: there the ions may attract each other
    less than at the low level, which no real charges can express. CHARGES then are sqrt(|strength|) q.

    Args:
        short_range: any potential; `latent` and `qeq` charges read its FEATURES.
        electrostatics: charge model.

    Attributes:
        strength: factor of the electrostatic energy, of either sign.
        spread: root of the posterior covariance of short-range coefficients, strength and charge parameters, in this
            order, after a fit in closed form.

    Raises:
        UserError: where the charge model needs features and the short-range part has none.
    """

    strength: Tensor
    spread: Tensor

    def __init__(self, short_range: Potential, electrostatics: Electrostatics) -> None:
        super().__init__()
        self.short_range, self.electrostatics = short_range, electrostatics
        self.carries_charges = electrostatics.name != "none"
        self.cutoff = max(short_range.cutoff, electrostatics.cutoff)
        self.crystal = short_range.crystal
        self.register_buffer("strength", torch.ones((), dtype=torch.float64))
        self.n_drawn = self._count_drawn()
        self.register_buffer("spread", torch.zeros(self.n_drawn, self.n_drawn, dtype=torch.float64))

    def _count_drawn(self) -> int:
        """Coefficients, strength and charge parameters of a fit in closed form, drawn together; 0 for networks."""
        linear = getattr(getattr(self.short_range, "model", None), "coefficients", None)
        n_charges = sum(p.numel() for p in self.electrostatics.parameters())
        return 0 if linear is None or not 0 < n_charges <= MOST_DRAWN else len(linear) + 1 + n_charges

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Potentials saved before there was a strength had 1 of it, and none in their posterior."""
        if f"{prefix}strength" not in state_dict and f"{prefix}spread" in state_dict:
            state_dict[f"{prefix}strength"] = torch.ones_like(self.strength)
            if self.n_drawn:
                spread = torch.nn.functional.pad(state_dict[f"{prefix}spread"], (0, 1))
                n_charges = sum(p.numel() for p in self.electrostatics.parameters())
                before, after = spread[:-n_charges], spread[-n_charges:]
                state_dict[f"{prefix}spread"] = torch.cat([before, torch.zeros_like(spread[:1]), after])
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        """Force constants and charges drawn together, after a fit in closed form.

        Energy differences, forces and force constants of a draw have a meaning; its energy of the perfect crystal has
        none, because the offset stays while the charges move.
        """
        if not self.n_drawn:
            short = self.short_range.posterior_samples(n, seed)
            return [self._with_short_range(s) for s in short]
        if not bool(self.spread.any()):
            return []
        generator = torch.Generator().manual_seed(seed)
        draws = [self.spread @ torch.randn(self.n_drawn, generator=generator, dtype=torch.float64) for _ in range(n)]
        return [self._moved(draw) for draw in draws]

    def _with_short_range(self, short_range: Potential) -> Potential:
        sample = ChargeAwarePotential(short_range, self.electrostatics)
        sample.strength.copy_(self.strength)
        return sample.eval()

    def _moved(self, moves: Tensor) -> Potential:
        """A copy with other coefficients and charges, and without a posterior of its own."""
        sample = copy.deepcopy(self)
        model: Any = sample.short_range.model
        parameters: list[Tensor] = [model.coefficients, sample.strength, *sample.electrostatics.parameters()]
        for parameter, move in zip(parameters, moves.split([p.numel() for p in parameters]), strict=True):
            parameter.data += move.reshape(parameter.shape)
        model.spread.zero_()
        sample.spread.zero_()
        return sample.eval()

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        out = dict(self.short_range(graph, edges.within(self.short_range.cutoff)))
        features = out.get(keys.FEATURES)
        if features is None and self.electrostatics.needs_features:
            raise UserError(
                f"'{self.electrostatics.name}' charges read the features of a network, the short-range part has none",
                "take electrostatics=fixed, or a network",
                "electrostatics",
            )
        charged = self.electrostatics(graph, edges, features)
        parts = {"short_range": out[keys.ENERGY], "electrostatic": self.strength * charged[keys.ENERGY]}
        charges = self.strength.abs().sqrt() * charged[keys.CHARGES]
        return out | {
            keys.ENERGY: parts["short_range"] + parts["electrostatic"],
            keys.PARTS: parts,
            keys.CHARGES: charges,
            keys.DIPOLE: dipole(charges, graph),
        }

    def feature_sizes(self) -> list[int]:
        return self.short_range.feature_sizes()

    def only_sums(self) -> list[bool]:
        return self.short_range.only_sums()

    def set_precision(self, dtype: torch.dtype) -> Potential:
        self.short_range.set_precision(dtype)
        self.electrostatics.set_precision(dtype)
        return self

    def spec(self) -> dict[str, Any]:
        return {
            "kind": "charge_aware",
            "short_range": self.short_range.spec(),
            "electrostatics": self.electrostatics.options,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> ChargeAwarePotential:
        """Untrained potential of `spec()`."""
        from mlffx.potentials.build import build_potential  # the short-range part may be of any kind, this one included

        return cls(build_potential(spec["short_range"]), build_electrostatics(spec["electrostatics"]))


def with_charges(short_range: Potential, spec: dict[str, Any], species: list[int]) -> ChargeAwarePotential:
    """Add the charge model of conf/electrostatics to a short-range potential.

    Args:
        short_range: usually a `NetworkPotential`, whose number of features and cutoff the charge model takes.
        spec: `{"name": "fixed" | "latent" | "qeq" | "none", **options}`.
        species: atomic numbers in the data.
    """
    model = getattr(short_range, "model", None)
    statistics: dict[str, Any] = {"species": species, "cutoff": short_range.cutoff}
    if model is not None:
        statistics["n_features"] = model.n_features
    return ChargeAwarePotential(short_range, build_electrostatics(spec, **statistics))


def centre_offsets(potential: Potential, graphs: Sequence[Data], energies: np.ndarray) -> None:
    """Shift the offsets of the network so that the whole has the mean energies of the labels before it is trained.

    The electrostatic energy is tens of eV per formula unit; offsets taken from the labels alone would leave the network
    to learn it. Least-norm solution where compositions do not tell the elements apart.

    Args:
        potential: a `NetworkPotential`, or one with charges that has it as its short-range part.
        graphs: training structures, with edges out to `potential.cutoff`.
        energies: [n_structures], eV.
    """
    network = potential.short_range if isinstance(potential, ChargeAwarePotential) else potential
    assert isinstance(network, NetworkPotential)
    missing, counts = [], []
    with torch.no_grad():
        for start in range(0, len(graphs), CHUNK):
            graph = batch_graphs(graphs[start : start + CHUNK])
            found = potential(graph, edges_of(graph))[keys.ENERGY]
            missing.append(torch.as_tensor(energies[start : start + CHUNK], device=found.device) - found)
            one_hot = torch.nn.functional.one_hot(network.model.species_index(graph), len(network.offsets))
            counts.append(sum_by_graph(one_hot.to(torch.float64), graph))
    shift = np.linalg.lstsq(torch.cat(counts).cpu().numpy(), torch.cat(missing).cpu().numpy(), rcond=1e-8)[0]
    network.offsets += torch.as_tensor(shift, device=network.offsets.device)


def dipole(charges: Tensor, graph: Data) -> Tensor:
    """sum_i q_i r_i of the positions as they are, [n_graphs, 3], e A.

    In a periodic cell it is defined up to lattice vectors times charges: differences along a trajectory of unwrapped
    positions have a meaning, the value itself has none.
    """
    return sum_by_graph(charges.unsqueeze(-1) * graph[keys.POSITIONS], graph)
