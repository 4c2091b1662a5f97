"""The base a delta potential stands on: trained first and cached, or a run, an ASE calculator, or force constants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlffx.errors import UserError, nearest
from mlffx.potentials.base import Potential
from mlffx.training.run_directory import load_members
from mlffx.training.settings import TrainSettings

CALCULATOR = "ase:"


def base_members(settings: TrainSettings, train_base: Callable[[], Path]) -> tuple[list[Potential] | None, Path | None]:
    """One base potential for every member of the run, and the run they are from; None where there is no such thing.

    Args:
        settings: of the delta run.
        train_base: trains (or finds in the cache) the base and returns its run directory.

    Raises:
        UserError: for a base that cannot be understood.
    """
    if settings.potential.kind != "delta":
        return None, None
    run: Path | None = None
    base = settings.potential.base
    if base == "train":
        run = train_base()
        found = load_members(run)
    elif base.startswith(CALCULATOR):
        from mlffx.potentials.calculator import CalculatorPotential

        found = [CalculatorPotential.from_name(base.removeprefix(CALCULATOR))]
    elif Path(base).is_dir():
        run = Path(base)
        found = load_members(run)
    elif Path(base).is_file():
        from mlffx.lattice.expansion import load_potential_of

        found = [load_potential_of(Path(base))]
    else:
        kinds = ["train", "a run directory", "ase:NAME", "a file of force constants"]
        raise UserError(f"'{base}' is no base", nearest(base, kinds), "potential.base")
    return [found[k % len(found)] for k in range(settings.ensemble)], run
