"""`python -m mlffx.active`: the structures to label next, for a trained run.

python -m mlffx.active choose run=RUN_DIR n=20 out=next.xyz [pool=FILE] [by=phonons|energy]
python -m mlffx.active loop run=RUN_DIR rounds=3 n=20 engine='python my_engine.py {structures} {labels}'

Without pool=, the frames of the run's data set that its level has no label for are the pool.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import yaml
from ase import Atoms
from rich.console import Console

from mlffx.active.acquisition import Criterion, Learner
from mlffx.active.loop import rounds
from mlffx.command_line import AGAIN, exit_status
from mlffx.config import read_settings
from mlffx.errors import UserError, nearest


@dataclass(frozen=True)
class ChooseSettings:
    """Keys of `choose`."""

    run: str
    out: str
    n: int = 20
    pool: str | None = None
    by: Criterion = "phonons"
    samples: int = 32


@dataclass(frozen=True)
class LoopSettings:
    """Keys of `loop`."""

    run: str
    engine: str
    rounds: int = 3
    n: int = 20
    by: Criterion = "phonons"
    samples: int = 32


def choose_next(settings: ChooseSettings, console: Console) -> None:
    """Write the structures to label next, the most telling first."""
    learner = Learner.of(settings.run, settings.samples)
    pool = pool_of(learner, settings.pool)
    choice = learner.choose(pool, settings.n, settings.by)
    frames = []
    for index, doubt in zip(choice.indices, choice.doubt, strict=True):
        frame = pool[index].copy()
        frame.calc = None
        frame.info = {"pool_index": int(index), "doubt_meV_per_atom": round(float(doubt), 4)}
        frames.append(frame)
    Path(settings.out).parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(settings.out, frames, format="extxyz")
    left = 100 * choice.after / choice.before if choice.before else 100.0
    what = "force constants" if settings.by == "phonons" else "energies"
    console.print(
        f"{len(frames)} of {len(pool)} structures into {settings.out}; their energies are uncertain by "
        f"{choice.doubt.min():.3f} to {choice.doubt.max():.3f} meV/atom. "
        f"Labelled, they should bring the doubt about {what} down to {left:.0f} %.",
        highlight=False,
        soft_wrap=True,
    )


def pool_of(learner: Learner, file: str | None) -> list[Atoms]:
    """Structures of a file, or the frames of the data set without a label.

    Raises:
        UserError: when there are none.
    """
    if file is None:
        frames = learner.unlabelled()
        if not len(frames):
            raise UserError("every frame of the data set is labelled", "give a pool of structures: pool=FILE", "pool")
        return [learner.task.dataset.atoms[k] for k in frames]
    if not Path(file).is_file():
        raise UserError("no such file", "give structures in any format ASE reads", f"pool={file}")
    try:
        found: Any = ase.io.read(file, index=":")
    except Exception as error:  # ASE's readers raise what they like
        raise UserError(f"ASE cannot read it ({str(error).splitlines()[0]})", "convert it", f"pool={file}") from error
    return list(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status (mlffx/command_line.py)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    return exit_status(lambda: _run(given[0], given[1:]), AGAIN)


def _run(command: str, arguments: Sequence[str]) -> None:
    console = Console()
    if command == "choose":
        choose_next(read_settings(ChooseSettings, _pairs(arguments), ""), console)
    elif command == "loop":
        settings = read_settings(LoopSettings, _pairs(arguments), "")
        for r in rounds(settings.run, settings.rounds, settings.n, settings.engine, settings.by, settings.samples):
            console.print(f"{len(r.choice.indices)} new labels: {r.trained}", highlight=False, soft_wrap=True)
    else:
        raise UserError(f"no command '{command}'", nearest(command, ("choose", "loop")), "command line")


def _pairs(arguments: Sequence[str]) -> dict[str, Any]:
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(f"'{argument}' is not understood", "write KEY=VALUE", "command line")
        number = key in ("n", "rounds", "samples")
        found[key] = yaml.safe_load(value) if number else value
    return found


if __name__ == "__main__":
    sys.exit(main())
