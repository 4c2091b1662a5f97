"""Charge-aware against short-range force constants on the paper's LiH, at equal cutoff and from the same labels.

    python benchmarks/lih_range.py [--root DIR] [--out FILE.json]

Both are fitted to DFT energies and forces. Printed: held-out errors, the size of the force constants against distance,
and how far frequencies at Gamma, X and L move between the supercell of the labels (2x2x2) and a larger one (3x3x3).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from mlffx.compose import composed, plain
from mlffx.errors import UserError
from mlffx.lattice import ForceConstants, Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.training.run_directory import RunDirectory, load_members
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare
from mlffx.training.train import train

KINDS: dict[str, list[str]] = {
    "charge-aware": [],
    "short-range": ["potential=direct", "electrostatics=none", "~electrostatics.charges", "~electrostatics.fit"],
}


def main() -> None:
    """Fit both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="local copy of the paper's data")
    parser.add_argument("--out", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    root = [f"data.root={options.root}"] if options.root else []
    try:
        found = {kind: measure([*root, *more]) for kind, more in KINDS.items()}
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    for kind, result in found.items():
        print(f"\n{kind}: held-out {result['errors']}")
        print("  |Phi| by distance (A: eV/A^2): " + "  ".join(f"{r}: {v:.4f}" for r, v in result["decay"].items()))
        for label, branches in result["frequencies"]["2x2x2"].items():
            other = result["frequencies"]["3x3x3"][label]
            print(f"  {label:6}" + "  ".join(f"{b} {f:.0f} -> {other.get(b, np.nan):.0f}" for b, f in branches.items()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


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
    """Root mean square norm of the force-constant matrices of each shell of neighbours."""
    supercell = constants.supercell()
    shells: dict[str, list[float]] = {}
    for i, row in enumerate(constants.rows):
        distances = supercell.get_distances(row, np.arange(len(supercell)), mic=True)
        for j in np.flatnonzero(distances > 0.1):
            shells.setdefault(f"{distances[j]:.2f}", []).append(float(np.linalg.norm(constants.values[i, j])))
    ordered = sorted(shells, key=float)
    return {r: float(np.sqrt(np.mean(np.square(shells[r])))) for r in ordered if float(r) < 6.1}


if __name__ == "__main__":
    main()
