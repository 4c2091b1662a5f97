"""Whether error bars hold what they promise: many repetitions on an analytic twin, whose true phonons are known.

`python -m mlffx.evaluation.calibration RUN_A RUN_B --repetitions 20` repeats the fits of runs on twins with other
structures, label noise and seeds, and counts how often the truth lies within the error bars. The factor that makes
those of the first honest is tried on the others. Interrupted, it goes on where it was.
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

from mlffx.command_line import AGAIN, run_checked
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.control_context import fit_one
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.coverage import coverage
from mlffx.evaluation.harmonic import PhononSettings, force_constants, spectra
from mlffx.evaluation.members import Members, base_of, fingerprint, gather
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Calibration, calibrate, z_scores
from mlffx.potentials.base import Potential
from mlffx.training.closed_form import is_closed_form, is_linear
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
        return calibrate(self.z)

    @property
    def z(self) -> np.ndarray:
        """(value - truth) / sigma of every mode and repetition, [n]."""
        return z_scores(self.frequencies, self.sigmas, self.truth)

    def scaled(self, factor: float) -> Study:
        """The same with every sigma multiplied."""
        return replace(self, sigmas=factor * self.sigmas)

    def of_mode(self, k: int) -> Calibration:
        return calibrate(z_scores(self.frequencies[:, k], self.sigmas[:, k], self.truth[k]))


def study(
    run: Path | str, repetitions: int = 20, noise: float | None = None, samples: int = 16, store: Path | None = None
) -> Study:
    """Repeat the fit of a twin's run with other structures, noise and seeds.

    Args:
        run: a delta or direct run on a twin, fitted in closed form. Its bases are kept, one a member: exact for force
            constants, its own for a readout.
        repetitions: fits.
        noise: of the labels of the level, eV per cell; None keeps that of the run's data.
        samples: posterior draws a fit.
        store: file for finished repetitions, which are not repeated.

    Raises:
        UserError: for a run that is not on a twin, or whose fits would take hours.
    """
    directory = RunDirectory(run)
    settings = TrainSettings.read(directory.read_config())
    if settings.data.get("kind") != "twin":
        raise UserError("only a twin's true phonons are known", "take a run on data=diamond_twin", run)
    if not is_closed_form(settings):
        raise UserError("each repetition would train a network", "take delta.fit=readout or force constants", run)
    level = settings.level.name
    exact = twin_potentials(settings.data)
    task = prepare(settings)
    assert task.dataset.crystal is not None
    track = Tracker()
    bases: list[Potential | None] = [None if task.low is None else exact[task.low]]
    if not is_linear(settings):
        bases = [base_of(p) for p in gather(directory.path).fitted]

    def phonons(members: Members) -> Spectra:
        found = force_constants(members, task.dataset.crystal, QUICK, Tracker(False))  # type: ignore[arg-type]
        return spectra("study", found, QUICK, Tracker(False), density_of_states=False)

    truth = phonons(Members([exact[level]], "single"))
    modes = [(label, b) for label in ("GAMMA", "X", "L") for b in truth.points[label].branches]
    key = f"{noise} {samples} {' '.join(fingerprint(b)[:8] for b in bases if b is not None)}"
    done = _finished(store, key)[:repetitions]
    for r in track(range(len(done), repetitions), "repetitions"):
        changed = {"sampling_seed": 1000 + r} | ({} if noise is None else {"noise": {level: noise}})
        again = replace(settings, data=settings.data | changed, seed=1000 + r, ensemble=1, resample="none")
        frames = prepare(again)
        with tempfile.TemporaryDirectory() as folder:
            for k, base in enumerate(bases):
                fit_one(again, frames, RunDirectory(folder).members(len(bases))[k], base)
            found = phonons(gather(Path(folder), samples))
        done.append([_mode(found, truth, label, branch) for label, branch in modes])
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(store, json.dumps({"key": key, "repetitions": done}))
    exact_values = [truth.points[p].frequencies[0, truth.points[p].branches.index(b)] for p, b in modes]
    values = np.array(done)
    return Study([f"{p} {b}" for p, b in modes], values[..., 0], values[..., 1], np.array(exact_values))


def _finished(store: Path | None, key: str) -> list[list[tuple[float, float]]]:
    if store is None or not store.is_file():
        return []
    content = json.loads(store.read_text())
    return content["repetitions"] if content["key"] == key else []


def _mode(found: Spectra, truth: Spectra, label: str, branch: str) -> tuple[float, float]:
    """Mean and sigma of a mode; by rank where the fit names the branches otherwise."""
    point = found.points[label]
    estimate = point.estimate()
    names = point.branches if branch in point.branches else truth.points[label].branches
    k = min(names.index(branch), len(point.branches) - 1)
    return float(estimate.mean[k]), float(estimate.sigma[k])


def table(result: Study, title: str = "coverage of the error bars on the twin") -> Table:
    """Per mode: truth, mean error, scatter of the repetitions, mean sigma, coverage."""
    out = Table(title=title, title_justify="left")
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
    parser.add_argument("runs", nargs="+", help="runs on twins: the first gives the factor, the others check it")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--noise", type=float, help="eV per cell, of the labels of the level")
    parser.add_argument("--samples", type=int, default=16, help="posterior draws a fit")
    options = parser.parse_args(arguments)
    console, factor = Console(), 1.0
    scores: dict[str, np.ndarray] = {}
    for k, run in enumerate(options.runs):
        folder = Path(run) / "evaluation"
        store = folder / "calibration_repetitions.json"
        found = study(run, options.repetitions, options.noise, options.samples, store)
        content = {"modes": found.modes, "truth_cm1": found.truth.tolist(), "noise_eV_per_cell": options.noise}
        content |= {"frequencies_cm1": found.frequencies.tolist(), "sigmas_cm1": found.sigmas.tolist()}
        factor = round(found.overall.factor, 1) if k == 0 else factor
        scaled = found.scaled(factor).overall
        content |= {"overall": asdict(found.overall), "factor": factor, "with_factor": asdict(scaled)}
        write_atomically(folder / "calibration.json", json.dumps(content, indent=1))
        console.print(table(found, f"{run}: coverage of the error bars"))
        console.print(f"sigma times {factor:g}: {_said(scaled)}", highlight=False)
        name = Path(run).name
        scores |= {f"{name}, bare": found.z, f"{name}, times {factor:g}": found.scaled(factor).z}
    figure = Path(options.runs[0]) / "evaluation" / "coverage"
    style.save(coverage(scores), figure)
    console.print(f"written: calibration.json of each run, {figure}.pdf, .png", highlight=False)


def _said(c: Calibration) -> str:
    """Observed shares with the range they could have by chance."""
    parts = [
        f"{100 * share:.0f} % ({100 * c.interval[level][0]:.0f} to {100 * c.interval[level][1]:.0f}) in the "
        f"{100 * level:.0f} % bar"
        for level, share in c.coverage.items()
    ]
    return ", ".join(parts)


if __name__ == "__main__":
    run_checked(lambda: main(sys.argv[1:]), AGAIN)
