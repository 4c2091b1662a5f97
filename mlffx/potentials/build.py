"""Potentials from plain dictionaries, and weights to and from files that load with weights_only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mlffx.errors import UserError
from mlffx.files import save_tensors, writing
from mlffx.models.base import AtomicModel
from mlffx.potentials.analytic import ValencePotential
from mlffx.potentials.base import Potential
from mlffx.potentials.calculator import CalculatorPotential
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.harmonic import HarmonicPotential
from mlffx.potentials.ionic_twin import IonicTwin
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential

FORMAT_VERSION = 1

KINDS: dict[str, Callable[[dict[str, Any]], Potential]] = {
    "network": NetworkPotential.from_spec,
    "analytic": ValencePotential.from_spec,
    "calculator": CalculatorPotential.from_spec,
    "readout": ReadoutPotential.from_spec,
    "charge_aware": ChargeAwarePotential.from_spec,
    "harmonic": HarmonicPotential.from_spec,
    "ionic_twin": IonicTwin.from_spec,
    "sum": lambda spec: SumPotential({name: build_potential(term) for name, term in spec["terms"].items()}),
}


def build_potential(spec: dict[str, Any]) -> Potential:
    """The untrained potential that `Potential.spec()` describes."""
    if spec.get("kind") not in KINDS:
        raise UserError(f"unknown potential kind '{spec.get('kind')}'", f"valid: {', '.join(KINDS)}", "potential")
    return KINDS[spec["kind"]](spec)


def save_potential(potential: Potential, path: Path) -> None:
    """Write spec and weights; the file appears whole or not at all.

    Raises:
        UserError: when the disk is full or may not be written to.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors({"format": FORMAT_VERSION, "spec": potential.spec(), "state": potential.state_dict()}, path)


def load_potential(path: Path) -> Potential:
    """Read what `save_potential` wrote; eval mode, networks in the precision they were saved in.

    Raises:
        UserError: for a file that is missing, truncated, or of another format.
    """
    if not path.is_file():
        raise UserError("no such checkpoint", "has the run finished its first epoch?", path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"unreadable checkpoint ({type(error).__name__})", "train again or take another file", path
        ) from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT_VERSION:
        raise UserError("not a checkpoint of this version of mlffx", "evaluate with the version that wrote it", path)
    try:
        potential = build_potential(stored["spec"])
        for prefix, module in potential.named_modules():
            if isinstance(module, AtomicModel):
                first, _ = next(module.named_parameters())
                module.set_precision(stored["state"][f"{prefix}.{first}"].dtype)
        potential.load_state_dict(stored["state"])
    except (RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"does not fit this version of mlffx ({reason})", "train again", path) from error
    return potential.eval()
