"""Steps of molecular dynamics per second against the number of atoms and of replicas.

    python benchmarks/dynamics.py [--potential ionic|painn|harmonic] [--device cpu|cuda] [--out FILE.json]

Prints a table and, with --out, writes the numbers. Atom-steps per second rise with replicas until the processor is
full; beyond that a larger batch buys nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from mlffx.data.crystal import Crystal
from mlffx.dynamics.integrate import Noise, advance, start
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.lattice.force_constants import finite_displacement
from mlffx.models.base import build_model
from mlffx.potentials.base import Potential
from mlffx.potentials.harmonic import HarmonicPotential
from mlffx.potentials.ionic_twin import IonicTwin
from mlffx.potentials.network import NetworkPotential

STEP = 0.001  # fs; what a step costs does not depend on it, ns/day are those of 0.5 fs
CRYSTAL = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.017)


def potential_for(kind: str, repeats: int) -> tuple[Potential, object]:
    """The potential and the supercell of repeats^3 primitive cells."""
    supercell = CRYSTAL.supercell([repeats] * 3)
    if kind == "painn":
        spec = {"name": "painn", "n_hidden": 32, "n_interactions": 2}
        model = build_model(spec, species=[1, 3], cutoff=4.5, mean_neighbours=30.0)
        return NetworkPotential(model, torch.zeros(2), 1e-3, spec), supercell  # weak forces: timing, not physics
    twin = IonicTwin()
    if kind == "ionic":
        return twin, supercell
    constants = finite_displacement(twin, CRYSTAL, repeats, symmetrise=False)
    ideal = constants.supercell()
    return HarmonicPotential(constants.full(), ideal.positions, ideal.cell.array), ideal


def steps_per_second(potential: Potential, supercell, n_replicas: int, seconds: float) -> float:
    """NVE steps in about `seconds`, after a warm-up; as short as STEP, so that untrained networks keep the crystal."""
    engine = ReplicaForces(potential, supercell, n_replicas)
    mass = torch.as_tensor(supercell.get_masses(), device=engine.device)
    sites = torch.as_tensor(supercell.positions, device=engine.device).repeat(n_replicas, 1, 1)
    state = start(sites, mass, 300.0, Noise(0, tuple(range(n_replicas))), engine)
    for _ in range(3):
        state = advance(state, engine, mass, STEP)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        state = advance(state, engine, mass, STEP)
        state.potential.sum().item()  # waits for an accelerator
        steps += 1
    return steps / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potential", choices=["ionic", "painn", "harmonic"], default="painn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    print(f"{'atoms':>6} {'replicas':>8} {'steps/s':>9} {'atom-steps/s':>13} {'ns/day of one replica':>22}")
    for repeats in options.repeats:
        potential, supercell = potential_for(options.potential, repeats)
        potential = potential.to(options.device)
        for replicas in options.replicas:
            rate = steps_per_second(potential, supercell, replicas, options.seconds)
            atoms, together = len(supercell), rate * replicas * len(supercell)
            rows.append({"atoms": atoms, "replicas": replicas, "steps_per_s": rate, "atom_steps_per_s": together})
            print(f"{atoms:6d} {replicas:8d} {rate:9.1f} {together:13.0f} {rate * 0.0432:22.2f}")
    if options.out:
        machine = {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__}
        machine |= {"processor": platform.processor() or platform.machine(), "numpy": np.__version__}
        options.out.write_text(json.dumps({"potential": options.potential, **machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
