"""CCSD(T) - DFT of the paper's LiH in two steps, over MP2, or in one: scatter over splits, and held-out errors.

    python benchmarks/lih_ladder.py [--splits 8] [--root DIR] [--out FILE.json]

Force constants and charges as in experiment=lih_ladder and lih_delta, on one and the same DFT base. Every split leaves
out 20 structures to validate and 20 others to test; the scatter is that of the fits, no error bar.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.compose import composed, plain
from mlffx.data.splits import split
from mlffx.errors import UserError
from mlffx.lattice import Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.potentials.base import Potential
from mlffx.potentials.sum import SumPotential
from mlffx.training.closed_form import fit_with_charges
from mlffx.training.label_noise import label_noise
from mlffx.training.settings import TrainSettings
from mlffx.training.task import predictions, prepare

STEPS = {"two steps": (("mp2", "dft"), ("ccsdt", "mp2")), "one step": (("ccsdt", "dft"),)}
MODES = [("GAMMA", "TO"), *((q, b) for q in ("X", "L") for b in ("TA", "LA", "TO", "LO"))]


class Step:
    """One difference of levels, fitted to any frames."""

    def __init__(self, level: str, low: str | None, more: list[str]) -> None:
        kind = ["experiment=lih_direct"] if low is None else ["experiment=lih_delta", f"potential.low={low}"]
        config = plain(composed("train", [*kind, f"level={level}", "logger=csv", *more]))
        self.settings = TrainSettings.read(config)
        self.task = prepare(self.settings)
        self.noise = label_noise(self.settings, self.task)

    def fit(self, frames: np.ndarray) -> tuple[Potential, float]:
        """The potential, and its effective number of parameters."""
        potential, fit = fit_with_charges(self.settings, self.task, frames, self.settings.model)
        return potential, fit.degrees_of_freedom

    def energies(self, potential: Potential, frames: np.ndarray) -> np.ndarray:
        return predictions(potential, self.task, frames, forces=False)["energies"]


def measure(splits: int, more: list[str]) -> dict[str, Any]:
    """Frequencies [n_splits, n_modes], held-out errors and parameters of both ways."""
    base_step = Step("dft", None, more)
    base, _ = base_step.fit(base_step.task.split.train)
    steps = {pair: Step(*pair, more) for pair in dict.fromkeys(p for pairs in STEPS.values() for p in pairs)}
    data = base_step.task.dataset
    crystal = data.crystal
    assert crystal is not None
    supercell = conventional_matrix(crystal, 2)
    difference = data.difference("ccsdt", "dft")
    found: dict[str, Any] = {way: {"cm1": [], "held_out": [], "parameters": []} for way in STEPS}
    for seed in range(splits):
        parts = split(data.amplitudes(), np.flatnonzero(np.isfinite(difference)), None, 20, 20, seed)
        fits = {pair: step.fit(parts.train) for pair, step in steps.items()}
        for way, pairs in STEPS.items():
            whole = SumPotential({"base": base} | {"-".join(pair): fits[pair][0] for pair in pairs})
            named = labelled_frequencies(Phonons(autodiff(whole, crystal, supercell)))
            predicted = sum(steps[pair].energies(fits[pair][0], parts.test) for pair in pairs)
            error = 1e3 * (predicted - difference[parts.test]) / data.n_atoms[parts.test]
            found[way]["cm1"].append([_mode(named, *mode) for mode in MODES])
            found[way]["held_out"].append(float(np.std(error)))
            found[way]["parameters"].append([fits[pair][1] for pair in pairs])
    return found | {"label noise": {f"{a} - {b}": step.noise for (a, b), step in steps.items()}}


def _mode(named: dict[str, dict[str, float]], label: str, branch: str) -> float:
    """Without a non-analytical term the optical modes at GAMMA are one triplet."""
    branches = named[label]
    return branches.get(branch, branches.get("LTO", float("nan")))


def main() -> None:
    """Fit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--root", help="local copy of the paper's data")
    parser.add_argument("--out", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    try:
        found = measure(options.splits, [f"data.root={options.root}"] if options.root else [])
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"label noise, meV/atom: {found['label noise']}")
    print(
        f"cm-1, mean +- scatter over {options.splits} splits\n{'':10}" + "".join(f"{a} {b}".rjust(12) for a, b in MODES)
    )
    for way in STEPS:
        values = np.array(found[way]["cm1"])
        cells = [f"{m:.0f} +- {s:.1f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        used = np.mean(found[way]["parameters"], axis=0).round(1).tolist()
        print(f"{way:10}" + "".join(c.rjust(12) for c in cells))
        print(f"{'':10}held out {np.mean(found[way]['held_out']):.3f} meV/atom; effective parameters {used}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
