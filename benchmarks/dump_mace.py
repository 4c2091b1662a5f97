"""Write a mace-torch model as plain arrays that `mlffx.models.mace_import` reads.

Runs where mace-torch is installed (it pins e3nn 0.4.4, so it cannot share an environment with mlffx) and imports
nothing of mlffx.

    python benchmarks/dump_mace.py MODEL.model OUT.npz           # a trained or foundation model
    python benchmarks/dump_mace.py --fixture DIRECTORY           # the small random models of tests/models/fixtures

The file holds `spec` (JSON: architecture and options), `state/<name>` (every parameter and buffer),
`w3j/<l1>_<l2>_<l3>` (the real Wigner 3j symbols in use: e3nn has changed the sign of some), and for fixtures
`frames/<i>/...` with reference energies and forces in float64.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from pathlib import Path

import ase.build
import numpy as np
import torch

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4.4 reads its own constants the old way
from e3nn import o3
from e3nn.math import normalize2mom
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric


def spec_of(model: torch.nn.Module) -> dict:
    """What has to be known besides the arrays."""
    first, later = model.interactions[0], model.interactions[-1]
    gate = model.readouts[-1].non_linearity.acts[0].f if hasattr(model.readouts[-1], "non_linearity") else None
    return {
        "class": type(model).__name__,
        "atomic_numbers": model.atomic_numbers.tolist(),
        "cutoff": float(model.r_max),
        "n_radial": int(model.radial_embedding.out_dim),
        "radial_basis": type(model.radial_embedding.bessel_fn).__name__,
        "distance_transform": type(getattr(model.radial_embedding, "distance_transform", None)).__name__,
        "apply_cutoff": bool(getattr(model.radial_embedding, "apply_cutoff", True)),
        "envelope_power": int(model.radial_embedding.cutoff_fn.p),
        "radial_hidden": list(first.conv_tp_weights.hs[1:-1]),
        "edge_irreps": str(first.edge_attrs_irreps),
        "hidden_irreps": str(first.hidden_irreps),
        "interaction_irreps": [str(block.target_irreps) for block in model.interactions],
        "interaction_first": type(first).__name__,
        "interaction": type(later).__name__,
        "mean_neighbours": float(first.avg_num_neighbors),
        "correlation": [block.symmetric_contractions.contractions[0].correlation for block in model.products],
        "readout_irreps": str(getattr(model.readouts[-1], "hidden_irreps", "")),
        "gate": getattr(gate, "__name__", str(gate)),
        "heads": list(getattr(model, "heads", ["Default"])),
        "pair_repulsion": hasattr(model, "pair_repulsion"),
        "activation_scale": normalize2mom(torch.nn.functional.silu).cst,
    }


def arrays_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Parameters, coupling tensors (those that equal the first layer's once only) and 3j symbols."""
    arrays: dict[str, np.ndarray] = {}
    for name, value in model.state_dict().items():
        if not value.numel() or any(part in name for part in ("output_mask", "_w3j_", "_zeroed")):
            continue
        array = value.detach().cpu().numpy()
        first = arrays.get("state/" + re.sub(r"products\.\d+", "products.0", name))
        if "U_matrix" in name and first is not None and np.array_equal(first, array):
            continue
        arrays[f"state/{name}"] = array
    highest = max(ir.l for _, ir in model.interactions[0].edge_attrs_irreps)
    for a, b, c in itertools.product(range(highest + 1), repeat=3):
        if abs(a - b) <= c <= a + b:
            arrays[f"w3j/{a}_{b}_{c}"] = o3.wigner_3j(a, b, c, dtype=torch.float64).numpy()
    return arrays


def reference(model: torch.nn.Module, atoms: ase.Atoms) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/A) of mace-torch in float64."""
    table = AtomicNumberTable(model.atomic_numbers.tolist())
    config = data.config_from_atoms(atoms)
    loader = torch_geometric.dataloader.DataLoader(
        [data.AtomicData.from_config(config, z_table=table, cutoff=float(model.r_max))], batch_size=1
    )
    out = model(next(iter(loader)).to_dict())
    return out["energy"].item(), out["forces"].detach().numpy()


def random_model(
    hidden: str, numbers: list[int], first: str, cutoff: float, n_layers: int = 2, max_ell: int = 3
) -> torch.nn.Module:
    """An untrained ScaleShiftMACE with small random weights, float64."""
    model = modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=6,
        num_polynomial_cutoff=5,
        max_ell=max_ell,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes[first],
        num_interactions=n_layers,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("8x0e"),
        atomic_energies=np.linspace(-3.0, -1.0, len(numbers)),
        avg_num_neighbors=11.5,
        atomic_numbers=numbers,
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=[12, 12],
        atomic_inter_scale=0.7,
        atomic_inter_shift=-0.11,
    )
    return model


FIXTURES = {
    "mace_diamond": ("8x0e+8x1o", [6], "RealAgnosticResidualInteractionBlock", 3.0),
    "mace_lih": ("4x0e+4x1o", [1, 3], "RealAgnosticResidualInteractionBlock", 3.2),
    "mace_lih_plain_first": ("4x0e+4x1o+4x2e", [1, 3], "RealAgnosticInteractionBlock", 3.2, 3, 2),
}


def write_fixtures(directory: Path) -> None:
    """,
    andom models with references on displaced diamond (8 atoms) and LiH (8 atoms); cells smaller than twice the cutoff.
    """
    for k, (name, options) in enumerate(FIXTURES.items()):
        torch.manual_seed(k)
        rng = np.random.default_rng(k)
        model = random_model(*options)
        frames = {}
        for i in range(2):
            atoms = (
                ase.build.bulk("C", "diamond", a=3.57, cubic=True)
                if "diamond" in name
                else ase.build.bulk("LiH", "rocksalt", a=4.08, cubic=True)
            )
            atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
            energy, forces = reference(model, atoms)
            frames |= {
                f"frames/{i}/numbers": atoms.numbers,
                f"frames/{i}/positions": atoms.positions,
                f"frames/{i}/cell": atoms.cell.array,
                f"frames/{i}/energy": np.array(energy),
                f"frames/{i}/forces": forces,
            }
        write(directory / f"{name}.npz", model, frames)


def write(path: Path, model: torch.nn.Module, frames: dict[str, np.ndarray]) -> None:
    np.savez_compressed(path, spec=np.array(json.dumps(spec_of(model))), **arrays_of(model), **frames)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    if sys.argv[1] == "--fixture":
        write_fixtures(Path(sys.argv[2]))
    else:
        loaded = torch.load(sys.argv[1], map_location="cpu", weights_only=False).double()
        write(Path(sys.argv[2]), loaded, {})
