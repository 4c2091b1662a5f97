"""What the report tells of one crystal: tables, figures, agreement of the kinds, LO-TO, dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.data.levels import NAMES, level_name
from mlffx.evaluation.comparison import Measured
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.dispersion import dispersion
from mlffx.evaluation.figures.dos import densities_of_states
from mlffx.evaluation.figures.shifts import mode_shifts
from mlffx.evaluation.labelled_cell import lacked_by_any, marked, notes_of
from mlffx.evaluation.overlay import summary
from mlffx.evaluation.report import PageFigure, PageTable, colours, payload
from mlffx.evaluation.report_rows import with_sigma
from mlffx.evaluation.stored import Run
from mlffx.evaluation.study.kinds import Agreement, agreements
from mlffx.evaluation.study.plan import Entry
from mlffx.evaluation.uncertainty import over_members

LABELS = ("GAMMA", "X", "L")  # of the tables
SHIFT_REMOVED = "anharmonic shift removed"
NOTHING_CM1 = 0.5  # shifts below this are no shifts


@dataclass(frozen=True)
class Chart:
    """An interactive dispersion: title, note, and its numbers as JSON."""

    key: str
    title: str
    note: str
    payload: str


@dataclass
class CrystalStory:
    """Everything the page says about a crystal; lists may be empty."""

    key: str
    title: str
    kinds: list[tuple[str, str]]
    headline: PageTable | None = None
    charts: list[Chart] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    figures: list[PageFigure] = field(default_factory=list)
    more_figures: list[PageFigure] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    splitting: PageTable | None = None
    dynamics: list[tuple[str, PageFigure | None, PageTable]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cell_notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def tell(crystal: str, entries: Sequence[Entry], runs: Mapping[str, Run], figures: Path) -> CrystalStory:
    """The story of one crystal from what was evaluated; figures are written as PDF and PNG.

    Args:
        entries: of this crystal, evaluated ones.
        runs: name of the entry -> its evaluation.
        figures: folder for them.
    """
    about = entries[0].crystal_settings
    kinds = {e.family: e.settings for e in entries}
    story = CrystalStory(crystal, about.title, [(k.title, k.says) for k in kinds.values()])
    levels = _levels(entries)
    first = runs[entries[0].name]
    measured = first.experiment.labelled_for(first.spectra.isotope)
    story.notes = list(first.experiment.notes)
    shown = _headline(entries, runs)
    if shown:
        story.headline = _across(list(shown.values()), measured, "", first.experiment.harmonic)
        _draw(story, shown, figures, crystal)
    for family, kind in kinds.items():
        own = {e.level: _called(runs[e.name], level_name(e.level)) for e in entries if e.family == family}
        story.tables.append(_across(list(own.values()), measured, kind.title, (), kind.says))
        if len(own) > 1:
            colors = [style.CYCLE[levels.index(level) % len(style.CYCLE)] for level in own]  # as in every other figure
            title = f"{about.title}: {kind.title}"
            drawn = dispersion([r.spectra for r in own.values()], None, _drawn(first), title, colors=colors)
            story.more_figures.append(_figure(drawn, figures / f"{crystal}_{family}", kind.title, kind.says))
    for level in levels:
        same = {e.title: runs[e.name] for e in entries if e.level == level}
        if len(same) > 1:
            named = [_called(run, title) for title, run in same.items()]
            heads, lines = summary(named, measured)
            heads = ["all kinds" if head.endswith(", all models") else head for head in heads]
            note = "All kinds: their mean with total sigma, and in brackets the spread between them."
            story.tables.append(PageTable(f"{level_name(level)}: kinds of potential", note, heads, lines))
            story.agreements += agreements(level_name(level), same)
    story.warnings = [line for e in entries if (line := _nothing_learned(e, runs[e.name])) is not None]
    story.splitting = _splitting(entries, runs)
    story.dynamics = [d for e in entries if (d := _dynamics(e, runs[e.name])) is not None]
    _mark(story, {e.name: runs[e.name].labelled_cells for e in entries})
    return story


def _mark(story: CrystalStory, cells: Mapping[str, Mapping[str, Any]]) -> None:
    """Mark modes at points that the cells of the labels do not hold, and say what that means."""
    lacking = lacked_by_any(cells.values(), LABELS)
    story.cell_notes = notes_of(cells, LABELS)
    if story.headline is not None:
        story.headline = replace(story.headline, rows=marked(story.headline.rows, lacking))
    story.tables = [replace(table, rows=marked(table.rows, lacking)) for table in story.tables]


def _nothing_learned(entry: Entry, run: Run) -> str | None:
    """What a reader must know of a delta whose difference vanished: it is the level below, values and bars."""
    moved = [mode["mean"] for branches in (run.phonons.get("shift_cm1") or {}).values() for mode in branches.values()]
    if not moved or max(abs(shift) for shift in moved) > NOTHING_CM1:
        return None
    low = run.phonons["low_level"]
    return (
        f"{level_name(entry.level)}, {entry.title}: the fit kept nothing of its last step above the noise of the "
        f"labels, so these are the phonons of {low}, and their bars say nothing about {level_name(entry.level)}."
    )


def _levels(entries: Sequence[Entry]) -> list[str]:
    order = list(NAMES)
    found = dict.fromkeys(e.level for e in entries)
    return sorted(found, key=lambda level: order.index(level) if level in order else len(order))


def _headline(entries: Sequence[Entry], runs: Mapping[str, Run]) -> dict[str, Run]:
    """Level -> the run shown first for it, named by level and kind."""
    wanted = entries[0].crystal_settings.headline
    chosen = {
        level: e for level in _levels(entries) for e in entries if (e.level, e.family) == (level, wanted.get(level))
    }
    several = len({e.family for e in chosen.values()}) > 1  # then the kind belongs to the name
    return {
        level: _called(runs[e.name], f"{level_name(level)}, {e.title}" if several else level_name(level))
        for level, e in chosen.items()
    }


def _called(run: Run, name: str) -> Run:
    return replace(
        run,
        spectra=replace(run.spectra, name=name),
        isotopes={k: replace(s, name=name) for k, s in run.isotopes.items()},
    )


def _across(
    runs: Sequence[Run], measured: Sequence[Measured], title: str, harmonic: Sequence[Measured] = (), note: str = ""
) -> PageTable:
    """Modes at GAMMA, X and L against runs; the measured values with the anharmonic shift removed below their mode."""
    heads, lines = summary(runs, measured)
    for m in harmonic:
        name = f"{style.greek(m.label)} {m.branch}"
        place = next((i for i, line in enumerate(lines) if line[0] == name), None)
        if place is not None and heads[-1] == "experiment":
            empty = [""] * (len(heads) - 2)
            lines.insert(place + 1, [SHIFT_REMOVED, *empty, with_sigma(m.cm1, m.sigma_cm1)])
    return PageTable(title, note, heads, lines)


def _drawn(run: Run) -> list[Measured]:
    return run.experiment.drawn(run.spectra.isotope)


def _draw(story: CrystalStory, shown: Mapping[str, Run], figures: Path, crystal: str) -> None:
    """Dispersions (natural masses, and those of a measured isotope), densities of states, shifts."""
    runs = list(shown.values())
    spectra = [run.spectra for run in runs]
    note = "Lines: mean, shaded: ± σ. Tick the boxes to choose; point at a branch to read it."
    story.charts.append(Chart(f"{crystal}-natural", "", note, payload(colours(spectra, None), _drawn(runs[0]))))
    drawn = dispersion(spectra, None, _drawn(runs[0]), story.title)
    style.save(drawn, figures / f"{crystal}_dispersion")
    for isotope in runs[0].isotopes:
        others = [run.isotopes[isotope] for run in runs if isotope in run.isotopes]
        measured = runs[0].experiment.drawn(isotope)
        title = f"{isotope}, with the measured dispersion"
        text = "The same force constants with other masses, because that is what was measured."
        story.charts.append(Chart(f"{crystal}-{isotope}", title, text, payload(colours(others, None), measured)))
        style.save(dispersion(others, None, measured, f"{story.title}: {isotope}"), figures / f"{crystal}_{isotope}")
        with_masses = [replace(r, spectra=r.isotopes[isotope]) for r in runs if isotope in r.isotopes]
        labelled = runs[0].experiment.labelled_for(isotope)
        table = _across(with_masses, labelled, f"{isotope} against experiment", (), text)
        story.tables.insert(0, replace(table, open=True))
    dos = densities_of_states(spectra, story.title)
    caption = "Harmonic, by the tetrahedron method, per primitive cell; shaded: ± σ over members or draws."
    story.figures.append(_figure(dos, figures / f"{crystal}_dos", "Densities of states", caption))
    moved = {run.spectra.name: run.phonons["shift_cm1"] for run in runs if run.phonons.get("low_level") == "DFT"}
    if moved:
        colours_of = {run.spectra.name: style.CYCLE[i % len(style.CYCLE)] for i, run in enumerate(runs)}
        figure = mode_shifts(moved, "DFT", labels=("GAMMA", "X", "L"), colours=[colours_of[name] for name in moved])
        caption = "Higher level minus DFT, member by member, so that what both share cancels."
        story.figures.append(_figure(figure, figures / f"{crystal}_shifts", "Shift per mode", caption))


def _figure(figure: Any, stem: Path, title: str, caption: str) -> PageFigure:
    return PageFigure(title, caption, style.save(figure, stem)[1], round(95 * figure.get_figwidth()))


def _splitting(entries: Sequence[Entry], runs: Mapping[str, Run]) -> PageTable | None:
    """LO and TO at GAMMA of every run, their distance and (LO/TO)^2 = eps_0/eps_inf, member by member."""
    lines = []
    for e in entries:
        point = runs[e.name].spectra.points.get("GAMMA")
        if point is None or not {"LO", "TO"} <= set(point.branches):
            continue
        to, lo = (point.frequencies[:, point.branches.index(name)] for name in ("TO", "LO"))
        cells = [_cell(values) for values in (to, lo, lo - to)]
        ratio = over_members((lo / to) ** 2)
        spread = f" ± {float(ratio.sigma):.2f}" if np.isfinite(ratio.sigma) else ""
        lines.append([f"{level_name(e.level)}, {e.title}", *cells, f"{float(ratio.mean):.2f}{spread}"])
    if not lines:
        return None
    first = runs[entries[0].name]
    known = {m.branch: m for m in first.experiment.labelled_for(first.spectra.isotope) if m.label == "GAMMA"}
    if {"LO", "TO"} <= set(known):
        (a, da), (b, db) = ((known[name].cm1, known[name].sigma_cm1) for name in ("TO", "LO"))
        ratio_sigma = 2 * (b / a) ** 2 * np.hypot(da / a, db / b)
        cells = [with_sigma(a, da), with_sigma(b, db), with_sigma(b - a, float(np.hypot(da, db)))]
        lines.append(["experiment", *cells, f"{(b / a) ** 2:.2f} ± {ratio_sigma:.2f}"])
    nac = first.phonons["protocol"].get("nac") or {}
    source = nac.get("source", "none") if isinstance(nac, Mapping) else nac
    note = f"cm⁻¹ at Γ. (LO/TO)² is ε₀/ε∞ (Lyddane, Sachs, Teller). Non-analytical term of all: {source}."
    heads = ["", "TO", "LO", "LO − TO", "(LO/TO)²"]
    return PageTable("Splitting of LO and TO", note, heads, lines, open=True)


def _cell(values: np.ndarray) -> str:
    e = over_members(values)
    return with_sigma(float(e.mean), float(e.sigma) if np.isfinite(e.sigma) else None)


def _dynamics(entry: Entry, run: Run) -> tuple[str, PageFigure | None, PageTable] | None:
    """Harmonic against anharmonic: what molecular dynamics of the full potential changes."""
    found = run.phonons.get("dynamics")
    if not found:
        return None
    protocol, quality = found["protocol"], found["quality"]
    against = found["full_against_harmonic_md"] or found["full_against_harmonic"]
    heads = ["", "all atoms", *(elements := [e for e in found["sigma_a"] if e != "total"])]
    keys = ["total", *elements]

    def pair(name: str, key: str) -> str:
        value, sigma = against[f"{name}_{key}_cm1"], against.get(f"{name}_{key}_sigma_cm1")
        return with_sigma(value, sigma)

    lines = [
        ["mean frequency, full − harmonic", *[pair("mean_shift", k) for k in keys]],
        ["distance of the spectra (W1)", *[pair("w1", k) for k in keys]],
        ["anharmonic share of the forces (σᴬ)", *[_share(found["sigma_a"][k]) for k in keys]],
    ]
    full = quality["full"]
    about = (
        f"{protocol['temperature']:g} K, classical nuclei, {protocol['n_replicas']} replicas of "
        f"{protocol['supercell_atoms']} atoms, {full['production_ps']:.1f} ps each, time step "
        f"{protocol['time_step']:g} fs, energy drift {full['energy_drift_meV_atom_ps']:+.4f} meV/atom/ps, "
        f"lines resolved to {protocol['resolution_cm1']:.0f} cm⁻¹. Harmonic: the potential's own force constants, same "
        "code, cell and seeds. cm⁻¹ except for the share."
    )
    title = f"{level_name(entry.level)}, {entry.title}"
    picture = run.directory / "figures" / "anharmonic_dos.png"
    shown = None
    if picture.is_file():
        caption = "Above: densities of states from full and harmonic dynamics; below: their difference, ± one sigma."
        shown = PageFigure(title, caption, picture, 608)
    return title, shown, PageTable(title, about, heads, lines, open=True)


def _share(value: Any) -> str:
    """A number with its error, as dynamics.json holds it: a pair, or a number alone."""
    if isinstance(value, list | tuple):
        return f"{value[0]:.3f} ± {value[1]:.3f}"
    return f"{value:.3f}"
