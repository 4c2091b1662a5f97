"""Write a nequip model as plain arrays that `mlffx.models.nequip_import` reads; runs where nequip is installed.

    python benchmarks/dump_nequip.py --fixture DIRECTORY         # the small random models of tests/models/fixtures

From Python, `write(path, model, cutoff, options, {})` dumps any model made by nequip's `NequIPGNNModel(**options)`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ase.build
import numpy as np
import torch
from e3nn.math import normalize2mom
from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state


def layers_of(model: torch.nn.Module) -> list[dict[str, np.ndarray]]:
    """Weights of each layer by what they connect, e.g. `mix/1o` [paths * channels, channels]."""
    graph = next(m for m in model.modules() if type(m).__name__ == "SequentialGraphNetwork")
    layers = []
    for name, layer in graph.named_children():
        if not name.endswith("_convnet"):
            continue
        conv, arrays = layer.conv, {}
        for key, linear in (("up", conv.linear_1), ("mix", conv.linear_2)):
            for _, instruction, weight in linear.weight_views(yield_instruction=True):
                arrays[f"{key}/{linear.irreps_in[instruction.i_in].ir}"] = weight.detach().numpy()
        if conv.sc is not None:
            for instruction, weight in zip(conv.sc.instructions, conv.sc.weight_views(), strict=True):
                arrays[f"own/{conv.sc.irreps_out[instruction.i_out].ir}"] = weight.detach().numpy()
        linears = [m for m in conv.edge_mlp.modules() if hasattr(m, "alpha")]
        for k, linear in enumerate(linears):
            arrays[f"radial/{k}"] = (linear.weight * linear.alpha).detach().numpy()
        tp = conv.tp_scatter.tp
        arrays["paths"] = np.array(
            [
                f"{tp.irreps_in1[i.i_in1].ir} {tp.irreps_in2[i.i_in2].ir} {tp.irreps_out[i.i_out].ir}"
                for i in tp.instructions
            ]
        )
        arrays["gated"] = np.array([str(ir) for _, ir in layer.equivariant_nonlin.irreps_gated] or [""])
        layers.append(arrays)
    return layers


def write(path: Path, model: torch.nn.Module, options: dict, frames: dict[str, np.ndarray]) -> None:
    """Everything into one .npz file."""
    state = {name.split(".func.")[-1]: value for name, value in model.state_dict().items()}
    arrays = {
        "embedding": state["type_embed.embed_module.weight"],
        "head": state["per_atom_energy_readout.mlp_module.mlp.0.weight"],
        "scales": state["per_type_energy_scale_shift.scales"],
        "shifts": state["per_type_energy_scale_shift.shifts"],
    }
    flat = {name: value.detach().numpy() for name, value in arrays.items()}
    for k, layer in enumerate(layers_of(model)):
        flat |= {f"layer{k}/{name}": value for name, value in layer.items()}
    spec = options | {
        "silu_scale": normalize2mom(torch.nn.functional.silu).cst,
        "tanh_scale": normalize2mom(torch.tanh).cst,
    }
    np.savez_compressed(path, spec=np.array(json.dumps(spec)), **flat, **frames)


FIXTURES = {
    "nequip_lih": {"type_names": ["H", "Li"], "num_layers": 4, "l_max": 1, "parity": True, "radial_mlp_depth": 2},
    "nequip_diamond": {"type_names": ["C"], "num_layers": 3, "l_max": 2, "parity": False, "radial_mlp_depth": 1},
}


def write_fixtures(directory: Path) -> None:
    """Random models with reference energies and forces, float64."""
    for seed, (name, special) in enumerate(FIXTURES.items()):
        options = special | {
            "seed": seed,
            "model_dtype": "float64",
            "r_max": 3.2,
            "num_features": 4,
            "radial_mlp_width": 8,
            "num_bessels": 6,
            "polynomial_cutoff_p": 6,
            "avg_num_neighbors": 11.5,
            "per_type_energy_scales": 0.7,
            "per_type_energy_shifts": {t: -1.0 - k for k, t in enumerate(special["type_names"])},
        }
        model, rng = NequIPGNNModel(**options), np.random.default_rng(seed)
        atoms = (
            ase.build.bulk("C", "diamond", a=3.57, cubic=True)
            if "diamond" in name
            else ase.build.bulk("LiH", "rocksalt", a=4.08, cubic=True)
        )
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        graph = from_ase(atoms)
        graph["atom_types"] = torch.tensor([options["type_names"].index(s) for s in atoms.get_chemical_symbols()])
        out = model(AtomicDataDict.batched_from_list([compute_neighborlist_(graph, r_max=options["r_max"])]))
        frames = {
            "frames/0/numbers": atoms.numbers,
            "frames/0/positions": atoms.positions,
            "frames/0/cell": atoms.cell.array,
            "frames/0/energy": out["total_energy"].detach().numpy().reshape(()),
            "frames/0/forces": out["forces"].detach().numpy(),
        }
        write(directory / f"{name}.npz", model, options, frames)


if __name__ == "__main__":
    set_global_state()
    write_fixtures(Path(sys.argv[sys.argv.index("--fixture") + 1]))
