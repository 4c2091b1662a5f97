"""Seconds a structure of architectures, side by side in one run, on diamond cells of 32 atoms that it makes itself.

    python benchmarks/models.py painn schnet bpnn --threads 2 --batch 5
    python benchmarks/models.py painn mace:n_channels=32 --device cuda --batch 50 --json speed.json

Models take turns in every round, so that a busy machine slows all alike; medians over the rounds are reported.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph, n_graphs
from mlffx.models import build_model
from mlffx.models.base import complete_spec
from mlffx.potentials.base import evaluate
from mlffx.potentials.network import NetworkPotential

DIAMOND = Crystal.from_prototype("diamond", ["C"], 3.56074511)
SUPERCELL = [[-2, 2, 2], [2, -2, 2], [1, 1, -1]]  # 2x2x1 cubic cells, 32 atoms
TASKS = ("train E", "train E+F", "eval E+F")


def cells(n: int, cutoff: float, seed: int = 0) -> Batch:
    """`n` diamond cells of 32 atoms, displaced by 0.06 A (rms of a coordinate)."""
    random, graphs = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = DIAMOND.supercell(SUPERCELL)
        atoms.positions += random.normal(scale=0.06, size=atoms.positions.shape)
        match = DIAMOND.match(atoms)
        graphs.append(build_graph(atoms, cutoff, match.sites, match.site_type))
    return batch_graphs(graphs)


def parse_model(text: str) -> dict[str, Any]:
    """`bpnn:cutoff=3.5,zetas=[1,2]` as a model specification; values are JSON."""
    name, _, rest = text.partition(":")
    pairs = [item.split("=", 1) for item in re.split(r",(?=\w+=)", rest) if item]
    return {"name": name} | {key: json.loads(value) for key, value in pairs}


def steps(spec: dict[str, Any], arguments: argparse.Namespace) -> tuple[int, dict[str, Callable[[], None]]]:
    """Number of parameters, and one closure a task that works through a batch."""
    torch.manual_seed(0)
    spec = complete_spec(spec, species=[6], mean_neighbours=45.6, crystal=DIAMOND.to_arrays())
    model = build_model(spec)
    potential = NetworkPotential(model, torch.zeros(1), 1.0, spec).set_precision(getattr(torch, arguments.precision))
    potential = potential.to(arguments.device)
    graph = cells(arguments.batch, model.cutoff).to(arguments.device)
    energies = torch.zeros(n_graphs(graph), dtype=torch.float64, device=arguments.device)
    forces = torch.zeros_like(graph[keys.POSITIONS])
    optimizer = torch.optim.Adam(potential.parameters(), lr=1e-6)

    def train(with_forces: bool) -> None:
        result = evaluate(potential, graph, forces=with_forces, create_graph=with_forces)
        loss = ((result[keys.ENERGY] - energies) ** 2).mean()
        if with_forces:
            loss = loss + ((result[keys.FORCES] - forces) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if arguments.device == "cuda":
            torch.cuda.synchronize()

    def predict() -> None:
        evaluate(potential, graph)
        if arguments.device == "cuda":
            torch.cuda.synchronize()

    tasks = {TASKS[0]: lambda: train(False), TASKS[1]: lambda: train(True), TASKS[2]: predict}
    return sum(p.numel() for p in model.parameters()), tasks


def measure(models: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{model: {"parameters": n, task: median seconds a structure}}."""
    prepared = {text: steps(parse_model(text), arguments) for text in models}
    times: dict[tuple[str, str], list[float]] = {}
    for round_number in range(arguments.rounds + 2):
        for text, (_, tasks) in prepared.items():
            for task, run in tasks.items():
                start = time.perf_counter()
                run()
                if round_number >= 2:  # the first two warm up
                    times.setdefault((text, task), []).append((time.perf_counter() - start) / arguments.batch)
    return {
        text: {"parameters": float(n)} | {task: statistics.median(times[text, task]) for task in TASKS}
        for text, (n, _) in prepared.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="name or name:option=value,option=value")
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = measure(arguments.models, arguments)
    print(f"seconds a structure: 32 atoms, batch {arguments.batch}, {arguments.precision}, {arguments.device}")
    print(f"{'model':32s} {'parameters':>10s} " + " ".join(f"{task:>10s}" for task in TASKS))
    for text, row in results.items():
        print(f"{text:32s} {int(row['parameters']):10d} " + " ".join(f"{row[task]:10.5f}" for task in TASKS))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"settings": vars(arguments) | {"json": None}, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
