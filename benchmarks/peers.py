"""Our architectures against their peers, side by side in one run: seconds a structure and ratios.

    python benchmarks/peers.py                       # all pairs, 2 threads
    python benchmarks/peers.py --only mace --threads 1 --rounds 5

Each peer runs in an environment of its own (mace-torch and nequip cannot share one), made on first use under --cache.
The work is the same on both sides: displaced diamond (32 atoms, 1458 edges at 4 A or close to it), batches of five,
float32, Adam; train on energies, train on energies and forces, evaluate energies and forces. Sides take turns, and
the fastest round counts, because machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import torch

WORKER = Path(__file__).with_name("peer_workers.py")
TASKS = {"train_energy": "train E", "train_forces": "train E+F", "evaluate": "E+F"}
PACKAGES = {"mace-torch": ["mace-torch==0.3.16"], "nequip": ["nequip==0.19.1"], "torch-geometric": None}  # None: ours
NEQUIP = {"name": "nequip", "n_channels": 32, "n_interactions": 3, "radial_hidden": [64], "parity": False}
PAIRS = {
    "mace": ({"name": "mace", "n_channels": 32}, "mace-torch"),
    "nequip-l1": (NEQUIP | {"l_max": 1}, "nequip"),
    "nequip-l2": (NEQUIP | {"l_max": 2}, "nequip"),
    "nequip-l1-parity": (NEQUIP | {"l_max": 1, "parity": True}, "nequip"),
    "schnet": ({"name": "schnet", "n_hidden": 64, "n_interactions": 3}, "torch-geometric"),
    "painn": ({"name": "painn", "n_hidden": 64}, None),
}


def environment(peer: str, cache: Path) -> Path:
    """Python of the environment the peer is installed in; made when it is not there yet."""
    packages = PACKAGES[peer]
    if packages is None:
        return Path(sys.executable)
    directory = cache / peer
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (directory / "complete").exists():
        print(f"making an environment for {', '.join(packages)} in {directory}", file=sys.stderr)
        venv.create(directory, with_pip=True, clear=True)
        same_torch = f"torch=={torch.__version__.split('+')[0]}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", same_torch, *packages], check=True)
        (directory / "complete").touch()
    return python


def measure(python: Path, side: str, spec: dict, threads: int) -> dict[str, float]:
    """One round of one side in a process of its own: seconds a structure by task, parameters and edges."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [python, "-W", "ignore", WORKER, side, json.dumps(spec), str(threads)],
        env=os.environ | limits,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(spec: dict, peer: str | None, cache: Path, threads: int, rounds: int) -> tuple[dict, dict | None]:
    """Fastest round of each side, taken in turns."""
    sides: list[tuple[Path, str]] = [(Path(sys.executable), "mlffx")]
    if peer is not None:
        sides.append((environment(peer, cache), peer))
    results: list[list[dict]] = [[] for _ in sides]
    for _ in range(rounds):
        for result, (python, side) in zip(results, sides, strict=True):
            result.append(measure(python, side, spec, threads))
    best = [result[0] | {task: min(r[task] for r in result) for task in TASKS} for result in results]
    return best[0], best[1] if peer is not None else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "mlffx" / "peers")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {arguments.threads} threads, best of {arguments.rounds} rounds; s/structure\n")
    columns = " | ".join(f"{title} ours | peer | ratio" for title in TASKS.values())
    print(f"| model | peer | parameters | edges | {columns} |")
    print("|" + "---|" * (4 + 3 * len(TASKS)))
    for name in arguments.only:
        spec, peer = PAIRS[name]
        ours, theirs = compare(spec, peer, arguments.cache, arguments.threads, arguments.rounds)
        cells = [name, peer or "-", f"{ours['parameters']}", f"{ours['edges'] // 5}"]
        if theirs is not None:
            cells[2] += f" / {theirs['parameters']}"
        for task in TASKS:
            cells.append(f"{ours[task]:.4f}")
            cells += ["-", "-"] if theirs is None else [f"{theirs[task]:.4f}", f"{theirs[task] / ours[task]:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
