"""Controls that train or compute something, for one evaluated run; each ends in a verdict (`controls`).

Fits are those of the run itself on changed labels or fewer of them, on the run's own base, into
`RUN_DIR/evaluation/controls/`; what is finished there is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError, nearest
from mlffx.evaluation.controls import Verdict, agreement, force_recovery, shuffled_differences, size_dependence
from mlffx.evaluation.frozen import frozen_phonons
from mlffx.evaluation.harmonic import PhononSettings, force_constants, spectra
from mlffx.evaluation.members import Members, base_of, fingerprint, gather
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Estimate, over_members
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms, in_double
from mlffx.training.run_directory import RunDirectory, write_atomically
from mlffx.training.settings import StartSettings, TrainSettings
from mlffx.training.task import Task, prepare

SHUFFLES = 4
SHARES = (0.25, 0.5, 1.0)  # of the training set, for the dependence on its size


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
    """

    run: RunDirectory
    settings: TrainSettings
    task: Task
    members: Members
    model: Spectra
    crystal: Crystal
    phonons: PhononSettings
    track: Tracker

    @property
    def directory(self) -> Path:
        return self.run.path / "evaluation" / "controls"

    @property
    def base(self) -> Potential | None:
        """Low level under the fits of the controls: that of the first member."""
        return base_of(self.members.fitted[0])

    def spectra(self, potentials: Members, name: str) -> Spectra:
        found = force_constants(potentials, self.crystal, self.phonons, self.track)
        return spectra(name, found, self.phonons, self.track, density_of_states=False)

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
        fit_by_gradient(settings, task, 0, directory, base, None)
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


def shuffled(c: Context) -> Verdict:
    """The run's own fit on differences that were dealt to the wrong structures."""
    if c.base is None or c.task.low is None:
        return Verdict("shuffled", "Shuffled differences shift nothing", "inconclusive", "a direct potential has none")
    mode = watched(c.model)
    low = c.spectra(Members([c.base], "single"), "low")
    shifts = []
    for k in range(SHUFFLES):
        energies = c.task.energies.copy()
        frames = c.task.split.train
        energies[frames] = energies[np.random.default_rng(k).permutation(frames)]
        fitted = c.fit(c.settings, replace(c.task, energies=energies), f"shuffled-{k}", c.base)
        moved = c.spectra(Members(fitted.fitted, "single"), "shuffled")
        shifts.append(float(values(moved, *mode).mean() - values(low, *mode).mean()))
    real = float(values(c.model, *mode).mean() - values(low, *mode).mean())
    return shuffled_differences(over_members(np.array(shifts)), real)


def forces(c: Context) -> Verdict:
    """The run's architecture on the low level's energies alone, judged by the forces it never saw."""
    low = c.task.low or c.settings.level.name
    if low not in c.task.dataset.forces:
        return Verdict("forces", "Energies alone recover the forces", "inconclusive", f"'{low}' has no forces")
    blind = replace(
        c.settings,
        level=replace(c.settings.level, name=low),
        potential=replace(c.settings.potential, kind="direct"),
        loss=replace(c.settings.loss, forces=replace(c.settings.loss.forces, weight=0.0)),
        start=StartSettings(),  # weights of another run have seen forces
    )
    task = prepare(blind)
    potential = c.fit(blind, task, "forces", None).fitted[0]
    frames = task.split.test if len(task.split.test) else task.split.validation
    structures = [task.dataset.atoms[k] for k in frames]
    true = [task.dataset.forces[low][k] for k in frames]
    found = evaluate_atoms(in_double(potential), structures, forces=True).forces
    trained = None
    if c.base is not None:
        with_forces = evaluate_atoms(in_double(c.base), structures, forces=True).forces
        trained = float(np.mean([np.abs(a - b).mean() for a, b in zip(with_forces or [], true, strict=True)]))
    return force_recovery(found or [], true, trained)


def linear(c: Context) -> Verdict:
    """The same labels by symmetry-adapted force constants, on the same base."""
    title = "The linear fit and the network agree"
    if c.settings.model["name"] == "force_constants":
        return Verdict("linear", title, "inconclusive", "this run is the linear fit: compare it with a network")
    settings = replace(c.settings, model={"name": "force_constants"}, electrostatics={"name": "none"})
    other = c.spectra(c.fit(settings, c.task, "linear", c.base), "linear fit")
    modes = [(p, b) for p in ("GAMMA", "X") if p in c.model.points for b in c.model.points[p].branches]
    ours = _together([over_members(values(c.model, *mode)) for mode in modes])
    theirs = _together([over_members(values(other, *mode)) for mode in modes])
    return replace(agreement("The linear fit", theirs, "the network", ours), name="linear", title=title)


def size(c: Context) -> Verdict:
    """The same fit on fewer labels; smaller training sets are contained in larger ones."""
    mode, all_frames = watched(c.model), c.task.split.train
    sizes, estimates = [], []
    for share in SHARES:
        n = max(5, round(share * len(all_frames)))
        settings = replace(c.settings, data=c.settings.data | {"train_size": n})
        fitted = c.fit(settings, prepare(settings), f"size-{n}", c.base)
        sizes.append(n)
        estimates.append(over_members(values(c.spectra(fitted, str(n)), *mode)))
    run = over_members(values(c.model, *mode))  # where single fits have no sigma, that of the run stands in
    known = [Estimate(e.mean, e.sigma if np.isfinite(e.sigma) else run.sigma, e.n_members) for e in estimates]
    return size_dependence(sizes, known)


def frozen(c: Context) -> Verdict:
    """Energies along the optical eigenvectors at GAMMA against the force constants."""
    return frozen_phonons(c.members.fitted[0], c.crystal, c.phonons, c.directory)


CONTROLS: dict[str, Callable[[Context], Verdict]] = {
    "shuffled": shuffled,
    "forces": forces,
    "linear": linear,
    "size": size,
    "frozen": frozen,
}


def chosen(names: str | Sequence[str]) -> list[str]:
    """Names from the command line: `none`, `all`, one, or a list.

    Raises:
        UserError: for an unknown control.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted in (["none"], []):
        return []
    if wanted == ["all"]:
        return list(CONTROLS)
    for name in wanted:
        if name not in CONTROLS:
            raise UserError(f"unknown control '{name}'", nearest(name, [*CONTROLS, "all", "none"]), "controls")
    return wanted


def run_controls(names: Sequence[str], context: Context) -> list[Verdict]:
    """Verdicts of the named controls; those found in `controls/` for the same checkpoints are not repeated."""
    key = "".join(fingerprint(p)[:8] for p in context.members.fitted)
    verdicts = []
    for name in names:
        path = context.directory / f"{name}.json"
        verdict = _stored(path, key)
        if verdict is None:
            if context.track.enabled:
                context.track.console.print(f"control: {name}")
            verdict = CONTROLS[name](context)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"key": key, "verdict": asdict(verdict)}, indent=1, default=float))
        verdicts.append(verdict)
    return verdicts


def _stored(path: Path, key: str) -> Verdict | None:
    if not path.is_file():
        return None
    content: Mapping[str, Any] = json.loads(path.read_text())
    return Verdict(**content["verdict"]) if content.get("key") == key else None


def _together(estimates: Sequence[Estimate]) -> Estimate:
    mean, sigma = np.array([float(e.mean) for e in estimates]), np.array([float(e.sigma) for e in estimates])
    return Estimate(mean, sigma, estimates[0].n_members)
