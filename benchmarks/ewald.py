"""Cost and accuracy of the Coulomb sums against the number of atoms.

    python benchmarks/ewald.py [--repeats 2 4 6 8] [--cutoff 4.0] [--out FILE.json]

For rocksalt supercells of n x n x n conventional cells: seconds for energy and forces by the direct sum and by the
particle mesh (torch-pme), and the largest difference of their forces. Then the batch: seconds a structure for 1 to 32
cells of 64 atoms at once. At a fixed real-space cutoff the direct sum grows as N^2 (as many k-vectors as atoms, for
each atom) and the mesh as N log N.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.electrostatics.ewald import Splitting, ewald_energy
from mlffx.electrostatics.pme import pme_energy

CRYSTAL = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.017)
CUBE = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
LARGEST_DIRECT = 5000  # atoms


def structure(n: int, cutoff: float, seed: int = 0) -> Data:
    """Rattled supercell of n^3 conventional cells."""
    atoms = CRYSTAL.supercell(n * CUBE)
    atoms.positions += 0.05 * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return build_graph(atoms, cutoff)


def timed(method, graph: Data, split: Splitting, repeats: int = 3) -> tuple[float, Tensor]:
    """Best wall-clock seconds of energy and forces, and the forces [n_atoms, 3], eV/A."""
    charges = torch.where(graph[keys.NUMBERS] == 3, 1.0, -1.0).to(torch.float64)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        graph[keys.POSITIONS] = graph[keys.POSITIONS].detach().requires_grad_(True)
        energy = method(charges, graph, edges_of(graph), split).sum()
        (gradient,) = torch.autograd.grad(energy, graph[keys.POSITIONS])
        best = min(best, time.perf_counter() - start)
    return best, -gradient


def against_size(repeats: list[int], split: Splitting) -> list[dict]:
    rows = []
    print(f"{'atoms':>8} {'direct, s':>10} {'mesh, s':>10} {'largest difference of forces, eV/A':>36}")
    for n in repeats:
        graph = batch_graphs([structure(n, split.real_cutoff)])
        atoms = graph.num_nodes
        mesh, mesh_forces = timed(pme_energy, graph, split)
        row: dict = {"atoms": atoms, "mesh_s": mesh, "direct_s": None, "difference_eV_A": None}
        if atoms <= LARGEST_DIRECT:
            row["direct_s"], forces = timed(ewald_energy, graph, split)
            row["difference_eV_A"] = float((forces - mesh_forces).abs().max())
        shown = [f"{row[k]:.3g}" if row[k] is not None else "-" for k in ("direct_s", "mesh_s", "difference_eV_A")]
        print(f"{atoms:>8} {shown[0]:>10} {shown[1]:>10} {shown[2]:>36}", flush=True)
        rows.append(row)
    return rows


def against_batch(split: Splitting) -> list[dict]:
    rows = []
    print(f"{'structures':>10} {'s a structure':>14}")
    for size in (1, 2, 4, 8, 16, 32):
        graph = batch_graphs([structure(2, split.real_cutoff, seed) for seed in range(size)])
        seconds = timed(ewald_energy, graph, split)[0] / size
        print(f"{size:>10} {seconds:>14.3g}", flush=True)
        rows.append({"structures": size, "seconds_per_structure": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, nargs="+", default=[1, 2, 3, 4, 6])
    parser.add_argument("--cutoff", type=float, default=4.0, help="real-space cutoff, A")
    parser.add_argument("--tolerance", type=float, default=1e-7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    split = Splitting.point(options.cutoff, options.tolerance)
    result = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cutoff_A": options.cutoff,
        "tolerance": options.tolerance,
        "size": against_size(options.repeats, split),
        "batch": against_batch(split),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
