"""Progress bars and the console table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mlffx.evaluation.comparison import LABELS, Row

CONSOLE_LABELS = ("GAMMA", "X", "L")


class Tracker:
    """Wraps loops in progress bars on a terminal, and is silent elsewhere.

    Args:
        enabled: None shows bars when standard error is a terminal.
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self.console = Console(stderr=True)

    def __call__(self, items: Iterable[Any], name: str) -> Iterable[Any]:
        todo: Sequence[Any] = list(items)
        if not self.enabled or len(todo) < 2:
            yield from todo
            return
        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield from bar.track(todo, description=name)


def frequency_table(rows: Sequence[Row], title: str, low_name: str | None, model_name: str) -> Table:
    """Low level, model with sigma, experiment at GAMMA, X and L (all labelled points if none of these is there)."""
    labels = [label for label in CONSOLE_LABELS if any(r.q_label == label for r in rows)] or list(LABELS)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in (("q", "left"), ("branch", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    if low_name is not None:
        table.add_column(low_name, justify="right")
    table.add_column(model_name, justify="right")
    table.add_column("sigma", justify="right")
    table.add_column("experiment", justify="right")
    table.add_column("source")
    previous = None
    for row in (r for r in rows if r.q_label in labels):
        if previous not in (None, row.q_label):
            table.add_section()
        imaginary = " imaginary" if row.model_cm1 < 0 else ""
        cells = [row.q_label if row.q_label != previous else "", row.branch]
        if low_name is not None:
            cells.append("" if row.low_level_cm1 is None else f"{row.low_level_cm1:.1f}")
        cells.append(f"{row.model_cm1:.1f}{imaginary}")
        cells.append("-" if row.model_sigma_cm1 is None else f"{row.model_sigma_cm1:.1f}")
        measured = row.experiment_cm1 is not None
        spread = f" ± {row.experiment_sigma_cm1:.1f}" if row.experiment_sigma_cm1 is not None else ""
        cells.append(f"{row.experiment_cm1:.1f}{spread}" if measured else "")
        cells.append(row.source or "")
        table.add_row(*cells, style="red" if imaginary else None)
        previous = row.q_label
    table.caption = "cm-1, harmonic"
    table.caption_justify = "left"
    return table
