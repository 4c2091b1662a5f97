"""Controls compute phonons the way the evaluation does, the non-analytical term included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlffx.data.crystal import Crystal
from mlffx.evaluation.control_context import Context
from mlffx.evaluation.control_runs import _key
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.members import Members
from mlffx.evaluation.progress import Tracker
from mlffx.lattice.nac import Nac
from mlffx.potentials.build import build_potential
from mlffx.training.run_directory import RunDirectory

ROCKSALT = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
NAC = Nac(np.array([np.eye(3), -np.eye(3)]), 3.6 * np.eye(3), "made up")
PAIRS = {"unlike": [75, 0.33], "anion": [30, 0.4]}
IONS = build_potential({"kind": "ionic_twin", "charge": 0.52, "repulsion": PAIRS})


def context(nac: Nac | None) -> Context:
    nothing: Any = None  # what only the fits of controls use
    quick = PhononSettings(supercell=[[2, 0, 0], [0, 2, 0], [0, 0, 2]], cross_check=False, points_per_segment=5)
    run = RunDirectory(Path("run"))
    return Context(run, nothing, nothing, Members([IONS], "single"), nothing, ROCKSALT, quick, Tracker(False), nac=nac)


def test_lo_and_to_are_split_as_in_the_evaluation() -> None:
    polar, plain = (context(nac).spectra(Members([IONS], "single"), "ions").points["GAMMA"] for nac in (NAC, None))
    assert set(polar.branches) >= {"LO", "TO"} and "LO" not in plain.branches
    highest = polar.estimate().mean.max()
    assert highest > 1.2 * plain.estimate().mean.max()
    to = float(polar.estimate().mean[polar.branches.index("TO")])
    assert to == pytest.approx(float(plain.estimate().mean.max()), rel=1e-3)


def test_a_verdict_without_the_term_is_not_taken_for_one_with_it() -> None:
    assert _key(context(NAC)) != _key(context(None)) and _key(context(NAC)) == _key(context(NAC))
