"""An ASE calculator as a potential: a cheap base (Tersoff, tight binding) under a delta."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, get_calculator_class
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges, n_graphs
from mlffx.errors import UserError
from mlffx.potentials.base import Potential

NO_NEIGHBOURS = 0.1  # A; the calculator finds its own
# Carbon of J. Tersoff, Phys. Rev. Lett. 61, 2879 (1988), in the order of ase.calculators.tersoff (that of LAMMPS).
TERSOFF_CARBON = (3, 1, 0, 38049, 4.3484, -0.57058, 0.72751, 1.5724e-7, 2.2119, 346.74, 1.95, 0.15, 3.4879, 1393.6)


class CalculatorPotential(Potential):
    """Energy and forces of an ASE calculator, once differentiable in the positions (forces, no Hessian, no stress).

    Args:
        name: as ASE knows it (`emt`, `tblite`...), for which `options` are passed on; `tersoff` is that of carbon.
        options: keyword arguments of the calculator.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.calculator_name, self.options = name, options
        self.cutoff = NO_NEIGHBOURS
        self.calculator = _build(name, options)

    @classmethod
    def from_name(cls, text: str) -> CalculatorPotential:
        """From `name` or `name:key=value,key=value` of the command line."""
        name, _, rest = text.partition(":")
        options = dict(item.split("=", 1) for item in rest.split(",") if "=" in item)
        return cls(name, **{k: _number(v) for k, v in options.items()})

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        energy = _Energies.apply(graph[keys.POSITIONS], self, graph)
        return {keys.ENERGY: energy, keys.PARTS: {self.calculator_name: energy}}

    def spec(self) -> dict[str, Any]:
        return {"kind": "calculator", "name": self.calculator_name, "options": self.options}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> CalculatorPotential:
        return cls(spec["name"], **spec["options"])


class _Energies(torch.autograd.Function):
    """Positions to energies, with the calculator's own forces as the derivative."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, potential: CalculatorPotential, graph: Data) -> Tensor:
        batch = graph[keys.BATCH]
        energies, forces = [], []
        for k in range(n_graphs(graph)):
            mine = batch == k
            atoms = Atoms(
                graph[keys.NUMBERS][mine].cpu().numpy(),
                positions=positions[mine].detach().cpu().numpy(),
                cell=graph[keys.CELL][k].detach().cpu().numpy(),
                pbc=True,
                calculator=potential.calculator,
            )
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
        ctx.save_for_backward(torch.as_tensor(np.concatenate(forces), dtype=torch.float64), batch)
        return torch.as_tensor(energies, dtype=torch.float64)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        forces, batch = ctx.saved_tensors
        return -grad[batch, None] * forces, None, None


def _build(name: str, options: dict[str, Any]) -> Calculator:
    try:
        if name == "tblite":
            from tblite.ase import TBLite  # an optional package with a calculator of its own

            return TBLite(verbosity=0, **options)
        if name == "tersoff" and not options:
            from ase.calculators.tersoff import Tersoff, TersoffParameters

            return Tersoff({("C", "C", "C"): TersoffParameters(*TERSOFF_CARBON)})
        return get_calculator_class(name)(**options)
    except ImportError as error:
        raise UserError(
            f"calculator '{name}' is not installed ({error})", "pip install it", "potential.base"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"no calculator '{name}' with {options}: {error}", "see ASE's list", "potential.base"
        ) from error


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
