"""Rounds of choosing, labelling and training again, with any engine that is started by a command.

The engine gets a file of structures and writes one of labelled structures in the layout of the level's own file, to
which they are appended. Every round is a run directory of its own, trained with the configuration of the first.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import yaml

from mlffx.active.acquisition import Choice, Criterion, Learner
from mlffx.errors import UserError
from mlffx.training.run_directory import RunDirectory
from mlffx.training.train import train


@dataclass(frozen=True)
class Round:
    """One round: what was chosen by which run, and the run that learned from it."""

    choice: Choice
    asked_by: Path
    trained: Path


def rounds(
    run: Path | str, n_rounds: int, n: int, engine: str, by: Criterion = "phonons", samples: int = 32
) -> Iterator[Round]:
    """Choose among the unlabelled frames of the run's data set, label them, append, train again; and so on.

    Args:
        run: the first run, finished, on a data set of files some of whose frames have no label at its level.
        n_rounds: how many.
        n: structures a round; the last may get fewer.
        engine: command with {structures} and {labels} in the place of two file names (extended XYZ).
        by: see `Learner.choose`.
        samples: draws from the posterior of a closed-form fit.

    Raises:
        UserError: for an engine that fails, or labels of something else than was asked for.
    """
    check_engine(engine)
    current, first = Path(run), Path(run)
    for number in range(1, n_rounds + 1):
        learner = Learner.of(current, samples)
        pool = learner.unlabelled()
        if not len(pool):
            return
        file = label_file(learner)
        structures = [learner.task.dataset.atoms[k] for k in pool]
        choice = learner.choose(structures, min(n, len(pool)), by)
        trained = first.with_name(f"{first.name}-round{number}")
        asked, answered = trained / "asked.xyz", trained / "labels.xyz"
        trained.mkdir(parents=True, exist_ok=True)
        ase.io.write(asked, [structures[k] for k in choice.indices], format="extxyz")
        start_engine(engine, asked, answered)
        append(answered, len(choice.indices), file)
        config, base = configuration(current)
        yield Round(choice, current, train({**config, "run_dir": str(trained)}, base, directory=trained))
        current = trained


def label_file(learner: Learner) -> Path:
    """File that holds the level's labels, to which new ones go.

    Raises:
        UserError: where labels are not in extended XYZ, or come from elsewhere.
    """
    data, level = learner.settings.data, learner.settings.level.name
    declared = learner.task.dataset.levels[level].file
    if data.get("kind") != "files" or declared is None or declared.suffix not in (".xyz", ".extxyz"):
        raise UserError(
            f"labels of '{data.get('name')}' cannot be added to",
            "active learning needs data of kind files, extended XYZ",
        )
    return Path(str(data.get("root") or ".")) / declared


def check_engine(engine: str) -> None:
    """Refuse a command that does not name both files, before any work starts."""
    if "{structures}" not in engine or "{labels}" not in engine:
        raise UserError(f"'{engine}'", "name both files: 'python my_engine.py {structures} {labels}'", "engine")


def start_engine(engine: str, structures: Path, labels: Path) -> None:
    """Run the engine's command and see that it wrote its labels.

    Raises:
        UserError: when it did not.
    """
    words = [w.replace("{structures}", str(structures)).replace("{labels}", str(labels)) for w in shlex.split(engine)]
    try:
        status = subprocess.run(words).returncode
    except OSError as error:
        raise UserError(f"'{words[0]}' cannot be started ({error.strerror})", "check the command", "engine") from error
    if status or not labels.is_file():
        raise UserError(f"the engine ended with status {status}" + ("" if status else " and no labels"), where=labels)


def append(labels: Path, expected: int, file: Path) -> None:
    """Append labelled frames to the level's file as they are."""
    found = len(ase.io.read(labels, index=":", format="extxyz"))
    if found > expected or not found:
        raise UserError(f"{found} labelled structures for {expected} that were asked for", where=labels)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(labels.read_text(encoding="utf-8"))


def configuration(run: Path) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Configuration of a run and of its base."""
    directory = RunDirectory(run)
    stored = directory.path / "base.yaml"
    return directory.read_config(), yaml.safe_load(stored.read_text()) if stored.is_file() else None
