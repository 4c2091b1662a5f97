"""Charge-aware against short-range force constants on the paper's LiH, at equal cutoff and from the same labels.

    python benchmarks/lih_range.py [--root DIR] [--out FILE.json] [--figure STEM]

Both are fitted to DFT energies and forces. Printed: held-out errors, the size of the force constants against distance,
and how far frequencies at Gamma, X and L move between the supercell of the labels (2x2x2) and a larger one (3x3x3).
`--figure` draws the force constants against distance, as STEM.pdf and STEM.png.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from mlffx.command_line import AGAIN, run_checked
from mlffx.compose import composed, plain
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.decay import force_constant_decay
from mlffx.lattice import ForceConstants, Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.lattice.decay import shell_norms
from mlffx.training.run_directory import RunDirectory, load_members
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare
from mlffx.training.train import train

CUTOFF = 4.1  # A, of the force constants of experiment=lih_direct
KINDS: dict[str, list[str]] = {
    "charge-aware": [],
    "short-range": ["potential=direct", "electrostatics=none", "~electrostatics.charges", "~electrostatics.fit"],
}


def main() -> None:
    """Fit both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="local copy of the paper's data")
    parser.add_argument("--out", type=Path, help="where to write the numbers")
    parser.add_argument("--figure", type=Path, help="where to draw, without ending")
    options = parser.parse_args()
    root = [f"data.root={options.root}"] if options.root else []
    found = {kind: measure([*root, *more]) for kind, more in KINDS.items()}
    for kind, result in found.items():
        print(f"\n{kind}: held-out {result['errors']}")
        print("  |Phi| by distance (A: eV/A^2): " + "  ".join(f"{r}: {v:.4f}" for r, v in result["decay"].items()))
        for label, branches in result["frequencies"]["2x2x2"].items():
            other = result["frequencies"]["3x3x3"][label]
            print(f"  {label:6}" + "  ".join(f"{b} {f:.0f} -> {other.get(b, np.nan):.0f}" for b, f in branches.items()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    if options.figure:
        curves = {
            k: (np.array([float(r) for r in f["decay"]]), np.array([*f["decay"].values()])) for k, f in found.items()
        }
        style.save(force_constant_decay(curves, CUTOFF), options.figure)


def measure(overrides: list[str]) -> dict:
    """Fit one kind and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        config = plain(composed("train", ["experiment=lih_direct", *overrides, f"run_dir={folder}/run", "logger=csv"]))
        run = train(config)
        metrics = RunDirectory(run).read_metrics()
        (potential,) = load_members(run)
        crystal = prepare(TrainSettings.read(config)).dataset.crystal
    assert crystal is not None
    constants = {f"{n}x{n}x{n}": autodiff(potential, crystal, conventional_matrix(crystal, n)) for n in (2, 3)}
    names = ("test_energy_rmse_meV_per_atom", "test_forces_rmse_meV_per_A")
    return {
        "errors": {name: round(metrics[name], 3) for name in names},
        "decay": decay(constants["3x3x3"]),
        "frequencies": {name: labelled_frequencies(Phonons(fc)) for name, fc in constants.items()},
    }


def decay(constants: ForceConstants) -> dict[str, float]:
    """Root mean square norm of the force-constant matrices of each shell of neighbours, by distance."""
    return {f"{r:.2f}": float(norm) for r, norm in zip(*shell_norms(constants), strict=True)}


if __name__ == "__main__":
    run_checked(main, AGAIN)
