"""The schema of a preset (conf/preset): which crystals, kinds of potential and levels, and what is done to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlffx.config import read_settings
from mlffx.errors import UserError, nearest

STEPS = ("train", "evaluate", "controls", "dynamics")


@dataclass(frozen=True)
class FamilySettings:
    """One kind of potential, fitted to several levels.

    Attributes:
        title: for heads of columns.
        says: what is fitted to what, in a sentence.
        train: overrides of train.py; `level=` is added.
        levels: names of the levels, in the order shown. Those whose file is not there are left out, with the reason.
        overrides: level -> further overrides of train.py for that level alone.
        titles: level -> what to call it there instead, where it is something else (the base of a delta).
        controls: level -> as `controls` of evaluate.py.
        dynamics: level -> overrides of evaluate.py that switch molecular dynamics on.
        seconds: step -> what it took where it was measured, for the estimate of what is to come.
        first_seconds: of the first training, which may train a base all levels share.
        enabled: false leaves the kind out.
    """

    title: str
    says: str
    train: list[str]
    levels: list[str]
    overrides: dict[str, list[str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    controls: dict[str, Any] = field(default_factory=dict)
    dynamics: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    first_seconds: float = 0.0
    enabled: bool = True


@dataclass(frozen=True)
class CrystalSettings:
    """One crystal with all its kinds of potential.

    Attributes:
        title: for people.
        evaluate: overrides of evaluate.py for every run of this crystal.
        families: name -> kind of potential.
        headline: level -> the kind whose value is shown first for it, and drawn.
        left_out: what a reader might look for -> why it is not there.
    """

    title: str
    families: dict[str, FamilySettings]
    headline: dict[str, str]
    evaluate: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PresetSettings:
    """A whole study.

    Attributes:
        name: of the preset, as on the command line.
        title: head of the page.
        about: what the study is and where its choices come from, a paragraph each.
        output: directory of runs, status and report.
        crystals: name -> crystal.
        train: overrides of train.py for every run.
        evaluate: overrides of evaluate.py for every run.
        levels: keep only these; empty keeps all.
        controls, dynamics: false leaves them out everywhere.
    """

    name: str
    title: str
    output: str
    crystals: dict[str, CrystalSettings]
    about: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    evaluate: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    controls: bool = True
    dynamics: bool = True

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> PresetSettings:
        """Check a composed preset.

        Raises:
            UserError: for unknown keys, and for kinds and steps that are not there.
        """
        found = read_settings(cls, values, "preset")
        for name, crystal in found.crystals.items():
            where = f"preset.crystals.{name}"
            for level, family in crystal.headline.items():
                _known(family, crystal.families, f"{where}.headline.{level}")
            for key, family_settings in crystal.families.items():
                for step in family_settings.seconds:
                    _known(step, STEPS, f"{where}.families.{key}.seconds")
                for level in (*family_settings.controls, *family_settings.dynamics, *family_settings.overrides):
                    _known(level, family_settings.levels, f"{where}.families.{key}")
        return found


def _known(name: str, valid: Sequence[str] | Mapping[str, Any], where: str) -> None:
    if name not in valid:
        raise UserError(f"no '{name}' here", nearest(name, valid), where)
