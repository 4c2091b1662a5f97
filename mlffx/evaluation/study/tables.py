"""The tables of a study as Markdown, for papers and notes: `OUTPUT/tables.md`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlffx.evaluation.report import PageTable
from mlffx.evaluation.study.crystal import CrystalStory
from mlffx.evaluation.study.kinds import Agreement


def markdown(stories: Sequence[CrystalStory]) -> str:
    """Every table of every crystal, in the order of the page."""
    lines: list[str] = []
    for story in stories:
        lines += [f"# {story.title}", ""]
        if story.headline is not None:
            lines += _table(story.headline)
            lines += [line for text in story.cell_notes for line in (text, "")]
        lines += ["## Kinds of potential", ""] + [f"* {name}: {says}" for name, says in story.kinds] + [""]
        for table in [*([story.splitting] if story.splitting else []), *story.tables]:
            lines += [f"## {table.title}", ""] + ([table.caption, ""] if table.caption else []) + _table(table)
        for title, _, table in story.dynamics:
            lines += [f"## Molecular dynamics: {title}", "", table.caption, "", *_table(table)]
        if story.agreements:
            lines += ["## Do the kinds of potential agree?", "", *_grid(AGREEMENT, map(_agreement, story.agreements))]
    return "\n".join(lines)


AGREEMENT = ("level", "kinds", "verdict", "mean difference", "mean sigma", "where they differ most")


def _agreement(a: Agreement) -> list[str]:
    name, difference, sigma = a.worst
    numbers = [f"{a.mean:.1f}", f"{a.sigma:.1f}", f"{name} {difference:+.1f} ± {sigma:.1f}"]
    return [a.level, f"{a.first}, {a.second}", a.word, *numbers]


def _table(table: PageTable) -> list[str]:
    return _grid(table.heads, table.rows)


def _grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rule = "|".join("---" if i == 0 else "---:" for i in range(len(heads)))
    return [f"| {' | '.join(heads)} |", f"|{rule}|", *[f"| {' | '.join(line)} |" for line in lines], ""]
