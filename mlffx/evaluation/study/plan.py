"""From a preset to parts: every run that is possible, what each step needs and will take, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mlffx.compose import composed, plain
from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.levels import level_name
from mlffx.errors import UserError
from mlffx.evaluation.settings import EvaluateSettings
from mlffx.evaluation.study.settings import CrystalSettings, FamilySettings, PresetSettings
from mlffx.training.entry import base_config
from mlffx.training.settings import TrainSettings
from mlffx.training.train import cached_run

Step = Literal["train", "evaluate", "controls", "dynamics"]
DEFAULT_SECONDS: dict[str, float] = {"train": 10, "evaluate": 30, "controls": 180, "dynamics": 180}


@dataclass(frozen=True)
class Entry:
    """One run of the study.

    Attributes:
        crystal, family, level: which.
        crystal_settings, settings: what the preset says of its crystal and family.
        overrides: of train.py.
        config: composed from them, the configuration of the base under `base`.
        path: run directory; decided by configuration and data, so that it is trained once.
        evaluation: overrides of evaluate.py for the harmonic part.
        controls: names or `all`; empty for none.
        dynamics: overrides of evaluate.py that switch it on; empty for none.
    """

    crystal: str
    family: str
    level: str
    crystal_settings: CrystalSettings
    settings: FamilySettings
    overrides: list[str]
    config: dict[str, Any]
    path: Path
    evaluation: list[str]
    controls: Any = ()
    dynamics: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.crystal}/{self.family}/{self.level}"

    @property
    def title(self) -> str:
        """Of its kind of potential, for people."""
        return self.settings.titles.get(self.level, self.settings.title)

    def evaluate_settings(self, dynamics: bool = False) -> EvaluateSettings:
        return _evaluate_settings((*self.evaluation, *(self.dynamics if dynamics else [])))


@cache
def _evaluate_settings(overrides: tuple[str, ...]) -> EvaluateSettings:
    """The same for all runs of a crystal: composed once."""
    return EvaluateSettings.compose(overrides)


@dataclass(frozen=True)
class Part:
    """One step of one run.

    Attributes:
        entry: which run.
        step: what is done.
        seconds: estimate, from the preset.
    """

    entry: Entry
    step: Step
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.entry.name} {self.step}"

    @property
    def needs(self) -> list[str]:
        """Names of the parts without which this one cannot be."""
        before: dict[Step, list[Step]] = {
            "train": [], "evaluate": ["train"], "controls": ["train", "evaluate"], "dynamics": ["train", "evaluate"],
        }  # fmt: skip
        return [f"{self.entry.name} {step}" for step in before[self.step]]


@dataclass(frozen=True)
class LeftOut:
    """Something a reader may look for, and why it is not there."""

    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Attributes:
    settings: the preset.
    entries: runs, in the order of the preset.
    parts: their steps: all trainings and evaluations first, then what takes long.
    left_out: levels without labels, and what the preset leaves out on purpose.
    """

    settings: PresetSettings
    entries: list[Entry]
    parts: list[Part]
    left_out: list[LeftOut]

    @property
    def output(self) -> Path:
        return Path(self.settings.output)


def make_plan(settings: PresetSettings, evaluate_overrides: Sequence[str] = ()) -> Plan:
    """Compose and check every run of a preset; nothing is trained.

    Args:
        evaluate_overrides: of the command line, for every evaluation.

    Raises:
        UserError: for a mistake in the preset, or where no labels are there at all.
    """
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    known: dict[str, LabelledSet] = {}
    for crystal, about in settings.crystals.items():
        left_out += [LeftOut(f"{about.title}, {name}", reason) for name, reason in about.left_out.items()]
        for family, kind in about.families.items():
            for level in kind.levels:
                if not kind.enabled or (settings.levels and level not in settings.levels):
                    continue
                overrides = _train_overrides(settings, kind, level)
                values = plain(composed("train", overrides))
                try:
                    labels = _require(TrainSettings.read(values), known)
                except UserError as error:
                    if error.where != "level" or "is not there" not in error.what:
                        raise
                    left_out.append(LeftOut(f"{about.title}, {level_name(level.upper())} {kind.title}", error.what))
                    continue
                base = base_config(values, overrides)
                config = values if base is None else values | {"base": base}
                entries.append(
                    Entry(
                        crystal=crystal,
                        family=family,
                        level=level,
                        crystal_settings=about,
                        settings=kind,
                        overrides=overrides,
                        config=config,
                        path=cached_run(config, values["cache_dir"], labels.hashes),
                        evaluation=[*about.evaluate, *settings.evaluate, *evaluate_overrides],
                        controls=kind.controls.get(level, ()) if settings.controls else (),
                        dynamics=kind.dynamics.get(level, []) if settings.dynamics else [],
                    )
                )
    if not entries:
        raise UserError("no run is possible", "; ".join(f"{x.name}: {x.reason}" for x in left_out), "preset")
    for entry in entries:  # mistakes show before anything is trained
        entry.evaluate_settings(dynamics=bool(entry.dynamics))
    return Plan(settings, entries, _parts(entries), left_out)


def _train_overrides(settings: PresetSettings, kind: FamilySettings, level: str) -> list[str]:
    """What would be typed after `train.py`; the run's own directory is decided by its content."""
    own = kind.overrides.get(level, [])
    return [*kind.train, f"level={level}", *own, *settings.train, f"cache_dir={settings.output}/runs"]


def _require(settings: TrainSettings, known: dict[str, LabelledSet]) -> LabelledSet:
    """The data set of a run, read once; its labels are there."""
    key = json.dumps(settings.data, sort_keys=True, default=str)
    if key not in known:
        known[key] = load_dataset(settings.data)
    known[key].require(settings.level.name)
    return known[key]


def _parts(entries: Sequence[Entry]) -> list[Part]:
    parts: list[Part] = []
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for step in ("train", "evaluate"):
            parts.append(Part(entry, step, _seconds(entry, step)))
        if (key := (entry.crystal, entry.family)) not in seen:
            seen.add(key)
            first = parts[-2]
            parts[-2] = Part(entry, "train", max(first.seconds, entry.settings.first_seconds))
    parts += [Part(e, "controls", _seconds(e, "controls")) for e in entries if e.controls not in ((), [], "none", None)]
    return parts + [Part(e, "dynamics", _seconds(e, "dynamics")) for e in entries if e.dynamics]


def _seconds(entry: Entry, step: str) -> float:
    return float(entry.settings.seconds.get(step, DEFAULT_SECONDS[step]))
