"""Time to phonons: from labelled structures to high-level frequencies, ours against a mace-torch script by hand.

    python benchmarks/time_to_phonons.py [--limit 900] [--threads 2] [--cache DIR] [--out runs/time_to_phonons]

The labels are those of the analytic twin of diamond (160 training structures; energies and forces of the low level,
energies of the high one), because its true frequencies are known. Ours are the commands a user types, from the start of
the interpreter to error bars. The script by hand (`time_to_phonons_mace.py`) is what one would write with mace-torch:
one MACE trained on energies and forces of the low level, a second one on the differences of energies; two thirds of
the time limit for the first. What is compared is the mean absolute error over GAMMA and X of the high level: when it
falls below 10 cm-1 to stay, and what it is in the end. Phonons of its snapshots are worked out afterwards, not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from peers import environment

from mlffx.compose import composed, plain
from mlffx.data.dataset import load_dataset
from mlffx.data.twin import twin_potentials
from mlffx.lattice import Phonons, autodiff, conventional_matrix, labelled_frequencies, phonopy_api
from mlffx.lattice.force_constants import finish
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("time_to_phonons_mace.py")
GOAL, DISTANCE, SUPERCELL = 10.0, 0.01, 2  # cm-1, A, conventional cells along each axis
POINTS = ("GAMMA", "X")
OURS = {
    "force constants, one posterior": ["model=force_constants", "ensemble=1", "prior=none"],
    "readout of force constants and four PaiNN": [],
}
Named = dict[str, dict[str, float]]


def error(found: Named, truth: Named) -> float:
    """Mean absolute error over the branches at GAMMA and X, cm-1."""
    return float(np.mean([abs(found[q].get(b, 0.0) - truth[q][b]) for q in POINTS for b in truth[q]]))


def ours(name: str, out: Path, threads: int) -> tuple[float, float, float]:
    """Seconds of train.py and of evaluate.py, start of the interpreter included, and the error of the result, cm-1."""
    run = out / name.split(",")[0].replace(" ", "_")
    here = [f"run_dir={run}", f"cache_dir={out / 'bases'}", "wandb.mode=disabled", "trainer.progress=false"]
    limits, seconds = os.environ | {"OMP_NUM_THREADS": str(threads)}, []
    for command in (
        ["train.py", "experiment=twin_delta", *OURS[name], *here],
        ["evaluate.py", f"run={run}", "phonons=quick", "progress=false"],
    ):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, env=limits, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    found = json.loads((run / "evaluation" / "phonons.json").read_text())
    means, truth = (
        {q: {b: v["mean"] for b, v in found[key][q].items()} for q in POINTS}
        for key in ("frequencies_cm1", "exact_cm1")
    )
    return seconds[0], seconds[1], error(means, truth)


def by_hand(out: Path, arguments: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Snapshots of the mace-torch script: seconds of training, error of its low and of its high level, cm-1."""
    config = plain(composed("train", ["experiment=twin_delta", "potential=direct", "level=low"]))
    task = prepare(TrainSettings.read(config))
    data, train = load_dataset(config["data"]), task.split.train
    crystal = data.crystal
    assert crystal is not None
    of = phonopy_api.geometry(crystal, conventional_matrix(crystal, SUPERCELL))
    displaced = phonopy_api.displaced_supercells(of, DISTANCE)
    labels = {
        "cell": data.atoms[0].cell.array,
        "positions": np.array([data.atoms[i].positions for i in train]),
        "low": data.energies["low"][train],
        "forces": np.array([data.forces["low"][i] for i in train]),
        "high": data.energies["high"][train],
        "displaced_cell": of.supercell.cell.array,
        "displaced": np.array([atoms.positions for atoms in displaced]),
    }
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "labels.npz", **labels)
    python, limits = (
        environment("mace-torch", arguments.cache),
        os.environ | {"OMP_NUM_THREADS": str(arguments.threads)},
    )
    command = [python, "-W", "ignore", WORKER, out / "labels.npz", out / "mace.npz", str(arguments.limit)]
    subprocess.run([*command, str(arguments.threads)], check=True, env=limits)
    matrix = conventional_matrix(crystal, SUPERCELL)
    truth = {
        level: labelled_frequencies(Phonons(autodiff(potential, crystal, matrix)))
        for level, potential in twin_potentials(config["data"]).items()
    }

    def frequencies(forces: np.ndarray) -> Named:
        constants = finish(of, phonopy_api.solve(of, DISTANCE, forces), crystal, "by hand", symmetrise=True)
        return labelled_frequencies(Phonons(constants))

    saved = np.load(out / "mace.npz")
    return [
        (float(seconds), error(frequencies(low), truth["low"]), error(frequencies(high), truth["high"]))
        for seconds, low, high in zip(saved["seconds"], saved["low"], saved["high"], strict=True)
    ]


def reached(rows: list[tuple[float, float, float]]) -> float | None:
    """Seconds after which the error of the high level stays below the goal."""
    settled = None
    for seconds, _, high in rows:
        settled = None if high >= GOAL else seconds if settled is None else settled
    return settled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of training given to the script by hand")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "mlffx" / "peers")
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_phonons"))
    arguments = parser.parse_args()
    out = arguments.out.resolve() / time.strftime("%Y%m%d-%H%M%S")
    print("| way | train, s | phonons and error bars, s | error at GAMMA and X, cm-1 |\n|---|---|---|---|")
    for name in OURS:
        training, evaluation, off = ours(name, out, arguments.threads)
        print(f"| {name} | {training:.0f} | {evaluation:.0f} | {off:.1f} |", flush=True)
    rows = by_hand(out, arguments)
    print(f"| mace-torch by hand, two networks, no error bars | {rows[-1][0]:.0f} | - | {rows[-1][2]:.1f} |")
    after = reached(rows)
    print(
        f"\nmace-torch below {GOAL:g} cm-1 to stay: " + ("not within the limit" if after is None else f"{after:.0f} s")
    )
    print("\n| mace-torch, s | low level, cm-1 | high level, cm-1 |\n|---|---|---|")
    for seconds, low, high in rows:
        print(f"| {seconds:.0f} | {low:.1f} | {high:.1f} |")


if __name__ == "__main__":
    main()
