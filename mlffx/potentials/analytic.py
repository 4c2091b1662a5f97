"""A valence force field for the diamond structure, smooth and with every derivative: the exact truth of the twins."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.config import checked
from mlffx.data import keys
from mlffx.data.graph import Edges, sum_by_graph
from mlffx.errors import UserError, nearest
from mlffx.models.radial import segment_sum
from mlffx.potentials.base import Potential


@dataclass(frozen=True)
class ValenceParameters:
    """Parameters of `ValencePotential`; lengths in A, energies in eV.

    Attributes:
        depth, steepness, bond: Morse bond, depth * [(1 - exp(-steepness (r - bond)))^2 - 1].
        bond_cutoff: where bonds and angles end; between the first and the second shell.
        angle: strength of (cos theta + 1/3)^2 between two bonds of an atom.
        stretch: strength of the product of the stretches of two bonds of an atom (1/A^2 of it).
        tail, tail_centre, tail_width: Gaussian pair energy tail * exp(-((r - centre) / width)^2) of the further shells.
        tail_cutoff: where it ends.
        softness: gamma of the windows exp(gamma / (r - cutoff)), A.
        energy: of each atom, eV.
    """

    depth: float
    steepness: float
    bond: float
    angle: float
    stretch: float = 0.0
    tail: float = 0.0
    tail_centre: float = 2.5
    tail_width: float = 0.5
    bond_cutoff: float = 2.4
    tail_cutoff: float = 3.6
    softness: float = 0.6
    energy: float = 0.0


class ValencePotential(Potential):
    """Bonds, angles, bond-bond coupling and a pair tail, batched, without lists of triplets.

    E = 1/2 sum_ij [M(r) w_b(r) + T(r) w_t(r)]
        + sum_i sum_{j<k} [angle h_j h_k (cos theta_jik + 1/3)^2 + stretch g_j g_k]

    with M the Morse bond, T the tail, w = exp(gamma/(r - cutoff) - gamma/(bond - cutoff)), h = w_b and
    g = w_b (r - bond). The angular form is that of Stillinger & Weber, Phys. Rev. B 31, 5262 (1985). Its sum over pairs
    of neighbours is the square of three moments of the neighbourhood, S = sum h, P = sum h r^, Q = sum h r^ r^:
    sum_{j<k} h_j h_k (c + 1/3)^2 = 1/2 [Q:Q + 2/3 P.P + S^2/9 - 16/9 sum h^2].
    """

    name = "analytic"

    def __init__(self, parameters: ValenceParameters) -> None:
        super().__init__()
        self.valence = parameters
        self.cutoff = max(parameters.bond_cutoff, parameters.tail_cutoff)

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        p, n_atoms = self.valence, len(graph[keys.NUMBERS])
        near, far = edges.within(p.bond_cutoff), edges.within(p.tail_cutoff)
        r = near.lengths
        window = self._window(r, p.bond_cutoff)
        bonds = p.depth * ((1 - torch.exp(-p.steepness * (r - p.bond))) ** 2 - 1) * window
        tails = p.tail * torch.exp(-(((far.lengths - p.tail_centre) / p.tail_width) ** 2))
        tails = tails * self._window(far.lengths, p.tail_cutoff)
        pairs = 0.5 * segment_sum(bonds, near.receiver, n_atoms) + 0.5 * segment_sum(tails, far.receiver, n_atoms)

        direction = near.vectors / r.unsqueeze(-1)
        stretched = window * (r - p.bond)
        # per atom: S, P (3), Q (9), sum h^2, sum g, sum g^2
        moments = torch.cat(
            [
                window.unsqueeze(-1),
                window.unsqueeze(-1) * direction,
                window.unsqueeze(-1) * (direction.unsqueeze(-1) * direction.unsqueeze(-2)).flatten(1),
                torch.stack([window**2, stretched, stretched**2], dim=-1),
            ],
            dim=-1,
        )
        s, vector, tensor, own, g, g_own = segment_sum(moments, near.receiver, n_atoms).split(
            [1, 3, 9, 1, 1, 1], dim=-1
        )
        angles = (tensor**2).sum(-1) + 2 / 3 * (vector**2).sum(-1) + (s**2 / 9 - 16 / 9 * own).squeeze(-1)
        coupling = (g**2 - g_own).squeeze(-1)
        per_atom = p.energy + pairs + 0.5 * p.angle * angles + 0.5 * p.stretch * coupling
        energy = sum_by_graph(per_atom, graph)
        return {keys.ATOMIC_ENERGY: per_atom, keys.ENERGY: energy, keys.PARTS: {self.name: energy}}

    def _window(self, r: Tensor, cutoff: float) -> Tensor:
        """Infinitely smooth window, one at the bond length and zero with all derivatives at the cutoff."""
        gamma = self.valence.softness
        below = (r - cutoff).clamp(max=-1e-3)  # exp(-gamma / 1e-3) is zero already
        return torch.exp(gamma / below - gamma / (self.valence.bond - cutoff))

    def spec(self) -> dict[str, Any]:
        return {"kind": "analytic", **asdict(self.valence)}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> ValencePotential:
        """The potential of `spec()`.

        Raises:
            UserError: for an unknown or missing parameter.
        """
        valid = {f.name: f for f in fields(ValenceParameters)}
        given = {k: v for k, v in spec.items() if k != "kind"}
        for key in given:
            if key not in valid:
                raise UserError(f"an analytic potential has no parameter '{key}'", nearest(key, valid), "potential")
        for key in ("depth", "steepness", "bond", "angle"):
            if key not in given:
                raise UserError(f"an analytic potential needs '{key}'", where="potential")
        return cls(ValenceParameters(**{k: checked(v, float, f"potential.{k}") for k, v in given.items()}))
