"""A crystal and a run directory shared by the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import TWIN, difference, write_run

from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.potentials.sum import SumPotential


@pytest.fixture(scope="session")
def diamond() -> Crystal:
    return Crystal.from_prototype("diamond", ["C"], 3.56074511)


@pytest.fixture(scope="session")
def delta_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four members scattered about the exact difference of the twin's levels, on its exact low level."""
    low = twin_potentials(TWIN)["low"]
    members = [SumPotential({"base": low, "delta": difference(scale)}) for scale in (0.95, 0.98, 1.02, 1.05)]
    return write_run(tmp_path_factory.mktemp("runs") / "delta", members)
