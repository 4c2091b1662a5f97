"""What `time_to_phonons.py` compares with: a delta by hand with mace-torch. Runs where mace-torch is installed.

python benchmarks/time_to_phonons_mace.py LABELS.npz OUT.npz SECONDS THREADS

Two models of 32x0e + 32x1o, two layers, correlation 3, cutoff 4 A, batches of 5, Adam with a cosine from 5e-3, float32.
The first learns energies (weight 100 a (eV/atom) squared) and forces (1 a (eV/A) squared), the second the differences
of energies; two thirds of the seconds for the first. Forces of the displaced cells, in float64, are saved at twelve
times of either training; the clock stands still meanwhile.
"""

from __future__ import annotations

import copy
import math
import os
import sys
import time

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # how e3nn 0.4.4 reads its constants
import ase
import numpy as np
import torch
from mace.tools import torch_geometric
from peer_workers import mace_graphs, mace_network

CHANNELS, BATCH, RATE, SNAPSHOTS = 32, 5, 5e-3, 12


def graphs(cell: np.ndarray, positions: np.ndarray) -> list:
    cells = [ase.Atoms("C" * len(p), positions=p, cell=cell, pbc=True) for p in positions]
    return mace_graphs(cells)


def batched(items: list, size: int) -> list[dict]:
    return [batch.to_dict() for batch in torch_geometric.dataloader.DataLoader(items, batch_size=size)]


def forces_of(model: torch.nn.Module, displaced: list[dict]) -> np.ndarray:
    """Forces of the displaced cells in float64, [n_cells, n_atoms, 3]."""
    exact, found = copy.deepcopy(model).double().eval(), []
    for batch in displaced:
        wide = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in batch.items()}
        found.append(exact(wide)["forces"].detach().numpy())
    return np.array(found)


def train(model, items, energies, forces, seconds, displaced, record) -> float:
    """Train for so many seconds; `record` gets the seconds gone and the forces of the displaced cells."""
    n_atoms = len(items[0]["positions"])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    offset, scale = energies.mean(), energies.std()
    generator, gone, taken = np.random.default_rng(0), 0.0, 0
    while gone < seconds:
        order = generator.permutation(len(items))
        for chosen in np.array_split(order, math.ceil(len(order) / BATCH)):
            begun = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * min(gone / seconds, 1.0))) + 1e-6
            (batch,) = batched([items[i] for i in chosen], len(chosen))
            out = model(batch, training=True, compute_force=forces is not None)
            target = torch.as_tensor(energies[chosen] - offset, dtype=torch.float32)
            if forces is None:
                loss = (((out["energy"] - target) / scale) ** 2).mean()
            else:
                wanted = torch.as_tensor(np.concatenate(forces[chosen]), dtype=torch.float32)
                loss = 100 * (((out["energy"] - target) / n_atoms) ** 2).mean() + ((out["forces"] - wanted) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            gone += time.perf_counter() - begun
            if gone >= seconds:
                break
        if gone >= (taken + 1) * seconds / SNAPSHOTS or gone >= seconds:
            taken = int(gone / seconds * SNAPSHOTS)
            record(gone, forces_of(model, displaced))
    return gone


def main(labels: str, out: str, limit: float, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given = np.load(labels)
    items = graphs(given["cell"], given["positions"])
    torch.set_default_dtype(torch.float64)
    displaced = batched(graphs(given["displaced_cell"], given["displaced"]), 1)
    torch.set_default_dtype(torch.float32)
    low, difference = mace_network(CHANNELS), mace_network(CHANNELS)
    seconds, lows, highs = [], [], []

    def during_low(gone: float, forces: np.ndarray) -> None:
        print(f"{gone:.0f} s: energies and forces of the low level", file=sys.stderr, flush=True)
        seconds.append(gone), lows.append(forces), highs.append(forces)

    spent = train(low, items, given["low"], given["forces"], limit * 2 / 3, displaced, during_low)
    base = forces_of(low, displaced)

    def during_difference(gone: float, forces: np.ndarray) -> None:
        print(f"{spent + gone:.0f} s: differences of energies", file=sys.stderr, flush=True)
        seconds.append(spent + gone), lows.append(base), highs.append(base + forces)

    train(difference, items, given["high"] - given["low"], None, limit / 3, displaced, during_difference)
    np.savez(out, seconds=seconds, low=lows, high=highs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
