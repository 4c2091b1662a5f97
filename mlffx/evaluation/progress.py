"""Progress bars and the console table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mlffx.evaluation.comparison import LABELS, Measured, Row, exact_frequency
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.labelled_cell import MARK
from mlffx.evaluation.spectra import Spectra

CONSOLE_LABELS = ("GAMMA", "X", "L")
SHIFTED = {"+anharmonic": "anharmonic_cm1", "+volume": "volume_cm1"}  # columns, each adding to the one on its left


class Tracker:
    """Wraps loops in progress bars on a terminal, and is silent elsewhere.

    Args:
        enabled: False never shows them.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled and sys.stderr.isatty()
        self.console = Console(stderr=True)

    def __call__(self, items: Iterable[Any], name: str) -> Iterable[Any]:
        todo: Sequence[Any] = list(items)
        if not self.enabled or len(todo) < 2:
            yield from todo
            return
        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield from bar.track(todo, description=name)


def frequency_table(
    rows: Sequence[Row],
    title: str,
    low_name: str | None,
    harmonic: Sequence[Measured] = (),
    exact: Spectra | None = None,
    form: Mapping[str, Mapping[str, float]] | None = None,
    lacking: Sequence[str] = (),
    shift_notes: Sequence[str] = (),
) -> Table:
    """Low level, model with sigma, experiment at GAMMA, X and L (all labelled points if none of these is there).

    Args:
        harmonic: measured values with the anharmonic shift removed, told beside the raw ones.
        exact: true phonons, on an analytic twin; shown in place of experiment.
        form: spread over forms of the model, label -> branch -> cm-1, a column of its own where there is any.
        lacking: labelled points that the cells of the labels do not hold; they are marked.
        shift_notes: captions of the columns +anharmonic and +volume, which are there where any row has a shift.
    """
    labels = [label for label in CONSOLE_LABELS if any(r.q_label == label for r in rows)] or list(LABELS)
    shown = [r for r in rows if r.q_label in labels]
    columns = {name: key for name, key in SHIFTED.items() if any(getattr(r, key) is not None for r in shown)}
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    heads = [
        "q",
        "branch",
        *([] if low_name is None else [low_name]),
        "harmonic" if columns else "model",
        "sigma",
        *(["model form"] if form else []),
        *columns,
    ]
    heads.append("experiment" if exact is None else "exact")
    for name in heads:
        table.add_column(
            name, justify="left" if name in ("q", "branch", "experiment", "exact") else "right", overflow="fold"
        )
    previous = None
    for (isotope, label, branch), lines in _by_branch(shown).items():
        row = lines[0]
        if previous not in (None, (isotope, label)):
            table.add_section()
        name = (label if isotope == "natural" else f"{label} {isotope}") + (f" {MARK}" if label in lacking else "")
        cells = [name if previous != (isotope, label) else "", branch]
        if low_name is not None:
            cells.append("" if row.low_level_cm1 is None else f"{row.low_level_cm1:.1f}")
        cells.append(f"{row.model_cm1:.1f}" + (" imaginary" if row.model_cm1 < 0 else ""))
        cells.append("-" if row.model_sigma_cm1 is None else f"{row.model_sigma_cm1:.1f}")
        if form:
            spread = form.get(label, {}).get(branch) if isotope == "natural" else None
            cells.append("" if spread is None else f"{spread:.1f}")
        cells += ["" if (value := getattr(row, key)) is None else f"{value:.1f}" for key in columns.values()]
        found = [
            f"{r.experiment_cm1:.1f} ± {r.experiment_sigma_cm1:.1f}" for r in lines if r.experiment_cm1 is not None
        ]
        found += [
            f"harmonic {m.cm1:.1f} ± {m.sigma_cm1:.1f}"
            for m in harmonic
            if (m.isotope, m.label, m.branch) == (isotope, label, branch)
        ]
        if (true := exact_frequency(exact, row)) is not None:
            found.append(f"{true:.1f}")
        table.add_row(*cells, ", ".join(found), style="red" if row.model_cm1 < 0 else None)
        previous = (isotope, label)
    table.caption = "cm-1, calculated: harmonic"
    if marked := [label for label in lacking if label in labels]:
        table.caption += (
            f"; {MARK} {', '.join(marked)}: not held by the cell of the labels, interpolated by the potential"
        )
    table.caption += "".join(f"\n{note}" for note in shift_notes)
    table.caption_justify = "left"
    return table


def print_evaluation(
    table: Table, verdicts: Sequence[Verdict], warnings: Sequence[str], report: Path, console: Console | None = None
) -> None:
    """The table of an evaluation, then every verdict and warning, and where the report is."""
    console = console or Console()
    console.print(table)
    for verdict in verdicts:
        console.print(f"{verdict.word:>12}  {verdict.title}: {verdict.statement}", highlight=False)
    for line in warnings:
        console.print(f"[bold red]note[/]  {line}", highlight=False)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


def _by_branch(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows of one branch together: each further measurement is a row of its own."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.isotope, row.q_label, row.branch), []).append(row)
    return groups
