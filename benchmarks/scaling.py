"""How cost grows with the cell: energy and forces, and steps of molecular dynamics, for 8 to 10,000 atoms of diamond.

    python benchmarks/scaling.py [--models painn mace] [--cells 1 2 3 5 7 11] [--seconds 3] [--threads 2]

Cells are cubes of n x n x n conventional cells (8 n^3 atoms), displaced by 0.05 A, float32. A step of molecular
dynamics includes the test of the neighbour list; in a crystal, where nobody leaves, it is not renewed. The exponent is
the slope of log time against log N beyond 500 atoms. A model stops where a step takes longer than --limit seconds.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.dynamics.integrate import Noise, advance, start
from mlffx.dynamics.replicas import ReplicaForces, freeze
from mlffx.lattice.force_constants import conventional_matrix
from mlffx.models.base import build_model
from mlffx.potentials.base import Potential, evaluate
from mlffx.potentials.network import NetworkPotential

DIAMOND = Crystal.from_prototype("diamond", ["C"], 3.5607)
LARGE = 500  # atoms from which on the exponent is taken


def potential_for(model: str) -> Potential:
    """Untrained, with forces too weak to move anything far: timing, not physics."""
    torch.manual_seed(0)
    spec = {"name": model}
    return NetworkPotential(build_model(spec, species=[6], mean_neighbours=45.6), torch.zeros(1), 1e-3, spec)


def seconds_a_call(work: Callable[[], object], budget: float) -> float:
    """Fastest of as many calls as fit the budget, at least two after a warm-up."""
    work()
    best, begun, calls = math.inf, time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - begun < budget:
        before = time.perf_counter()
        work()
        best, calls = min(best, time.perf_counter() - before), calls + 1
    return best


def row(potential: Potential, cells: int, budget: float) -> dict[str, float]:
    """Atoms, seconds of one evaluation, seconds of one step."""
    atoms = DIAMOND.supercell(conventional_matrix(DIAMOND, cells))
    sites = torch.as_tensor(atoms.positions)
    displaced = atoms.copy()
    displaced.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    graph = batch_graphs([build_graph(displaced, potential.cutoff)])
    frozen = freeze(potential)
    evaluation = seconds_a_call(lambda: evaluate(frozen, graph), budget)
    engine = ReplicaForces(potential, atoms, 1)
    mass = torch.as_tensor(atoms.get_masses())
    state = start(sites[None], mass, 1.0, Noise(0, (0,)), engine)

    def step() -> None:
        nonlocal state
        state = advance(state, engine, mass, 0.5)

    return {"atoms": len(atoms), "evaluation": evaluation, "step": seconds_a_call(step, budget)}


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Slope of log time against log N for large cells."""
    large = [r for r in rows if r["atoms"] > LARGE]
    if len(large) < 2:
        return math.nan
    return float(np.polyfit(np.log([r["atoms"] for r in large]), np.log([r[key] for r in large]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["painn", "nequip", "mace"])
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 3, 5, 7, 11], help="conventional cells an edge")
    parser.add_argument("--seconds", type=float, default=3.0, help="spent on each number")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds a step at which a model stops")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"float32, {options.threads} threads\n")
    print("| model | atoms | E+F, s | E+F, us/atom | MD steps/s | MD us/atom |\n|---|---|---|---|---|---|")
    slopes = []
    for name in options.models:
        potential, rows = potential_for(name), []
        for cells in options.cells:
            rows.append(found := row(potential, cells, options.seconds))
            n = found["atoms"]
            print(
                f"| {name} | {n} | {found['evaluation']:.4f} | {1e6 * found['evaluation'] / n:.0f} "
                f"| {1 / found['step']:.1f} | {1e6 * found['step'] / n:.0f} |",
                flush=True,
            )
            if found["step"] > options.limit:
                break
        slopes.append(f"{name} N^{exponent(rows, 'evaluation'):.2f} (E+F), N^{exponent(rows, 'step'):.2f} (MD)")
    print(f"\nbeyond {LARGE} atoms: " + "; ".join(slopes))
    print(f"most memory held: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f} GiB")


if __name__ == "__main__":
    main()
