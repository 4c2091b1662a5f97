"""From labels to a report with an ensemble, as one types it; then phonons of the loaded potential alone, step by step.

    python benchmarks/end_to_end.py [--experiment diamond_delta] [--level ccsdt] [--ensemble 5] [--threads 2]

The first table is wall time of the two commands from the start of the interpreter, with nothing trained before. The
second one is one process that has imported what it needs: force constants of 64 atoms from displaced cells in one
batch, bands, and a density of states; `again` repeats them as for a further member. `--experiment twin_delta --level
high` and `--experiment boron_nitride_delta` need no data of others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(options: argparse.Namespace, out: Path) -> Path:
    """Train and evaluate from nothing; returns the run directory."""
    run = out / "run"
    limits = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    chosen = [f"experiment={options.experiment}", f"level={options.level}", f"ensemble={options.ensemble}"]
    print("| command | wall, s |\n|---|---|")
    for command in (
        ["train.py", *chosen, f"run_dir={run}", f"cache_dir={out / 'bases'}", "wandb.mode=disabled"],
        ["evaluate.py", f"run={run}"],
    ):
        begun = time.perf_counter()
        quiet = [*command, "trainer.progress=false" if command[0] == "train.py" else "progress=false"]
        subprocess.run([sys.executable, *quiet], cwd=ROOT, check=True, capture_output=True, env=limits)
        shown = " ".join(command[:1] + [part for part in command[1:] if part in chosen])
        print(f"| {shown} | {time.perf_counter() - begun:.0f} |", flush=True)
    return run


def phonons(run: Path, threads: int) -> None:
    """Seconds of loading, force constants, bands and a density of states."""
    import torch

    from mlffx.lattice import Phonons, conventional_matrix
    from mlffx.lattice.force_constants import finite_displacement
    from mlffx.training.run_directory import load_members

    torch.set_num_threads(threads)
    begun = time.perf_counter()
    potential = load_members(run)[0]
    print("\n| phonons of one loaded potential, 64 atoms | first, s | again, s |\n|---|---|---|")
    print(f"| load the run | {time.perf_counter() - begun:.2f} | |")
    crystal = potential.crystal
    assert crystal is not None
    matrix = conventional_matrix(crystal, 2)
    steps: list[tuple[str, Callable[[], object]]] = []
    found: dict[str, Phonons] = {}

    def constants() -> None:
        found["phonons"] = Phonons(finite_displacement(potential, crystal, matrix))

    steps += [("force constants, displaced cells in one batch", constants)]
    steps += [("bands, 51 points a segment", lambda: found["phonons"].bands(51))]
    steps += [("density of states, 21 x 21 x 21", lambda: found["phonons"].dos(21))]
    total = [0.0, 0.0]
    for name, step in steps:
        times = []
        for round_ in range(2):
            begun = time.perf_counter()
            step()
            times.append(time.perf_counter() - begun)
            total[round_] += times[-1]
        print(f"| {name} | {times[0]:.2f} | {times[1]:.2f} |")
    print(f"| together | {total[0]:.2f} | {total[1]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="diamond_delta")
    parser.add_argument("--level", default="ccsdt")
    parser.add_argument("--ensemble", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        phonons(commands(options, Path(out)), options.threads)


if __name__ == "__main__":
    main()
