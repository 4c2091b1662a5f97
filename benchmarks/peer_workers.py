"""One side of `peers.py`: builds a model, times three tasks, prints one line of JSON. Imports only what its side has.

python benchmarks/peer_workers.py SIDE SPEC THREADS
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import ase
import ase.build
import numpy as np

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # how e3nn 0.4.4 reads its constants
import torch

CUTOFF, MEAN_NEIGHBOURS, N_STRUCTURES = 4.0, 45.56, 5
Energy = Callable[[], torch.Tensor]
EnergyForces = Callable[[bool], tuple[torch.Tensor, torch.Tensor]]  # argument: keep the graph for training


def structures() -> list[ase.Atoms]:
    """Displaced diamond in the 32-atom cell of the paper's labels."""
    ideal = ase.build.make_supercell(
        ase.build.bulk("C", "diamond", a=3.567), np.array([[-2, 2, 2], [2, -2, 2], [1, 1, -1]])
    )
    generator, out = np.random.default_rng(0), []
    for _ in range(N_STRUCTURES):
        out.append(ideal.copy())
        out[-1].positions += generator.normal(scale=0.05, size=ideal.positions.shape)
    return out


def ours(spec: dict[str, Any]) -> tuple[torch.nn.Module, Energy, EnergyForces, int]:
    from mlffx.data import keys
    from mlffx.data.graph import batch_graphs, build_graph
    from mlffx.models import build_model
    from mlffx.potentials.base import evaluate
    from mlffx.potentials.network import NetworkPotential

    model = build_model(spec, species=[6], mean_neighbours=MEAN_NEIGHBOURS)
    potential = NetworkPotential(model, torch.zeros(1), 1.0, spec)
    batch = batch_graphs([build_graph(atoms, CUTOFF) for atoms in structures()])

    def with_forces(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        out = evaluate(potential, batch, create_graph=training)
        return out[keys.ENERGY], out[keys.FORCES]

    n_edges = batch[keys.EDGE_INDEX].shape[1]
    return potential, lambda: evaluate(potential, batch, forces=False)[keys.ENERGY], with_forces, n_edges


def mace_network(n_channels: int) -> torch.nn.Module:
    """Two layers of nx0e + nx1o, correlation 3, for carbon; needs mace-torch alone."""
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=1,
        hidden_irreps=o3.Irreps(f"{n_channels}x0e+{n_channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(1),
        avg_num_neighbors=MEAN_NEIGHBOURS,
        atomic_numbers=[6],
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def mace_graphs(cells: list[ase.Atoms]) -> list:
    """What mace-torch batches."""
    from mace import data
    from mace.tools import AtomicNumberTable

    table = AtomicNumberTable([6])
    return [data.AtomicData.from_config(data.config_from_atoms(a), z_table=table, cutoff=CUTOFF) for a in cells]


def mace_torch(spec: dict[str, Any]) -> tuple[torch.nn.Module, Energy, EnergyForces, int]:
    from mace.tools import torch_geometric

    model = mace_network(spec["n_channels"])
    items = mace_graphs(structures())
    batch = next(iter(torch_geometric.dataloader.DataLoader(items, batch_size=N_STRUCTURES))).to_dict()

    def with_forces(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        out = model(batch, training=training)
        return out["energy"], out["forces"]

    n_edges = batch["edge_index"].shape[1]
    return model, lambda: model(batch, training=True, compute_force=False)["energy"], with_forces, n_edges


def nequip(spec: dict[str, Any]) -> tuple[torch.nn.Module, Energy, EnergyForces, int]:
    from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        r_max=CUTOFF,
        type_names=["C"],
        num_layers=spec["n_interactions"],
        l_max=spec["l_max"],
        parity=spec["parity"],
        num_features=spec["n_channels"],
        radial_mlp_depth=len(spec["radial_hidden"]),
        radial_mlp_width=spec["radial_hidden"][0],
        avg_num_neighbors=MEAN_NEIGHBOURS,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )
    graphs = [from_ase(atoms) for atoms in structures()]
    for graph in graphs:
        graph["atom_types"] = torch.zeros(len(graph["pos"]), dtype=torch.long)
    batch = AtomicDataDict.batched_from_list([compute_neighborlist_(graph, r_max=CUTOFF) for graph in graphs])
    energies = next(m for m in model.modules() if type(m).__name__ == "SequentialGraphNetwork")  # without derivatives

    def with_forces(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        model.train(training)  # in evaluation it does not keep the graph of the forces
        out = model(dict(batch))
        return out["total_energy"], out["forces"]

    n_edges = batch["edge_index"].shape[1]
    return model, lambda: energies(dict(batch))["total_energy"], with_forces, n_edges


def torch_geometric_schnet(spec: dict[str, Any]) -> tuple[torch.nn.Module, Energy, EnergyForces, int]:
    """torch_geometric's SchNet does not know periodic cells: its layers get our edges, as its users do."""
    from torch_geometric.nn.models import SchNet

    from mlffx.data import keys
    from mlffx.data.graph import batch_graphs, build_graph, edges_of

    n = spec["n_hidden"]
    model = SchNet(hidden_channels=n, num_filters=n, num_interactions=spec["n_interactions"], cutoff=CUTOFF)
    batch = batch_graphs([build_graph(atoms, CUTOFF) for atoms in structures()])

    def energy() -> torch.Tensor:
        edges = edges_of(batch)
        lengths = edges.lengths.float()
        index = torch.stack([edges.sender, edges.receiver])
        h, spread = model.embedding(batch[keys.NUMBERS]), model.distance_expansion(lengths)
        for interaction in model.interactions:
            h = h + interaction(h, index, lengths, spread)
        h = model.lin2(model.act(model.lin1(h)))
        return h.new_zeros(N_STRUCTURES, 1).index_add(0, batch[keys.BATCH], h).squeeze(1)

    def with_forces(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        batch[keys.POSITIONS] = positions = batch[keys.POSITIONS].detach().requires_grad_(True)
        total = energy()
        return total, -torch.autograd.grad(total.sum(), positions, create_graph=training)[0]

    return model, energy, with_forces, batch[keys.EDGE_INDEX].shape[1]


SIDES = {"mlffx": ours, "mace-torch": mace_torch, "nequip": nequip, "torch-geometric": torch_geometric_schnet}


def timed(task: Callable[[], object], repeats: int = 6) -> float:
    """Seconds a structure,
    the fastest of `repeats` after two warm-up calls (three where code is compiled on the way).
    """
    for _ in range(3):
        task()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times) / N_STRUCTURES


def main(side: str, spec: dict[str, Any], threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, energy, energy_forces, n_edges = SIDES[side](spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def train_forces() -> None:
        total, forces = energy_forces(True)
        step((total**2).mean() + (forces**2).mean())

    result = {
        "train_energy": timed(lambda: step((energy() ** 2).mean())),
        "train_forces": timed(train_forces),
        "evaluate": timed(lambda: energy_forces(False)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "edges": n_edges,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
