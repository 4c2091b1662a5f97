"""Evaluation of one run: from its checkpoints to `evaluation/` with numbers, figures and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mlffx.data.levels import level_name
from mlffx.dynamics.labelled import LabelledShift
from mlffx.dynamics.result import DynamicsResult
from mlffx.evaluation import currency, outputs
from mlffx.evaluation.anharmonic import mean_shifts, run_members
from mlffx.evaluation.anharmonic import wanted as wanted_dynamics
from mlffx.evaluation.comparison import Measured, Row, Score, compare, score_groups, unmatched
from mlffx.evaluation.control_context import Context
from mlffx.evaluation.control_form import model_form
from mlffx.evaluation.control_runs import chosen, run_controls
from mlffx.evaluation.controls import Verdict, residual_trend, truth_recovered
from mlffx.evaluation.figures.energies import EnergyResiduals
from mlffx.evaluation.harmonic import (
    PhononSettings,
    disagreement,
    force_constants,
    mean_constants,
    recalibrated,
    spectra,
)
from mlffx.evaluation.labelled_cell import labelled_cells
from mlffx.evaluation.measured import Experiment, known_material, place
from mlffx.evaluation.members import Members, gather
from mlffx.evaluation.page_figures import write_figures
from mlffx.evaluation.progress import Tracker, frequency_table, print_evaluation
from mlffx.evaluation.recalibration import honest_scale
from mlffx.evaluation.rungs import above_the_noise
from mlffx.evaluation.settle_control import settle_labels
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.subject import (
    crystal_of,
    energy_residuals,
    exact_spectra,
    experiment_for,
    material_of,
    other_isotopes,
    own_nac,
    run_name,
)
from mlffx.evaluation.volume import VolumeShift, shift_notes, volume_shifts, with_anharmonic, with_volume
from mlffx.lattice.force_constants import SYMMETRIC_SITES
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.nac import build_nac
from mlffx.lattice.phonons import Phonons
from mlffx.training.label_noise import read_rungs
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

CROSS_CHECK = 1e-2  # eV/A^2; displaced supercells and automatic differentiation further apart than this are a warning
SUM_RULE = 1e-2  # eV/A^2


@dataclass
class Evaluation:
    """Everything found out about one run.

    Attributes:
        run: its directory.
        settings: of its training.
        phonon_settings: of this evaluation.
        material: name of the data set.
        model, low_level, truth: spectra with the masses asked for; low_level of a delta only, truth of a twin only.
        isotopes: isotope -> (model, low level), for measurements on other isotopes.
        phonons: of the mean force constants.
        task: data, split and targets of the run.
        members: potentials evaluated.
        rows: of comparison.csv; scores of them by group.
        experiment: measured values, placed on the path.
        residuals: of the energies.
        protocol: everything the numbers depend on.
        cells: labelled q-points the cells of the labels hold and lack (`labelled_cell.labelled_cells`).
        dynamics: of the first member, where it was asked for; dynamics_members of all that were run.
        verdicts: of controls.
        warnings: what must not be overlooked.
        volume: shifts to measured lattice constants, one a composition.
    """

    run: RunDirectory
    settings: TrainSettings
    phonon_settings: PhononSettings
    material: str
    model: Spectra
    low_level: Spectra | None
    truth: Spectra | None
    isotopes: dict[str, tuple[Spectra, Spectra | None]]
    phonons: Phonons
    task: Task
    members: Members
    rows: list[Row]
    scores: dict[str, dict[str, Score]]
    experiment: Experiment
    residuals: EnergyResiduals
    protocol: dict[str, Any]
    cells: dict[str, Any] = field(default_factory=dict)
    dynamics: DynamicsResult | None = None
    dynamics_members: list[DynamicsResult] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    volume: list[VolumeShift] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.run.path / "evaluation"

    @property
    def low_name(self) -> str | None:
        return None if self.low_level is None else self.low_level.name

    @property
    def model_form(self) -> dict[str, dict[str, float]]:
        """Spread over the forms of the model that controls have tried, label -> branch -> cm-1; empty without any."""
        return model_form(self.model, self.verdicts)

    @property
    def anharmonic_shifts(self) -> list[LabelledShift]:
        """Lines in molecular dynamics against the phonons of the same potential; empty without dynamics."""
        return mean_shifts(self.dynamics_members) if self.dynamics_members else []

    @property
    def shift_notes(self) -> list[str]:
        """Captions of the columns beside the harmonic frequencies."""
        anharmonic = any(r.anharmonic_shift_cm1 is not None for r in self.rows)
        temperature = self.dynamics.config.temperature if anharmonic and self.dynamics is not None else None
        return shift_notes(self.volume, temperature)

    @property
    def title(self) -> str:
        return f"{self.material.replace('_', ' ')}: {self.model.name}"


def evaluate(
    run: Path | str,
    phonons: PhononSettings | None = None,
    *,
    reference: str = "auto",
    samples: int = 16,
    sigma_scale: float | None = 1.0,
    controls: str | Sequence[str] = (),
    settle: Path | str | None = None,
    dynamics: Mapping[str, Any] | None = None,
    verdicts: Sequence[Verdict] = (),
    progress: bool = True,
    command: str = "",
) -> Evaluation:
    """Evaluate a run and write `RUN_DIR/evaluation/`.

    Args:
        run: directory `train.py` wrote.
        phonons: how phonons are computed; the defaults suit cubic crystals.
        reference: table of measured values; `auto` takes that of the data set's name, `none` compares with nothing.
        samples: draws from the posterior of potentials that were fitted in closed form.
        sigma_scale: recalibration of every sigma; None takes what twins call for (`mlffx.evaluation.recalibration`).
        controls: to run first: `all`, or names of `control_runs.CONTROLS`.
        settle: labels of the settling test, which is then made; None takes those of the data set, where it has any.
        dynamics: keys of conf/dynamics, for densities of states from molecular dynamics; nothing runs where None or
            `enabled: false`.
        verdicts: of anything else that goes into the report.
        progress: bars, on a terminal.
        command: the line that started this, for the report.

    Raises:
        UserError: for a directory that is no run, unreadable checkpoints, a data set without a crystal.
    """
    wanted, motion = chosen(controls), wanted_dynamics(dynamics)  # mistakes are told before the work starts
    if found := settle_labels(run, settle):
        wanted = [*wanted, *(["settle"] if "settle" not in wanted else [])]
    track, began = Tracker(progress), time.perf_counter()
    phonons = phonons or PhononSettings()
    made_from = currency.ingredients(run, phonons, reference, samples, sigma_scale, settle)
    result = compute(run, phonons, reference, samples, track, sigma_scale)
    if wanted:
        result.verdicts += run_controls(wanted, _context(result, track, found))
    if motion is not None:
        own = replace(motion, progress=progress, isotopes=motion.isotopes or dict(phonons.isotopes))
        result.dynamics_members = run_members(
            result.members, result.phonons.crystal, own, result.directory / "dynamics"
        )
        result.dynamics = result.dynamics_members[0]
        if dict(own.isotopes) == dict(phonons.isotopes):
            result.rows = with_anharmonic(result.rows, result.anharmonic_shifts, result.model.isotope)
    result.verdicts += verdicts
    write(result, command)
    currency.stamp(result.directory, made_from, wanted, dynamics or {}, time.perf_counter() - began)
    return result


def compute(
    run: Path | str,
    phonons: PhononSettings,
    reference: str,
    samples: int,
    track: Tracker,
    sigma_scale: float | None = 1.0,
) -> Evaluation:
    """All numbers of an evaluation; writes nothing."""
    directory = RunDirectory(run)
    settings = TrainSettings.read(directory.read_config())
    sigma_scale = honest_scale(settings) if sigma_scale is None else sigma_scale
    members = gather(directory.path, samples, resampled=settings.resample == "bootstrap")
    task = prepare(settings)
    crystal = crystal_of(task, members)
    measured = experiment_for(reference, str(settings.data.get("name", "")), crystal)
    bases = members.low_level()

    material = known_material(str(settings.data.get("name", "")))
    nac, nac_notes = build_nac(phonons.nac, crystal, material, members.fitted[0], phonons.nac_method)
    low_nac = nac  # reference values describe the crystal; charges of its own are those of the base
    if phonons.nac == "model" and bases is not None:
        low_nac = own_nac(bases.potentials[0], crystal, phonons)

    high_constants = recalibrated(force_constants(members, crystal, phonons, track), sigma_scale)
    low_constants = None if bases is None else force_constants(bases, crystal, phonons, track)
    low_constants = low_constants and recalibrated(low_constants, sigma_scale)
    own = None if phonons.nac != "model" else [own_nac(p, crystal, phonons) for p in members.potentials]
    model = spectra(run_name(settings), high_constants, phonons, track, nac, member_nacs=own)
    low_name = level_name((task.low or task.dataset.low).upper())
    low = None if low_constants is None else spectra(low_name, low_constants, phonons, track, low_nac)
    measured = replace(measured, elsewhere=place(measured.elsewhere, model.path, crystal))
    with_dos = {m.isotope for m in measured.elsewhere}  # isotopes that get a figure of their own
    compositions = other_isotopes(measured, model.isotope, phonons)
    others = {
        isotope: (
            spectra(model.name, high_constants, masses, track, nac, isotope in with_dos, own),
            None
            if low is None
            else spectra(low.name, low_constants or [], masses, track, low_nac, isotope in with_dos),
        )
        for isotope, masses in compositions.items()
    }
    rows = compare(material_of(settings), model, low, measured.labelled)
    for other, other_low in others.values():
        rows += compare(material_of(settings), other, other_low, measured.labelled)
    average = Phonons(mean_constants(high_constants), masses_of(crystal.numbers, phonons.isotopes), nac, model.isotope)
    of_masses = {model.isotope: average} | {
        name: average.with_masses(masses_of(crystal.numbers, s.isotopes), name) for name, s in compositions.items()
    }
    volume, volume_notes = volume_shifts(members, average, of_masses, measured.lattice_constants, phonons, track)
    differs = disagreement(members.fitted[0], crystal, phonons) if phonons.cross_check else None
    evaluation = Evaluation(
        run=directory,
        settings=settings,
        phonon_settings=phonons,
        material=material_of(settings),
        model=model,
        low_level=low,
        truth=exact_spectra(settings, crystal, phonons, track),
        isotopes=others,
        phonons=average,
        task=task,
        members=members,
        rows=with_volume(rows, volume),
        scores=score_groups(rows),
        experiment=measured,
        residuals=energy_residuals(members, bases, task, settings, track),
        protocol=outputs.protocol(average, phonons, members, differs) | {"sigma_scale": sigma_scale},
        cells=labelled_cells(task, crystal),
        warnings=nac_notes + volume_notes,
        volume=volume,
    )
    _judge(evaluation, measured.labelled, differs)
    return evaluation


def write(result: Evaluation, command: str = "") -> None:
    """`evaluation/`: phonons.json, comparison.csv, phonopy_params.yaml, spectra.npz, figures and report.html."""
    result.directory.mkdir(parents=True, exist_ok=True)
    outputs.write_numbers(result)
    figures = write_figures(result)
    outputs.write_page(result, figures, command)


def show(result: Evaluation, console: Console | None = None) -> None:
    """The table at GAMMA, X and L, then every warning and verdict."""
    measured, form = result.experiment.harmonic, result.model_form
    lacks = result.cells.get("lacks", ())
    table = frequency_table(
        result.rows, result.title, result.low_name, measured, result.truth, form, lacks, result.shift_notes
    )
    print_evaluation(table, result.verdicts, result.warnings, result.directory / "report.html", console)


def _context(e: Evaluation, track: Tracker, settle: Path | None) -> Context:
    run = (e.run, e.settings, e.task, e.members, e.model, e.phonons.crystal, e.phonon_settings)
    return Context(*run, track, e.protocol["sigma_scale"], settle, e.phonons.nac)


def _judge(e: Evaluation, measured: Sequence[Measured], differs: float | None) -> None:
    """Verdicts that cost nothing, and everything a reader must be warned of."""
    e.verdicts.append(residual_trend(e.residuals))
    if (noise := above_the_noise(read_rungs(e.run.path))) is not None:
        e.verdicts.append(noise)
    if e.truth is not None:
        e.verdicts.append(truth_recovered(e.model, e.truth))
    for mode in e.model.imaginary():
        e.warnings.append(f"imaginary mode: {mode['branch']} at {mode['q']}, {mode['cm1']} cm-1")
    if e.model.n_members == 1:
        e.warnings.append("one potential, so no sigma: train with ensemble=4 (or more)")
    if differs is not None and differs > CROSS_CHECK:
        e.warnings.append(
            f"displaced supercells and automatic differentiation differ by {differs:.2g} eV/A^2: not smooth enough "
            "at the perfect crystal, or a displacement too large"
        )
    raw = e.phonons.force_constants.raw
    if raw.get("acoustic_sum_rule", 0.0) > SUM_RULE:
        e.warnings.append(f"the raw force constants violate the sum rule by {raw['acoustic_sum_rule']:.2g} eV/A^2")
    if raw.get("residual_force", 0.0) > SYMMETRIC_SITES:
        e.warnings.append(f"residual force of {raw['residual_force']:.2g} eV/A at the ideal sites")
    for spectrum in [e.model, *[pair[0] for pair in e.isotopes.values()]]:
        for m in unmatched(spectrum, measured):
            e.warnings.append(f"no branch for the measured {m.label} {m.branch} ({m.isotope}, {m.cm1:.0f} cm-1)")
