"""What every control of a run works with: its fits on changed labels or settings, and their spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.evaluation.harmonic import PhononSettings, force_constants, recalibrated, spectra
from mlffx.evaluation.members import Members, base_of, gather
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Estimate, over_members
from mlffx.lattice.nac import Nac
from mlffx.potentials.base import Potential
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task


@dataclass(frozen=True)
class Context:
    """What every control works with.

    Attributes:
        run: directory.
        settings, task: of its training.
        members: of the run.
        model: spectra of the run.
        crystal, phonons: how phonons are computed.
        track: progress bars.
        sigma_scale: of every sigma, as in the evaluation itself.
        settle: labels of the settling test; None takes those of the data set.
        nac: non-analytical term of the evaluation, where there is one.
    """

    run: RunDirectory
    settings: TrainSettings
    task: Task
    members: Members
    model: Spectra
    crystal: Crystal
    phonons: PhononSettings
    track: Tracker
    sigma_scale: float = 1.0
    settle: Path | None = None
    nac: Nac | None = None

    @property
    def directory(self) -> Path:
        return self.run.path / "evaluation" / "controls"

    @property
    def base(self) -> Potential | None:
        """Low level under the fits of the controls: that of the first member."""
        return base_of(self.members.fitted[0])

    def spectra(self, potentials: Members, name: str) -> Spectra:
        found = recalibrated(force_constants(potentials, self.crystal, self.phonons, self.track), self.sigma_scale)
        return spectra(name, found, self.phonons, self.track, self.nac, density_of_states=False)

    def fit(self, settings: TrainSettings, task: Task, name: str, base: Potential | None) -> Members:
        """Fit `settings` on `task` into `controls/name`, or take what is there; a single member, or draws about it."""
        directory = RunDirectory(self.directory / name)
        if directory.status() != "finished":
            fit_one(replace(settings, ensemble=1, resample="none"), task, directory, base)
        return gather(directory.path, n_samples=8)


def fit_one(settings: TrainSettings, task: Task, directory: RunDirectory, base: Potential | None) -> None:
    """One member by whatever way the settings name, without logging to anywhere."""
    from mlffx.training.closed_form import fit_in_closed_form, is_closed_form
    from mlffx.training.gradient import fit_by_gradient

    directory.path.mkdir(parents=True, exist_ok=True)
    if is_closed_form(settings):
        fit_in_closed_form(settings, task, 0, directory, base)
    else:
        fit_by_gradient(settings, task, 0, directory, base)
    directory.set_status("finished")


def watched(model: Spectra) -> tuple[str, str]:
    """Label and branch of the mode the controls watch: the highest at GAMMA."""
    label = "GAMMA" if "GAMMA" in model.points else next(iter(model.points))
    point = model.points[label]
    return label, point.branches[int(point.estimate().mean.argmax())]


def values(model: Spectra, label: str, branch: str) -> np.ndarray:
    """Frequencies of a mode over the members, cm-1; by rank where its name is not there."""
    point = model.points[label]
    index = point.branches.index(branch) if branch in point.branches else int(point.frequencies.mean(axis=0).argmax())
    return point.frequencies[:, index]


def together(estimates: Sequence[Estimate]) -> Estimate:
    """Estimates of single modes as one of all, [n]."""
    mean, sigma = np.array([float(e.mean) for e in estimates]), np.array([float(e.sigma) for e in estimates])
    return Estimate(mean, sigma, estimates[0].n_members)


def modes(model: Spectra, labels: Sequence[str] = ("GAMMA", "X")) -> list[tuple[str, str]]:
    """Label and branch of every mode at the labelled points."""
    return [(p, b) for p in labels if p in model.points for b in model.points[p].branches]


def estimates(model: Spectra, wanted: Sequence[tuple[str, str]]) -> Estimate:
    """Mean and sigma of the modes, [n], cm-1."""
    return together([over_members(values(model, *mode)) for mode in wanted])
