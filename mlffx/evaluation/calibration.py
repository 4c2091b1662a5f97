"""Whether error bars hold what they promise: many repetitions on an analytic twin, whose true phonons are known.

`python -m mlffx.evaluation.calibration RUN_DIR --repetitions 20` repeats the fit of a twin's run with other structures,
label noise and seeds, and counts how often the truth lies within the error bars.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.control_context import fit_one
from mlffx.evaluation.harmonic import PhononSettings, force_constants, spectra
from mlffx.evaluation.members import Members, base_of, gather
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Calibration, calibrate, z_scores
from mlffx.training.run_directory import RunDirectory, write_atomically
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare

QUICK = PhononSettings(supercell=2, mesh=3, points_per_segment=5, cross_check=False)


@dataclass(frozen=True)
class Study:
    """Outcome of the repetitions.

    Attributes:
        modes: names, [n_modes].
        frequencies, sigmas: [n_repetitions, n_modes], cm-1.
        truth: [n_modes], cm-1.
    """

    modes: list[str]
    frequencies: np.ndarray
    sigmas: np.ndarray
    truth: np.ndarray

    @property
    def overall(self) -> Calibration:
        """All modes and repetitions together; modes of one repetition are not independent, so its ranges are narrow."""
        return calibrate(z_scores(self.frequencies, self.sigmas, self.truth))

    def of_mode(self, k: int) -> Calibration:
        return calibrate(z_scores(self.frequencies[:, k], self.sigmas[:, k], self.truth[k]))


def study(run: Path | str, repetitions: int = 20, noise: float | None = None, samples: int = 16) -> Study:
    """Repeat the fit of a twin's run with other structures, noise and seeds.

    Args:
        run: a delta or direct run on a twin; its base is kept (exact for force constants, its own for a readout).
        repetitions: fits.
        noise: of the labels of the level, eV per cell; None keeps that of the run's data.
        samples: posterior draws a fit.
    """
    directory = RunDirectory(run)
    settings = TrainSettings.read(directory.read_config())
    if settings.data.get("kind") != "twin":
        raise UserError("only a twin's true phonons are known", "take a run on data=diamond_twin", run)
    level = settings.level.name
    exact = twin_potentials(settings.data)
    task = prepare(settings)
    assert task.dataset.crystal is not None
    track = Tracker()
    linear = settings.model["name"] == "force_constants"
    base = None if task.low is None else exact[task.low] if linear else base_of(gather(directory.path).fitted[0])

    def phonons(members: Members) -> Spectra:
        found = force_constants(members, task.dataset.crystal, QUICK, Tracker(False))  # type: ignore[arg-type]
        return spectra("study", found, QUICK, Tracker(False), density_of_states=False)

    truth = phonons(Members([exact[level]], "single"))
    modes = [(label, b) for label in ("GAMMA", "X", "L") for b in truth.points[label].branches]
    rows, bars = [], []
    for r in track(range(repetitions), "repetitions"):
        changed = {"sampling_seed": 1000 + r} | ({} if noise is None else {"noise": {level: noise}})
        again = replace(settings, data=settings.data | changed, seed=1000 + r, ensemble=1, resample="none")
        with tempfile.TemporaryDirectory() as folder:
            fit_one(again, prepare(again), RunDirectory(folder), base)
            found = phonons(gather(Path(folder), samples))
        estimates = [_mode(found, truth, label, branch) for label, branch in modes]
        rows.append([e[0] for e in estimates])
        bars.append([e[1] for e in estimates])
    exact_values = [truth.points[p].frequencies[0, truth.points[p].branches.index(b)] for p, b in modes]
    return Study([f"{p} {b}" for p, b in modes], np.array(rows), np.array(bars), np.array(exact_values))


def _mode(found: Spectra, truth: Spectra, label: str, branch: str) -> tuple[float, float]:
    """Mean and sigma of a mode; by rank where the fit names the branches otherwise."""
    point = found.points[label]
    estimate = point.estimate()
    names = point.branches if branch in point.branches else truth.points[label].branches
    k = min(names.index(branch), len(point.branches) - 1)
    return float(estimate.mean[k]), float(estimate.sigma[k])


def table(result: Study) -> Table:
    """Per mode: truth, mean error, scatter of the repetitions, mean sigma, coverage."""
    out = Table(title="coverage of the error bars on the twin", title_justify="left")
    for head in ("mode", "truth", "bias", "scatter", "sigma", "in 68 %", "in 90 %", "rms z", "factor"):
        out.add_column(head, justify="left" if head == "mode" else "right")
    for k, name in enumerate(result.modes):
        error = result.frequencies[:, k] - result.truth[k]
        numbers = [f"{result.truth[k]:.1f}", f"{error.mean():+.1f}", f"{error.std(ddof=1):.1f}"]
        numbers.append(f"{np.nanmean(result.sigmas[:, k]):.1f}")
        out.add_row(name, *numbers, *_cells(result.of_mode(k)))
    out.add_section()
    out.add_row("all", "", "", "", "", *_cells(result.overall))
    return out


def _cells(c: Calibration) -> list[str]:
    return [*[f"{100 * share:.0f} %" for share in c.coverage.values()], f"{c.rms_z:.2f}", f"{c.factor:.2f}"]


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mlffx.evaluation.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="directory of a run on a twin")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--noise", type=float, help="eV per cell, of the labels of the level")
    parser.add_argument("--samples", type=int, default=16, help="posterior draws a fit")
    options = parser.parse_args(arguments)
    result = study(options.run, options.repetitions, options.noise, options.samples)
    path = Path(options.run) / "evaluation" / "calibration.json"
    path.parent.mkdir(exist_ok=True)
    content = {"modes": result.modes, "truth_cm1": result.truth.tolist(), "noise_eV_per_cell": options.noise}
    content |= {"frequencies_cm1": result.frequencies.tolist(), "sigmas_cm1": result.sigmas.tolist()}
    write_atomically(path, json.dumps(content | {"overall": asdict(result.overall)}, indent=1))
    console = Console()
    console.print(table(result))
    console.print(f"written: {path}", highlight=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
