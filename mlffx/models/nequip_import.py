"""Models of nequip as potentials of mlffx: `benchmarks/dump_nequip.py` writes them where nequip is installed.

Constant factors that differ (radial basis, second moments of activations) go into the weights; weights of irreps that
cannot reach the energy are left out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlffx.errors import UserError
from mlffx.models.convolution import SILU_SCALE
from mlffx.models.irreps import Irrep
from mlffx.models.nequip import SCALAR, TANH_SCALE, Gate, NequIP, layer_irreps
from mlffx.potentials.network import NetworkPotential


def import_nequip(path: str | Path) -> NetworkPotential:
    """The potential that a dumped nequip model describes, float64.

    Raises:
        UserError: for a file of another kind or a variant that mlffx does not have.
    """
    try:
        with np.load(path) as stored:
            spec = json.loads(str(stored["spec"]))
            arrays = {name: stored[name] for name in stored.files if name != "spec"}
            symbols, layers = spec["type_names"], spec["num_layers"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError("not a dumped NequIP model", "write it with benchmarks/dump_nequip.py", path) from error
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    if not isinstance(spec["num_features"], int) or len(np.unique(arrays["scales"])) > 1:
        raise UserError("mlffx has no NequIP with different channels by l or energy scales by type", where=path)
    options = {
        "name": "nequip",
        "species": sorted(numbers),
        "cutoff": spec["r_max"],
        "n_channels": spec["num_features"],
        "l_max": spec["l_max"],
        "parity": spec["parity"],
        "n_interactions": layers,
        "n_radial": spec["num_bessels"],
        "envelope_power": int(spec["polynomial_cutoff_p"]),
        "radial_hidden": [spec["radial_mlp_width"]] * spec["radial_mlp_depth"],
        "mean_neighbours": spec["avg_num_neighbors"],
    }
    model = NequIP(**{k: v for k, v in options.items() if k != "name"})
    potential = NetworkPotential(model, torch.zeros(len(numbers)), float(arrays["scales"].flat[0]), options)
    potential.set_precision(torch.float64)
    rows = np.argsort(numbers)
    with torch.no_grad():
        shifts = np.broadcast_to(arrays["shifts"].reshape(-1), len(numbers))  # one for all types, or one each
        potential.offsets.copy_(torch.as_tensor(shifts[rows]))  # type: ignore[operator]
        _fill(model, arrays, spec, torch.as_tensor(arrays["embedding"][rows]))
    return potential.eval()


def _fill(model: NequIP, arrays: dict[str, np.ndarray], spec: dict[str, Any], embedding: Tensor) -> None:
    model.embedding.copy_(embedding)
    states = layer_irreps(spec["l_max"], spec["parity"], spec["num_layers"])
    factors = {SCALAR: 1.0}  # features of nequip over ours, by irrep
    for k, (layer, irreps) in enumerate(zip([model.first, *model.layers], states, strict=True)):
        theirs = {name.removeprefix(f"layer{k}/"): a for name, a in arrays.items() if name.startswith(f"layer{k}/")}
        weights = {name: torch.as_tensor(a) for name, a in theirs.items() if a.dtype.kind == "f"}
        _fill_radial(layer, theirs, weights, model)
        _fill_mix(layer.mix.weights, layer.gate, weights, [str(ir) for ir in theirs["gated"]])
        if k == 0:
            layer.up.copy_(weights["up/0e"])
        else:
            before = states[k - 1]
            for target, ir in zip(layer.up.weight, before, strict=True):
                target.copy_(weights[f"up/{_name(ir)}"] * factors[ir])
            outputs = [ir for ir in irreps if ir in before]
            for target, ir in zip(layer.own.weights, outputs, strict=True):
                own = _columns(weights[f"own/{_name(ir)}"], ir, layer.gate, [str(g) for g in theirs["gated"]])
                target.copy_(own.transpose(0, 1) * factors[ir])
        silu, tanh = spec["silu_scale"] / SILU_SCALE, spec["tanh_scale"] / TANH_SCALE
        factors = {ir: tanh if ir == Irrep(0, -1) else silu for ir in irreps}
    model.head.copy_(torch.as_tensor(arrays["head"]).squeeze(1) * factors[SCALAR])


def _fill_radial(layer: Any, theirs: dict[str, np.ndarray], weights: dict[str, Tensor], model: NequIP) -> None:
    """Their matrices carry all factors; their basis is sqrt(2 / cutoff) times ours."""
    factor = math.sqrt(2.0 / model.cutoff)
    for k, target in enumerate(layer.radial.weights):
        target.copy_(weights[f"radial/{k}"] * factor * math.sqrt(len(target)))
        factor = 1.0 / SILU_SCALE
    last = weights[f"radial/{len(layer.radial.weights)}"] * factor
    paths = [" ".join(_name(ir) for ir in path) for path in layer.convolution.paths]
    found = [str(path) for path in theirs["paths"]]
    columns = last.unflatten(1, (len(found), -1))[:, [found.index(path) for path in paths]]
    layer.convolution.weight.copy_(columns.flatten(1) * math.sqrt(len(last)))


def _fill_mix(targets: Any, gate: Gate, weights: dict[str, Tensor], gated: list[str]) -> None:
    for target, ir in zip(targets, gate.irreps, strict=True):
        target.copy_(_columns(weights[f"mix/{_name(ir)}"], ir, gate, gated))


def _columns(weight: Tensor, ir: Irrep, gate: Gate, gated: list[str]) -> Tensor:
    """Of the scalars and gates that 0e carries, those that we keep."""
    if ir != SCALAR:
        return weight
    kept = [0] + [1 + gated.index(_name(other)) for other in gate.irreps if other.l > 0]
    return weight.unflatten(-1, (-1, gate.n_channels))[..., kept, :].flatten(-2)


def _name(ir: Irrep) -> str:
    return f"{ir.l}{'e' if ir.p == 1 else 'o'}"
