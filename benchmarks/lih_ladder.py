"""CCSD(T) - DFT of the paper's LiH in two steps, over MP2, or in one: scatter over splits, and held-out errors.

    python benchmarks/lih_ladder.py [--splits 6] [--root DIR] [--out FILE.json]

Force constants and charges as in experiment=lih_ladder and lih_delta, on one and the same DFT base. Every split leaves
out 20 structures to validate and 20 others to test; the scatter is that of the fits, no error bar. Then, for the step
CCSD(T) - MP2 alone and all structures: leave-one-out error and TO against the ridge.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlffx.command_line import AGAIN, run_checked
from mlffx.compose import composed, plain
from mlffx.data.splits import split
from mlffx.lattice import Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.potentials.base import Potential
from mlffx.potentials.charge_aware import with_charges
from mlffx.potentials.linear_fit import energy_design, fit_linear
from mlffx.potentials.sum import SumPotential
from mlffx.training.closed_form import fit_with_charges, linear_model
from mlffx.training.label_noise import label_noise
from mlffx.training.settings import TrainSettings
from mlffx.training.task import predictions, prepare

RIDGES = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0)
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


def ridges(more: list[str], draws: int = 12) -> list[dict[str, float]]:
    """The step CCSD(T) - MP2 with every strength of regularisation: parameters, leave-one-out error, shift of TO."""
    step = Step("ccsdt", "mp2", more)
    base, _ = Step("dft", None, more).fit(step.task.split.train)
    task, settings = step.task, step.settings
    frames = np.flatnonzero(np.isfinite(task.energies))
    model = linear_model(task, settings.model)
    potential = with_charges(model, settings.electrostatics, task.dataset.species)
    design = energy_design(model.model.describe, task.graphs(potential.cutoff, frames))
    coulomb = predictions(potential, task, frames, forces=False)["parts"]["electrostatic"]
    crystal = task.dataset.crystal
    assert crystal is not None
    supercell = conventional_matrix(crystal, 2)

    def to(delta: Potential) -> float:
        whole = SumPotential({"base": base, "delta": delta})
        return _mode(labelled_frequencies(Phonons(autodiff(whole, crystal, supercell))), "GAMMA", "TO")

    found, n = [], design.shape[1]
    for ridge in RIDGES:
        fit = fit_linear(
            np.column_stack([design, coulomb]),
            task.energies[frames],
            task.dataset.n_atoms[frames],
            robust=False,
            ridge=ridge,
        )
        model.model.set_coefficients(fit.coefficients[:n], np.zeros((n, n)))  # type: ignore[operator]
        potential.strength.fill_(float(fit.coefficients[n]))
        potential.spread[: n + 1, : n + 1] = torch.as_tensor(fit.spread)
        drawn = [to(sample) for sample in potential.posterior_samples(draws, 0)]
        error = 1e3 * fit.leave_one_out / task.dataset.n_atoms[frames]
        found.append(
            {
                "ridge": ridge,
                "parameters": fit.degrees_of_freedom,
                "leave_one_out_meV_per_atom": float(np.sqrt(np.mean(error**2))),
                "to_cm1": to(potential),
                "sigma_cm1": float(np.std(drawn, ddof=1)),
            }
        )
    return found


def _mode(named: dict[str, dict[str, float]], label: str, branch: str) -> float:
    """Without a non-analytical term the optical modes at GAMMA are one triplet."""
    branches = named[label]
    return branches.get(branch, branches.get("LTO", float("nan")))


def main() -> None:
    """Fit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--root", help="local copy of the paper's data")
    parser.add_argument("--out", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    more = [f"data.root={options.root}"] if options.root else []
    found = measure(options.splits, more)
    found["ridges"] = ridges(more)
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
    print("\nCCSD(T) - MP2 on DFT: ridge, effective parameters, leave-one-out error (meV/atom), TO(GAMMA) (cm-1)")
    for row in found["ridges"]:
        print(
            f"{row['ridge']:8.0e} {row['parameters']:6.1f} {row['leave_one_out_meV_per_atom']:8.4f} "
            f"{row['to_cm1']:8.1f} +- {row['sigma_cm1']:.1f}"
        )
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    run_checked(main, AGAIN)
