"""Each rung of a ladder beside the noise of its labels: what there is to learn, and whether noise was learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.data.noise import estimate_noise
from mlffx.potentials.base import Potential
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, predictions

BELOW = 0.9  # of the floor, which is itself known to some 10 %: a training error below this is no accident
MOST = 400  # training structures whose error is looked at
FITS_NOISE = "fewer parameters, a stronger ridge or weight decay, or fewer epochs; or more labels"


@dataclass(frozen=True)
class Rung:
    """One step of a ladder; energies per atom, root mean square about their mean, of the difference that was learned.

    Attributes:
        level, low: the step; low None where the level itself is learned.
        label_noise_meV_per_atom: floor of `mlffx.data.noise`, or what a twin was given; None where unknown.
        train_rmse_meV_per_atom: of the fitted structures, corrected for the parameters that least squares spent.
        test_rmse_meV_per_atom: of the held-out ones; None without any.
    """

    level: str
    low: str | None
    label_noise_meV_per_atom: float | None
    train_rmse_meV_per_atom: float
    test_rmse_meV_per_atom: float | None

    @property
    def name(self) -> str:
        return self.level if self.low is None else f"{self.level} - {self.low}"

    @property
    def fits_noise(self) -> bool:
        """Whether the training error is below the noise of the labels."""
        noise = self.label_noise_meV_per_atom
        return bool(noise) and self.train_rmse_meV_per_atom < BELOW * float(noise or 0)

    @property
    def statement(self) -> str:
        """The numbers in one line."""
        noise = self.label_noise_meV_per_atom
        line = f"{self.name}: training error {self.train_rmse_meV_per_atom:.3f}"
        if self.test_rmse_meV_per_atom is not None:
            line += f", held out {self.test_rmse_meV_per_atom:.3f}"
        return f"{line}, label noise {'unknown' if noise is None else f'{noise:.3f}'} meV/atom"


def rungs_of(
    settings: TrainSettings,
    task: Task,
    members: Sequence[RunDirectory],
    potentials: Sequence[Potential],
    base_run: Path | None,
) -> list[Rung]:
    """The rungs below, from the base's metrics.json, and the one of this run last.

    Args:
        settings, task: of this run.
        members: their directories, and `potentials` what they hold.
        base_run: directory of the base; None without one.
    """
    errors = [_errors(p, task, d) for p, d in zip(potentials, members, strict=True)]
    train, test = (np.array([e[k] for e in errors]) for k in (0, 1))
    here = Rung(
        settings.level.name,
        task.low,
        label_noise(settings, task),
        round(float(train.mean()), 5),
        None if np.isnan(test).any() else round(float(test.mean()), 5),
    )
    return [*read_rungs(base_run), here]


def read_rungs(run: Path | None) -> list[Rung]:
    """Rungs in the metrics.json of a run; none where there is no such file, or an older one."""
    path = None if run is None else run / "metrics.json"
    if path is None or not path.is_file():
        return []
    return [Rung(**values) for values in json.loads(path.read_text()).get("rungs", [])]


def as_metrics(rungs: Sequence[Rung]) -> dict[str, Any]:
    """For metrics.json: all rungs, and noise and training error of the last one by themselves."""
    last = rungs[-1]
    return {
        "label_noise_meV_per_atom": last.label_noise_meV_per_atom,
        "train_energy_rmse_meV_per_atom": last.train_rmse_meV_per_atom,
        "fits_noise": last.fits_noise,
        "rungs": [asdict(rung) for rung in rungs],
    }


def label_noise(settings: TrainSettings, task: Task) -> float | None:
    """Noise of the targets, meV/atom: of a twin what it was given, else the floor of an estimate from the labels."""
    per_atom = 1e3 / float(task.dataset.n_atoms.mean())
    levels = [name for name in (settings.level.name, task.low) if name is not None]
    if settings.data.get("kind") == "twin":
        given, rounding = (dict(settings.data.get(key) or {}) for key in ("noise", "rounding"))
        parts = [float(given.get(k, 0)) for k in levels] + [float(rounding.get(k, 0)) / 12**0.5 for k in levels]
        return round(per_atom * float(np.linalg.norm(parts)), 5)
    found = estimate_noise(task.dataset, settings.level.name, task.low)
    return None if found is None else round(per_atom * found.floor, 5)


def _errors(potential: Potential, task: Task, directory: RunDirectory) -> tuple[float, float]:
    """Errors of what was learned on training and test frames, meV/atom; NaN without test frames."""
    found = []
    train = task.split.train
    for frames in (train[:: -(-len(train) // MOST)], task.split.test):
        if not len(frames):
            found.append(float("nan"))
            continue
        out = predictions(potential, task, frames, forces=False)
        learned = out["parts"]["delta"] if task.low is not None else out["energies"]
        found.append(float(np.std(1e3 * (learned - task.energies[frames]) / task.dataset.n_atoms[frames])))
    fit = directory.path / "fit.json"
    if fit.is_file():
        spent = float(json.loads(fit.read_text()).get("effective_parameters", 0.0)) / len(task.split.train)
        found[0] /= max(1 - spent, 0.1) ** 0.5
    return found[0], found[1]
