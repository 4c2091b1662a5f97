"""A study from start to end: plan, parts, report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mlffx.evaluation.study.page import write_study
from mlffx.evaluation.study.perform import perform
from mlffx.evaluation.study.plan import make_plan
from mlffx.evaluation.study.record import Record, table
from mlffx.evaluation.study.settings import PresetSettings


def study(
    preset: Mapping[str, Any],
    evaluate_overrides: Sequence[str] = (),
    *,
    force: bool = False,
    progress: bool = True,
    command: str = "",
) -> Record:
    """Train what is missing, evaluate what is not current, and write `OUTPUT/report.html`.

    Args:
        preset: composed from conf/preset.
        evaluate_overrides: of evaluate.py, for every run.
        force: repeat evaluations that are current; trainings are never repeated.
        command: the line that started this, for the report.

    Returns:
        What has become of every part.

    Raises:
        UserError: for mistakes in the preset and missing data, before any work.
    """
    plan = make_plan(PresetSettings.read(preset), evaluate_overrides)
    record = perform(plan, force=force, progress=progress)
    report = write_study(plan, record, command)
    console = Console(file=sys.stdout)
    lost = {name: o for name, o in record.outcomes.items() if o.state in ("failed", "impossible")}
    if lost:
        console.print(table(lost))
    done = record.count("finished", "reused")
    console.print(f"{done} of {len(plan.parts)} parts done, {len(lost)} not; report: {report}", soft_wrap=True)
    return record
