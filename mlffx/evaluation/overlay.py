"""Several runs beside each other: one dispersion, one table with sigmas, the model-form spread, one report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from mlffx.errors import UserError
from mlffx.evaluation.comparison import LABELS, Measured, branch_index, finite
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.decay import force_constant_decay
from mlffx.evaluation.figures.dispersion import dispersion
from mlffx.evaluation.figures.learning import LearningPoint, learning_curves
from mlffx.evaluation.figures.shifts import mode_shifts
from mlffx.evaluation.labelled_cell import lacked_by_any, marked, notes_of
from mlffx.evaluation.report import Page, PageFigure, PageFile, PageTable, Tile, colours, write_report
from mlffx.evaluation.report_rows import with_sigma
from mlffx.evaluation.stored import Run
from mlffx.evaluation.uncertainty import Estimate, over_models
from mlffx.lattice.decay import shell_norms
from mlffx.lattice.phonons import Phonons
from mlffx.training.run_directory import RunDirectory

SUMMARY_COLUMNS = ("run", "name", "level", "q_label", "branch", "cm1", "sigma_cm1", "low_level_cm1", "shift_cm1")


def overlay(
    runs: Sequence[Path | str], output: Path, measured: Sequence[Measured] = (), names: Sequence[str] = ()
) -> list[Run]:
    """Lay evaluated runs over each other and write `output`: overlay.pdf/png, shifts, summary.csv, report.html.

    Args:
        runs: run directories, evaluated before.
        output: directory.
        measured: shown in the figures, with their places on the path.
        names: for legends; by default level, potential and model, told apart by their directory where equal.
    """
    found = [Run.read(path) for path in runs]
    if len(found) < 2:
        raise UserError("an overlay needs two runs or more", "runs=[RUN_A,RUN_B]", "runs")
    materials = {run.phonons["material"] for run in found}
    if len(materials) > 1:
        raise UserError(f"runs of different materials: {', '.join(sorted(materials))}", "overlay one material", "runs")
    found = _named(found, names)
    output.mkdir(parents=True, exist_ok=True)
    title = f"{found[0].phonons['material'].replace('_', ' ')}: {len(found)} runs"
    spectra = [run.spectra for run in found]
    style.save(dispersion(spectra, None, measured, title), output / "overlay")
    figures = _figures(found, output) + _learning_figure(found, measured, output) + _decay_figure(found, output)
    write_summary(found, output / "summary.csv")
    _page(found, title, measured, figures, output)
    return found


def summary(runs: Sequence[Run], measured: Sequence[Measured] = ()) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of the table: modes at GAMMA, X, L; runs, the model-form spread of each level, experiment."""
    levels = {level: members for level, members in _by_level(runs).items() if len(members) > 1}
    heads = ["mode", *[run.spectra.name for run in runs], *[f"{level}, all models" for level in levels], "experiment"]
    lines = []
    for label, branch in modes_of(runs, ("GAMMA", "X", "L")):
        point = runs[0].spectra.points[label]
        here = [
            m for m in measured if m.label == label and branch_index(point, m.branch) == point.branches.index(branch)
        ]
        line = [f"{style.greek(label)} {branch.replace('_', ' ')}", *[_cell(run.mode(label, branch)) for run in runs]]
        line += [_spread([run.mode(label, branch) for run in members]) for members in levels.values()]
        line.append(with_sigma(here[0].cm1, float(np.nan_to_num(here[0].sigma_cm1))) if here else "")
        lines.append(line)
    if not any(line[-1] for line in lines):
        return heads[:-1], [line[:-1] for line in lines]
    return heads, lines


def summary_table(runs: Sequence[Run], measured: Sequence[Measured] = ()) -> Table:
    """`summary` for the terminal."""
    heads, lines = summary(runs, measured)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="cm-1, harmonic", caption_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head == "mode" else "right")
    for line in lines:
        table.add_row(*line)
    return table


def show(runs: Sequence[Run], output: Path, measured: Sequence[Measured] = (), console: Console | None = None) -> None:
    """The summary on the terminal."""
    console = console or Console()
    console.print(summary_table(runs, measured))
    console.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)


def modes_of(runs: Sequence[Run], labels: Sequence[str]) -> list[tuple[str, str]]:
    """Named modes of the first run at the labels."""
    points = runs[0].spectra.points
    return [(label, branch) for label in labels if label in points for branch in points[label].branches]


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """One line a run and mode, for spreadsheets."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SUMMARY_COLUMNS)
        for run in runs:
            low = run.phonons.get("low_level_cm1") or {}
            shift = run.phonons.get("shift_cm1") or {}
            for label, branch in modes_of([run], LABELS):
                e = run.mode(label, branch)
                assert e is not None
                sigma = finite(e.sigma)
                below = low.get(label, {}).get(branch, {}).get("mean")
                moved = shift.get(label, {}).get(branch, {}).get("mean")
                numbers = [e.mean, sigma, below, moved]
                cells = ["" if x is None else f"{float(x):.2f}" for x in numbers]
                writer.writerow([run.path, run.spectra.name, run.phonons["level"], label, branch, *cells])


def _named(runs: list[Run], names: Sequence[str]) -> list[Run]:
    given = list(names) or [run.spectra.name for run in runs]
    if len(given) != len(runs):
        raise UserError(f"{len(given)} names for {len(runs)} runs", where="names")
    repeated = {name for name in given if given.count(name) > 1}
    told = [f"{name} [{run.path.name}]" if name in repeated else name for name, run in zip(given, runs, strict=True)]
    return [replace(run, spectra=replace(run.spectra, name=name)) for run, name in zip(runs, told, strict=True)]


def _by_level(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.phonons["level"], []).append(run)
    return groups


def _cell(estimate: Estimate | None) -> str:
    return "" if estimate is None else with_sigma(float(estimate.mean), finite(estimate.sigma))


def _spread(estimates: Sequence[Estimate | None]) -> str:
    known = [e for e in estimates if e is not None]
    if len(known) < 2:
        return ""
    total, form = over_models(known)
    return f"{float(total.mean):.1f} ± {float(total.sigma):.1f} ({float(form):.1f} form)"


def learning_points(runs: Sequence[Run]) -> dict[str, list[LearningPoint]]:
    """Runs that differ in training size alone as learning curves: name -> points; empty where none does."""
    label, branch = modes_of(runs, ("GAMMA", "X", "L"))[0]
    curves: dict[str, list[LearningPoint]] = {}
    for run in runs:
        directory = RunDirectory(run.path)
        metrics, mode = directory.read_metrics(), run.mode(label, branch)
        error = metrics.get("test_difference_energy_mae_meV_per_atom", metrics.get("test_energy_mae_meV_per_atom"))
        if mode is None or metrics.get("train_frames") is None:
            continue
        seed = int(directory.read_config().get("seed", 0))
        point = LearningPoint(int(metrics["train_frames"]), error, float(mode.mean), finite(mode.sigma), seed)
        curves.setdefault(run.phonons["name"], []).append(point)
    return {name: points for name, points in curves.items() if len({p.n_train for p in points}) > 1}


def _learning_figure(runs: Sequence[Run], measured: Sequence[Measured], output: Path) -> list[PageFigure]:
    curves = learning_points(runs)
    if not curves:
        return []
    label, branch = modes_of(runs, ("GAMMA", "X", "L"))[0]
    here = next((m for m in measured if (m.label, m.branch) == (label, branch)), None)
    line = None if here is None else ("experiment", here.cm1, here.sigma_cm1)
    figure = learning_curves(curves, f"{style.greek(label)} {branch}", reference=line)
    path = style.save(figure, output / "learning_curves")[1]
    caption = "Held-out error and the watched mode against the number of training labels; bars: seeds and own sigma."
    return [PageFigure("Learning curves", caption, path, round(95 * figure.get_figwidth()))]


def _figures(runs: Sequence[Run], output: Path) -> list[PageFigure]:
    moved = {run.spectra.name: run.phonons["shift_cm1"] for run in runs if run.phonons.get("shift_cm1")}
    if not moved:
        return []
    low = next(run.phonons["low_level"] for run in runs if run.phonons.get("shift_cm1"))
    figure = mode_shifts(moved, low, labels=("GAMMA", "X", "L"))
    paths = style.save(figure, output / "shifts")
    caption = "What each level or model changes against its own low level."
    return [PageFigure("Shift per mode", caption, paths[1], round(95 * figure.get_figwidth()))]


def _decay_figure(runs: Sequence[Run], output: Path) -> list[PageFigure]:
    """Force constants against distance, where every run left some, all in supercells that hold two shells or more."""
    paths = [run.path / "evaluation" / "phonopy_params.yaml" for run in runs]
    if not all(path.is_file() for path in paths):
        return []
    curves = {
        run.spectra.name: shell_norms(Phonons.load(path).force_constants) for run, path in zip(runs, paths, strict=True)
    }
    if min(len(distances) for distances, _ in curves.values()) < 2:
        return []
    figure = force_constant_decay(curves)
    path = style.save(figure, output / "force_constants")[1]
    caption = (
        "Norm of the matrices of each shell, up to half the supercell. Where charges interact, no cutoff ends them."
    )
    return [PageFigure("Force constants against distance", caption, path, round(95 * figure.get_figwidth()))]


def _errors_table(runs: Sequence[Run]) -> list[PageTable]:
    """Held-out errors of every run beside each other."""
    names = {
        "test_energy_rmse_meV_per_atom": "energy, meV/atom",
        "test_difference_energy_rmse_meV_per_atom": "difference, meV/atom",
        "label_noise_meV_per_atom": "label noise, meV/atom",
        "test_forces_rmse_meV_per_A": "forces, meV/Å",
    }
    metrics = [_metrics(run) for run in runs]
    shown = [key for key in names if any(m.get(key) is not None for m in metrics)]
    if not shown:
        return []
    rows = [
        [run.spectra.name, *["" if m.get(key) is None else f"{m[key]:.3f}" for key in shown]]
        for run, m in zip(runs, metrics, strict=True)
    ]
    return [PageTable("Held-out errors", "Root mean square.", ["run", *[names[key] for key in shown]], rows)]


def _metrics(run: Run) -> dict:
    return RunDirectory(run.path).read_metrics() if (run.path / "metrics.json").is_file() else {}


def _page(
    runs: Sequence[Run], title: str, measured: Sequence[Measured], figures: list[PageFigure], output: Path
) -> None:
    heads, lines = summary(runs, measured)
    top = modes_of(runs, ("GAMMA", "X", "L"))[0]
    cells = {run.spectra.name: run.labelled_cells for run in runs}
    page = Page(
        title=title,
        subtitle="Harmonic phonons of several runs, from their own evaluations.",
        tiles=[Tile(run.spectra.name, _cell(run.mode(*top)), f"cm⁻¹, {style.greek(top[0])} {top[1]}") for run in runs],
        rows=[],
        model_name="",
        low_name=None,
        series=colours([run.spectra for run in runs], None),
        measured=measured,
        summary_heads=heads,
        summary=marked(lines, lacked_by_any(cells.values(), ("GAMMA", "X", "L"))),
        cell_notes=notes_of(cells, ("GAMMA", "X", "L")),
        training=[(run.spectra.name, str(run.path)) for run in runs],
        tables=_errors_table(runs),
        figures=figures,
        files=[PageFile(output / "summary.csv")],
        commands=[f"python evaluate.py 'runs=[{','.join(str(run.path) for run in runs)}]'"],
        spread_from="ensemble",
    )
    write_report(page, output / "report.html")
