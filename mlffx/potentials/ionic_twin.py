"""An analytic ionic crystal: Born-Mayer repulsion and Coulomb interaction of known charges. The truth to recover.

    E = sum_pairs A_ab exp(-r/rho_ab) w(r) + Ewald(q),   q_i = q0_i +- sum_j t exp(-(r_ij - d)/lambda) w(r_ij),

where charge flows between unlike neighbours only (from the anion to the cation for t > 0), so that every structure is
neutral. Because that charge crosses the distance r_ij, the polarisation is known in closed form and with it the Born
charges: P = sum_i q0_i r_i + sum_pairs t(r_ij) (r_cation - r_anion). With t = 0 they are q0. Electrons do not screen:
epsilon_inf is 1, and LO^2 - TO^2 at Gamma follows exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.config import checked
from mlffx.data import keys
from mlffx.data.graph import Edges, sum_by_graph
from mlffx.electrostatics.ewald import Splitting, ewald_energy
from mlffx.errors import UserError, nearest
from mlffx.models.radial import polynomial_envelope, segment_sum
from mlffx.potentials.base import Potential
from mlffx.potentials.charge_aware import dipole


class IonicTwin(Potential):
    """Two species, a cation and an anion.

    Args:
        cation, anion: atomic numbers.
        charge: q0 of the cation, e.
        repulsion: {"unlike": (A, rho), "anion": (A, rho)} in eV and A; cations do not repel each other.
        transfer: t, charge that flows across a bond of length `distance`, e; 0 for fixed charges.
        transfer_length: lambda, A.
        distance: d, A.
        cutoff: range of everything but the Coulomb sum, A.
    """

    carries_charges = True

    def __init__(
        self,
        cation: int = 3,
        anion: int = 1,
        charge: float = 0.52,
        repulsion: dict[str, tuple[float, float]] | None = None,
        transfer: float = 0.0,
        transfer_length: float = 0.4,
        distance: float = 2.01,
        cutoff: float = 4.0,
    ) -> None:
        super().__init__()
        if cation == anion:
            raise UserError("cation and anion are the same element", where="ionic_twin")
        self.options: dict[str, Any] = {
            "cation": cation,
            "anion": anion,
            "charge": charge,
            "repulsion": repulsion or LIH_LIKE,
            "transfer": transfer,
            "transfer_length": transfer_length,
            "distance": distance,
            "cutoff": cutoff,
        }
        self.cutoff = float(cutoff)
        self.split = Splitting.point(self.cutoff, 1e-10)

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        numbers = graph[keys.NUMBERS]
        known = (numbers == self.options["cation"]) | (numbers == self.options["anion"])
        if not bool(known.all()):
            raise UserError("the ionic twin has two elements", "take structures of its crystal", "ionic_twin")
        edges = edges.within(self.cutoff)
        charges = self.charges(graph, edges)
        pairs = 0.5 * segment_sum(self._repulsion(numbers, edges), edges.receiver, len(numbers))
        parts = {
            "short_range": sum_by_graph(pairs, graph),
            "electrostatic": ewald_energy(charges, graph, edges, self.split),
        }
        return {
            keys.ENERGY: parts["short_range"] + parts["electrostatic"],
            keys.PARTS: parts,
            keys.CHARGES: charges,
            keys.DIPOLE: dipole(charges, graph),
        }

    def charges(self, graph: Data, edges: Edges) -> Tensor:
        """[n_atoms], e."""
        sign = torch.where(graph[keys.NUMBERS] == self.options["cation"], 1.0, -1.0).to(torch.float64)
        unlike = sign[edges.sender] != sign[edges.receiver]
        flow = segment_sum(self._transfer(edges.lengths) * unlike, edges.receiver, len(sign))
        return sign * (self.options["charge"] + flow)

    def born_charge(self, vectors: Tensor) -> Tensor:
        """Exact Z of a cation whose anions lie at `vectors` [n, 3], A: q0 + sum (t 1 + t' r r/|r|), [3, 3], e."""
        leaf = vectors.detach().to(torch.float64).requires_grad_(True)
        lengths = torch.linalg.vector_norm(leaf, dim=-1)
        t = self._transfer(lengths)
        (slope,) = torch.autograd.grad(t.sum(), leaf)
        eye = torch.eye(3, dtype=torch.float64)
        return ((self.options["charge"] + t.sum()) * eye + leaf.T @ slope).detach()

    def _transfer(self, lengths: Tensor) -> Tensor:
        bend = torch.exp(-(lengths - self.options["distance"]) / self.options["transfer_length"])
        return self.options["transfer"] * bend * polynomial_envelope((lengths / self.cutoff).clamp(max=1.0))

    def _repulsion(self, numbers: Tensor, edges: Edges) -> Tensor:
        anions = torch.eq(numbers, self.options["anion"]).to(torch.float64)
        n_anions = anions[edges.sender] + anions[edges.receiver]
        energy = torch.zeros_like(edges.lengths)
        for kind, count in (("unlike", 1), ("anion", 2)):
            strength, length = self.options["repulsion"][kind]
            energy = energy + (n_anions == count) * strength * torch.exp(-edges.lengths / length)
        return energy * polynomial_envelope((edges.lengths / self.cutoff).clamp(max=1.0))

    def spec(self) -> dict[str, Any]:
        return {"kind": "ionic_twin", **self.options}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> IonicTwin:
        """The potential of `spec()`.

        Raises:
            UserError: for an unknown parameter, or one that is no number.
        """
        given = {k: v for k, v in spec.items() if k != "kind"}
        valid = inspect.signature(cls).parameters
        for key, value in given.items():
            if key not in valid:
                raise UserError(f"an ionic twin has no parameter '{key}'", nearest(key, valid), "potential")
            checked(value, Mapping[str, Sequence[float]] | None if key == "repulsion" else float, f"potential.{key}")
        pairs = given.get("repulsion") or LIH_LIKE
        if set(pairs) != set(LIH_LIKE) or any(len(pair) != 2 for pair in pairs.values()):
            raise UserError(f"repulsion {pairs}", "write {unlike: [A, rho], anion: [A, rho]}", "potential.repulsion")
        return cls(**given)


# At rest near a = 4.02 A with TO 580 and LO 1110 cm-1, like lithium hydride.
LIH_LIKE = {"unlike": (900.0, 0.21), "anion": (60.0, 0.35)}
