"""The files of `evaluation/`: phonons.json, comparison.csv, phonopy_params.yaml, spectra.npz, report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mlffx.evaluation import polar, rungs
from mlffx.evaluation.answer import answer
from mlffx.evaluation.comparison import frequencies_json, shifts, write_csv
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.labelled_cell import note, supercell_note
from mlffx.evaluation.measured import masses_for
from mlffx.evaluation.members import Members
from mlffx.evaluation.moments import Moments
from mlffx.evaluation.report import (
    Page,
    PageFigure,
    PageFile,
    PageTable,
    colours,
    flatten,
    write_report,
)
from mlffx.evaluation.settle_control import report_table
from mlffx.evaluation.spectra import save_spectra
from mlffx.evaluation.stored import ISOTOPE, MEASURED, write_measured
from mlffx.evaluation.tiles import tiles
from mlffx.lattice.commensurate import held_points
from mlffx.lattice.phonons import Phonons
from mlffx.lattice.sensitivity import LoSensitivity
from mlffx.training.label_noise import read_rungs
from mlffx.training.run_directory import write_atomically

if TYPE_CHECKING:
    from mlffx.evaluation.run import Evaluation

PROJECTED = "space group, permutation and acoustic sum rule at once (symfc projector)"


def protocol(phonons: Phonons, settings: PhononSettings, members: Members, differs: float | None) -> dict[str, Any]:
    """Everything the frequencies depend on besides the potential; the keys other programs look for come first."""
    found = phonons.protocol().to_dict()
    mesh = [int(n) for n in np.broadcast_to(np.asarray(settings.mesh), 3)]
    return {
        "method": found.pop("method"),
        "displacement": found.pop("displacement"),
        "supercell": found.pop("supercell"),
        "supercell_atoms": found.pop("supercell_atoms"),
        "symmetrisation": PROJECTED if found.pop("symmetrised") else "none",
        "raw_violations": found.pop("raw_violations"),
        "nac": found.pop("nac"),
        "mesh": mesh,
        "masses": found.pop("masses"),
        "isotope": found.pop("isotope"),
        "lattice_constant": found.pop("lattice_constant"),
        "cell": found.pop("cell"),
        "package_versions": found.pop("versions"),
        "finite_displacement_vs_autodiff_eV_per_A2": differs,
        "members": len(members.potentials),
        "spread_from": members.kind,
        "units": {"displacement": "A", "lattice_constant": "A", "masses": "amu", "raw_violations": "eV/A^2"},
    } | {k: v for k, v in found.items() if k != "mesh"}


def write_numbers(e: Evaluation) -> None:
    """phonons.json, comparison.csv, phonopy_params.yaml, spectra.npz."""
    write_csv(e.rows, e.directory / "comparison.csv")
    write_atomically(e.directory / "phonons.json", json.dumps(phonons_json(e), indent=1, allow_nan=False))
    e.phonons.save(e.directory / "phonopy_params.yaml")
    e.phonons.write_force_constants(e.directory / "FORCE_CONSTANTS")
    kept = {"model": e.model, "low_level": e.low_level, "exact": e.truth}
    kept |= {f"{ISOTOPE}{name}": pair[0] for name, pair in e.isotopes.items() if pair[0].grid.size}
    save_spectra({name: s for name, s in kept.items() if s is not None}, e.directory / "spectra.npz")
    write_measured(e.experiment, e.directory / MEASURED)


def phonons_json(e: Evaluation) -> dict[str, Any]:
    """Content of phonons.json; every frequency in cm-1, sigma null where it is not known."""
    content: dict[str, Any] = {
        "material": e.material,
        "isotope": e.model.isotope,
        "name": e.model.name,
        "level": e.settings.level.name,
        "low_level": e.low_name,
        "frequencies_cm1": frequencies_json(e.model),
        "low_level_cm1": None if e.low_level is None else frequencies_json(e.low_level),
        "shift_cm1": None if e.low_level is None else shifts(e.model, e.low_level),
        "exact_cm1": None if e.truth is None else frequencies_json(e.truth),
        "isotopes": {name: {"frequencies_cm1": frequencies_json(pair[0])} for name, pair in e.isotopes.items()},
        "model_form_cm1": e.model_form,
        "labelled_cells": e.cells,
        "lo_sensitivity_cm1": polar.as_json(_lo_sensitivity(e)),
        "dos_moments": {k: {x: asdict(m) for x, m in v.items()} for k, v in _dos_moments(e).items()},
        "imaginary_modes": e.model.imaginary(),
        "harmonic_experiment": [
            {"label": m.label, "branch": m.branch, "cm1": m.cm1, "sigma": m.sigma_cm1, "source": m.source}
            for m in e.experiment.harmonic
        ],
        "scores": {g: {k: asdict(s) for k, s in columns.items()} for g, columns in e.scores.items()},
        "verdicts": [asdict(v) for v in e.verdicts],
        "warnings": e.warnings,
        "dynamics": None if e.dynamics is None else e.dynamics.summary(),
        "anharmonic_shift_cm1": [asdict(shift) for shift in e.anharmonic_shifts],
        "volume_shift_cm1": [asdict(shift) for shift in e.volume],
        "shift_notes": e.shift_notes,
        "protocol": e.protocol,
    }
    return _plain(content)


def write_page(e: Evaluation, figures: list[PageFigure], command: str) -> None:
    """report.html."""
    moved = None if e.low_level is None else shifts(e.model, e.low_level)
    page = Page(
        title=e.title,
        subtitle=_subtitle(e),
        tiles=tiles(e),
        rows=e.rows,
        answer=answer(e.low_name, moved, e.verdicts),
        lacking=e.cells.get("lacks", ()),
        cell_notes=_cell_notes(e),
        model_name=e.model.name,
        low_name=e.low_name,
        series=colours([e.model], e.low_level, e.truth),
        measured=e.experiment.drawn(e.model.isotope),
        training=_training(e),
        exact=e.truth,
        form=e.model_form,
        spread_from=e.members.kind,
        harmonic=e.experiment.harmonic,
        hashes=list(read_json(e.run.path / "environment.json").get("data", {}).items()),
        protocol=list(flatten(e.protocol)),
        verdicts=e.verdicts,
        scores=e.scores,
        warnings=e.warnings,
        notes=_notes(e),
        shift_notes=e.shift_notes,
        figures=figures,
        files=[PageFile(e.directory / name) for name in ("comparison.csv", "phonons.json")],
        tables=_tables(e),
        texts=[("config.yaml of the run", yaml.safe_dump(e.run.read_config(), sort_keys=False))],
        commands=_commands(e, command),
    )
    write_report(page, e.directory / "report.html")


def _tables(e: Evaluation) -> list[PageTable]:
    """Of the settling test, where it was made; of LO in polar crystals, and of the densities of states."""
    found = [table for v in e.verdicts if v.name == "settle" and (table := report_table(v)) is not None]
    caption = "True: finite differences of the labels, ± their noise. Predicted: the same differences of the potential."
    settled = [PageTable("Against finite differences of the high level itself", caption, *table) for table in found]
    rests_on = polar.sensitivity_table(_lo_sensitivity(e), e.protocol["lattice_constant"])
    return settled + rests_on + polar.moments_table(_dos_moments(e))


def _cell_notes(e: Evaluation) -> list[str]:
    """What the cell of the labels and the supercell of the phonons do not hold."""
    shown = list(e.model.points)
    here = held_points(e.phonons.crystal, [np.asarray(e.phonons.force_constants.matrix)])
    missing = [label for label in shown if not here.get(label, True)]
    return [line for line in (note(e.cells, shown), supercell_note(missing, e.protocol["supercell_atoms"])) if line]


def _lo_sensitivity(e: Evaluation) -> dict[str, LoSensitivity]:
    return polar.sensitivities(e.phonons, {name: masses_for(name) for name in e.isotopes})


def _dos_moments(e: Evaluation) -> dict[str, dict[str, Moments]]:
    spectra = {e.model.isotope: e.model} | {name: pair[0] for name, pair in e.isotopes.items()}
    isotopes = {e.model.isotope: e.phonon_settings.isotopes} | {name: masses_for(name) for name in e.isotopes}
    return polar.dos_moments(spectra, e.phonons.crystal.numbers, isotopes)


def _subtitle(e: Evaluation) -> str:
    fits = "one potential" if len(e.members.fitted) == 1 else f"an ensemble of {len(e.members.fitted)}"
    spread = f"{fits}, {e.model.n_members} draws from the posterior" if "posterior" in e.members.kind else fits
    return (
        f"Harmonic phonons of {e.material.replace('_', ' ')} ({e.model.isotope} isotopes) at a = "
        f"{e.protocol['lattice_constant']:.4f} Å; {spread}."
    )


def _training(e: Evaluation) -> list[tuple[str, str]]:
    s, metrics = e.settings, read_json(e.run.path / "metrics.json")
    lines = [
        ("data", f"{s.data.get('name')} ({s.data.get('kind')})"),
        ("level of theory", s.level.name),
        ("potential", _fit(e)),
        ("labels", _labels(e)),
        ("model", ", ".join(f"{k} {v}" if k != "name" else str(v) for k, v in s.model.items() if v is not None)),
        *(
            [("prior", s.prior.replace("_", " ") + ": the network learns what they leave over")]
            if _has_prior(e)
            else []
        ),
        ("ensemble", f"{s.ensemble} (seed {s.seed}, training sets: {s.resample})"),
    ]
    held, fitted = int(e.residuals.held_out.sum()), int((~e.residuals.held_out).sum())
    lines.append(("labelled structures", f"{fitted} to fit and choose with, {held} held out"))
    what = "energy difference" if e.low_level is not None else "energy"
    lines.append((f"held-out error, {what}", f"{e.residuals.mae(True):.3f} meV/atom (mean absolute, mean of members)"))
    if e.residuals.noise is not None:
        lines.append(("noise of the labels", f"{e.residuals.noise:.3f} meV/atom (estimated from the data alone)"))
    lines += rungs.lines(read_rungs(e.run.path))
    forces = metrics.get("test_forces_mae_meV_per_A")
    if forces is not None:
        lines.append(("held-out error, forces", f"{forces:.1f} meV/Å (mean absolute)"))
    if metrics.get("train_seconds") is not None:
        lines.append(("training took", f"{metrics['train_seconds']:.0f} s"))
    return lines


def _fit(e: Evaluation) -> str:
    potential = e.settings.potential
    if potential.kind != "delta":
        return potential.kind
    closed = e.settings.model["name"] == "force_constants"
    return f"delta on {e.low_name}, " + ("linear least squares" if closed else f"fitted by {e.settings.delta.fit}")


def _labels(e: Evaluation) -> str:
    """What was fitted, and whether forces were."""
    level, low = e.settings.level.name, e.task.low
    if low is None:
        return f"energies{' and forces' if e.task.forces is not None else ' alone'} of {level}"
    return f"energies{' alone' if e.task.forces is None else ' and forces'} of {level} minus {low}"


def _has_prior(e: Evaluation) -> bool:
    return e.settings.prior not in (None, "none") and e.settings.model["name"] != "force_constants"


def _notes(e: Evaluation) -> list[str]:
    here = (
        f"Calculated: harmonic, {e.model.isotope} masses, lattice constant {e.protocol['lattice_constant']:.4f} Å; "
        "scores are those of the harmonic frequencies, without zero-point, thermal and volume shifts."
    )
    return [here, *e.experiment.notes]


def _commands(e: Evaluation, command: str) -> list[str]:
    environment = read_json(e.run.path / "environment.json")
    lines = []
    if environment.get("commit"):
        lines.append(f"git checkout {str(environment['commit']).removesuffix('+changes')}")
    started = str(environment.get("command") or "python train.py ...   # see config.yaml below")
    lines.append(started if started.startswith("python") else f"python {started}")
    lines.append(command or f"python evaluate.py run={e.run.path}")
    return lines


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file; empty when there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's, NaN as null: strict JSON."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
