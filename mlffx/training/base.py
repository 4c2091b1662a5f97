"""The base a delta potential stands on: trained first and cached, or a run, an ASE calculator, or force constants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlffx.errors import UserError, nearest
from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings

CALCULATOR = "ase:"


def load_members(path: Path | str) -> list[Potential]:
    """The trained potentials of a run, one an ensemble member.

    Raises:
        UserError: when the directory is no finished run.
    """
    directory = RunDirectory(path)
    if not directory.path.is_dir():
        raise UserError("no such run directory", "give the directory train.py wrote", path)
    n = int(directory.read_config().get("ensemble", 1))
    return [load_potential(member.best) for member in directory.members(n)]


def base_members(settings: TrainSettings, train_base: Callable[[], Path]) -> list[Potential] | None:
    """One base potential for every member of the run; None where the potential has no base.

    Args:
        settings: of the delta run.
        train_base: trains (or finds in the cache) the base and returns its run directory.

    Raises:
        UserError: for a base that cannot be understood.
    """
    if settings.potential.kind != "delta":
        return None
    base = settings.potential.base
    if base == "train":
        found = load_members(train_base())
    elif base.startswith(CALCULATOR):
        from mlffx.potentials.calculator import CalculatorPotential

        found = [CalculatorPotential.from_name(base.removeprefix(CALCULATOR))]
    elif Path(base).is_dir():
        found = load_members(base)
    elif Path(base).is_file():
        from mlffx.potentials.harmonic import HarmonicPotential

        found = [HarmonicPotential.from_file(Path(base))]
    else:
        kinds = ["train", "a run directory", "ase:NAME", "a file of force constants"]
        raise UserError(f"'{base}' is no base", nearest(base, kinds), "potential.base")
    return [found[k % len(found)] for k in range(settings.ensemble)]
