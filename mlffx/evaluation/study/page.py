"""The combined report of a study: one self-contained page, from the labels to the commands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mlffx.data.levels import level_name
from mlffx.errors import UserError
from mlffx.evaluation.answer import QUESTION, answer
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.outputs import read_json
from mlffx.evaluation.overlay import write_summary
from mlffx.evaluation.report import PageFile, Tile, flatten
from mlffx.evaluation.stored import Run
from mlffx.evaluation.study.crystal import SHIFT_REMOVED, CrystalStory, tell
from mlffx.evaluation.study.plan import Entry, LeftOut, Plan
from mlffx.evaluation.study.record import Outcome, Record, span
from mlffx.evaluation.study.tables import markdown
from mlffx.training.run_directory import RunDirectory, environment

ALWAYS = {  # controls of every evaluation
    "residuals": "Do residuals grow with amplitude?",
    "noise": "Was noise of the labels learned?",
    "truth": "Are the true phonons of the twin recovered?",
}
SIGMA = (
    "± is one standard deviation over members of an ensemble and draws from the posteriors of least-squares fits, "
    "scaled by the factor the analytic twin calls for. It does not contain what all share: supercell, lattice "
    "constant, harmonic approximation; what the form of the model adds is the spread between kinds of potential."
)


@dataclass(frozen=True)
class TrainingLine:
    """A row of the table of what was trained on what."""

    crystal: str
    kind: str
    level: str
    labels: str
    structures: str
    error: str
    forces: str
    took: str


@dataclass(frozen=True)
class SingleRun:
    """What the page says of one run, with the way to its own report.

    Attributes:
        name, title: of the run.
        link: its report, relative to the page.
        train, evaluate: the command lines that make it alone.
        scores: (group, method, points, mean absolute error, bias) against experiment.
        verdicts, warnings: of its evaluation.
    """

    name: str
    title: str
    link: str
    train: str
    evaluate: str
    scores: list[tuple[str, str, int, str, str]]
    verdicts: list[Verdict]
    warnings: list[str]


@dataclass(frozen=True)
class Failure:
    """A part that is not there, and why."""

    name: str
    state: str
    reason: str
    log: str


def write_study(plan: Plan, record: Record, command: str = "") -> Path:
    """Write `report.html`, `summary.csv`, `tables.md` and figures of what has been evaluated; returns the page."""
    output = plan.output
    output.mkdir(parents=True, exist_ok=True)
    runs = _read(plan, record)
    stories = [
        tell(crystal, entries, runs, output / "figures")
        for crystal in plan.settings.crystals
        if (entries := [e for e in plan.entries if e.crystal == crystal and e.name in runs])
    ]
    if runs:
        write_summary(list(runs.values()), output / "summary.csv")
        (output / "tables.md").write_text(markdown(stories), encoding="utf-8")
    view = _view(plan, record, runs, stories, command)
    templates = files("mlffx.evaluation") / "templates"
    text = {n: (templates / n).read_text(encoding="utf-8") for n in ("study.html.j2", "report.css", "report.js")}
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = page.from_string(text["study.html.j2"]).render(css=Markup(text["report.css"]), js=text["report.js"], **view)
    (output / "report.html").write_text(html, encoding="utf-8")
    return output / "report.html"


def _read(plan: Plan, record: Record) -> dict[str, Run]:
    """Evaluations by name of the run, of this call and earlier ones; one that cannot be read is a failed part."""
    found: dict[str, Run] = {}
    for entry in plan.entries:
        if record.missing([f"{entry.name} evaluate"]):
            continue
        try:
            found[entry.name] = Run.read(entry.path)
        except (UserError, OSError, ValueError, KeyError) as error:
            record.set(f"{entry.name} evaluate", "failed", reason=f"the evaluation cannot be read: {error}")
    return found


def _view(
    plan: Plan, record: Record, runs: Mapping[str, Run], stories: Sequence[CrystalStory], command: str
) -> dict[str, Any]:
    """What the template reads."""
    settings, evaluated = plan.settings, [e for e in plan.entries if e.name in runs]
    worked = sum(o.seconds or 0.0 for o in record.outcomes.values())
    first = evaluated[0] if evaluated else None
    protocols: dict[str, list[tuple[str, str]]] = {}
    for e in evaluated:
        protocols.setdefault(e.crystal, list(flatten(runs[e.name].phonons["protocol"])))
    versions = environment({})
    return {
        "title": settings.title,
        "about": settings.about,
        "subtitle": f"{len(runs)} of {len(plan.entries)} potentials of {' and '.join(s.title for s in stories)}; "
        f"{span(worked)} of training and evaluation; {time.strftime('%Y-%m-%d')}.",
        "tiles": _tiles(stories),
        "question": QUESTION,
        "answers": _answers(evaluated, runs),
        "training": [_training_line(e, runs[e.name]) for e in evaluated],
        "hashes": _hashes(evaluated),
        "controls": [(_title(e), v) for e in evaluated for v in runs[e.name].verdicts if v.name not in ALWAYS],
        "always": _always(evaluated, runs),
        "stories": stories,
        "sigma": SIGMA,
        "singles": [_single(plan, e, runs[e.name]) for e in evaluated],
        "failures": [_failure(name, o) for name, o in record.outcomes.items() if o.state in ("failed", "impossible")],
        "left_out": _grouped(plan.left_out),
        "protocols": [(plan.settings.crystals[k].title, lines) for k, lines in protocols.items()],
        "versions": [("mlffx commit", str(versions["commit"])), ("python", versions["python"])]
        + [(name, str(number)) for name, number in versions["versions"].items()],
        "outcomes": [
            (name, o, span(o.seconds) if o.seconds is not None else "") for name, o in record.outcomes.items()
        ],
        "commands": _commands(plan, first, command),
        "files": [
            PageFile(p)
            for p in (plan.output / name for name in ("summary.csv", "tables.md", "status.json"))
            if p.is_file()
        ],
    }


def _answers(entries: Sequence[Entry], runs: Mapping[str, Run]) -> list[tuple[str, str]]:
    """(run, answer) to the referee's first question, of every run whose labels were shuffled."""
    asked = [e for e in entries if any(v.name == "shuffled" and v.numbers for v in runs[e.name].verdicts)]
    found = [(_title(e), runs[e.name]) for e in asked]
    return [(name, answer(run.phonons["low_level"], run.phonons["shift_cm1"], run.verdicts)) for name, run in found]


def _always(entries: Sequence[Entry], runs: Mapping[str, Run]) -> list[tuple[str, list[tuple[str, Verdict]]]]:
    """(question, verdicts of every run) of the controls that every evaluation has; they would bury the others."""
    groups = {
        name: [(_title(e), v) for e in entries for v in runs[e.name].verdicts if v.name == name] for name in ALWAYS
    }
    return [(ALWAYS[name], verdicts) for name, verdicts in groups.items() if verdicts]


def _title(entry: Entry) -> str:
    return f"{entry.crystal_settings.title}, {level_name(entry.level)}, {entry.title}"


def _tiles(stories: Sequence[CrystalStory]) -> list[Tile]:
    """The optical modes at GAMMA of the highest level of each crystal, and of experiment."""
    tiles = []
    for story in stories:
        if story.headline is None:
            continue
        heads = story.headline.heads
        measured = heads[-1] == "experiment"
        levels = heads[1:-1] if measured else heads[1:]
        for line in story.headline.rows:
            if line[0].startswith("Γ"):
                tiles.append(Tile(f"{story.title}, {line[0]}", line[len(levels)], f"cm⁻¹, {levels[-1]}"))
                if measured and line[-1]:
                    tiles.append(Tile(f"{story.title}, {line[0]}", line[-1], "cm⁻¹, experiment"))
            elif line[0] == SHIFT_REMOVED and tiles:
                tiles[-1] = replace(tiles[-1], note=f"{tiles[-1].note}; {line[-1]} with the {SHIFT_REMOVED}")
    return tiles


def _training_line(entry: Entry, run: Run) -> TrainingLine:
    metrics = read_json(entry.path / "metrics.json")
    difference = metrics.get("test_difference_energy_mae_meV_per_atom")
    error = difference if difference is not None else metrics.get("test_energy_mae_meV_per_atom")
    forces = metrics.get("test_forces_mae_meV_per_A")
    low = run.phonons.get("low_level")
    frames = metrics.get("train_frames")
    what = "energies and forces" if forces is not None and low is None else "energies"
    if low is not None:
        below = entry.config["potential"].get("low") or entry.config["data"]["low"]
        what += f" of {level_name(entry.level)} minus {level_name(below)}"
    took = metrics.get("train_seconds")
    return TrainingLine(
        crystal=entry.crystal_settings.title,
        kind=entry.title,
        level=level_name(entry.level),
        labels=what,
        structures=str(frames or ""),
        error="" if error is None else f"{error:.3f}",
        forces="" if forces is None else f"{forces:.1f}",
        took="" if took is None else span(took),
    )


def _hashes(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for entry in entries:
        found |= read_json(entry.path / "environment.json").get("data", {})
    return sorted(found.items())


def _single(plan: Plan, entry: Entry, run: Run) -> SingleRun:
    scores = []
    for group in ("all", "acoustic", "optical"):
        for method, s in run.phonons["scores"].get(group, {}).items():
            name = level_name(entry.level) if method == "model" else str(run.phonons["low_level"])
            scores.append((group, name, int(s["n"]), f"{s['mae']:.1f}", f"{s['bias']:+.1f}"))
    link = Path(entry.path / "evaluation" / "report.html").relative_to(plan.output)
    evaluate = f"python evaluate.py run={entry.path} {' '.join(map(quoted, entry.evaluation))}"
    return SingleRun(
        name=entry.name,
        title=_title(entry),
        link=link.as_posix(),
        train=f"python train.py {' '.join(map(quoted, entry.overrides))} run_dir={entry.path}",
        evaluate=evaluate.strip(),
        scores=scores,
        verdicts=run.verdicts,
        warnings=list(run.phonons["warnings"]),
    )


def quoted(override: str) -> str:
    """An override as a shell takes it."""
    return f"'{override}'" if any(c in override for c in " []{}(),'\"$*") else override


def _failure(name: str, outcome: Outcome) -> Failure:
    return Failure(name, outcome.state, outcome.reason, outcome.log)


def _grouped(left_out: Sequence[LeftOut]) -> list[tuple[str, list[str]]]:
    """Reason -> what is missing because of it."""
    found: dict[str, list[str]] = {}
    for x in left_out:
        found.setdefault(x.reason, []).append(x.name)
    return list(found.items())


def _commands(plan: Plan, first: Entry | None, command: str) -> list[str]:
    lines = []
    commit = RunDirectory(first.path).path / "environment.json" if first else None
    if commit is not None and (found := read_json(commit).get("commit")):
        lines.append(f"git checkout {str(found).removesuffix('+changes')}")
    lines.append("python -m mlffx.data fetch            # the labels, once; or data.root=DIR in preset.train")
    lines.append(command or f"python evaluate.py preset={plan.settings.name}")
    return lines
