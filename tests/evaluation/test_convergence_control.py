"""The convergence control finds coarse settings, and draws what it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlffx.dynamics.convergence import LengthError, TimeStepError
from mlffx.dynamics.labelled import LabelledShift
from mlffx.evaluation.control_convergence import judged
from mlffx.evaluation.figures.anharmonic import anharmonic_shifts
from mlffx.evaluation.figures.convergence import dynamics_convergence, phonon_convergence
from mlffx.evaluation.figures.coverage import coverage
from mlffx.evaluation.figures.style import save
from mlffx.lattice.convergence import Convergence


def studies(scale: float = 1.0) -> list[Convergence]:
    """Errors of the size `scale` cm-1 at the settings in the middle."""
    best = {"GAMMA LTO": 1300.0, "X TA": 800.0}

    def study(setting: str, values: list[float], errors: list[float]) -> Convergence:
        found = {name: f + scale * np.array(errors) for name, f in best.items()}
        return Convergence(setting, values, found, best)

    mesh = Convergence(
        "mesh", [7, 13, 21], {"zero-point energy": np.array([180.4, 180.0, 180.0])}, {"zero-point energy": 180.0}
    )
    return [
        study("displacement", [0.003, 0.01, 0.03], [0.01, 0.1, 0.9]),
        study("supercell", [1, 2, 3], [20, 0.5, 0]),
        mesh,
    ]


USED = {"displacement": 0.01, "supercell": 2.0, "mesh": 13.0}


def test_settings_are_as_good_as_they_need_to_be() -> None:
    near, far = {"GAMMA LTO": 1300.0, "X TA": 800.5}, {"GAMMA LTO": 1300.0, "X TA": 802.5}
    fine = judged(studies(), USED, {}, near)
    assert fine.word == "pass" and fine.numbers["supercell"]["largest_deviation"] == [20, 0.5, 0]
    assert "supercell: 0.5 cm⁻¹ at X TA" in fine.statement
    assert judged(studies(), USED, {}, far).word == "fail"
    assert "does not hold" in judged(studies(), USED, {}, far, ["X"]).statement
    assert "does not hold" not in judged(studies(), USED, {}, near, ["X"]).statement  # fine all the same
    assert judged(studies(), USED, {"X TA": 4.0}, far).word == "pass"  # less than the sigma of the frequencies
    assert judged(studies(20.0), USED, {}, near).word == "fail"  # 2 cm-1 from the displacement
    assert judged(studies(), USED | {"mesh": 7.0}, {"X TA": 9.0}, near).word == "fail"  # sigma does not excuse the mesh


def test_figures_are_drawn(tmp_path: Path) -> None:
    steps = [TimeStepError(dt, 0.1 * dt**2, 0.01) for dt in (2.0, 1.0, 0.5)]
    lengths = [LengthError(ps, 700 + 1 / ps, 2 / ps, 1 / ps) for ps in (0.6, 1.2, 2.4)]
    shifts = [
        LabelledShift("GAMMA", "LTO", 1300.0, -4.0, 1.0, 5.0, 1.0),
        LabelledShift("X", "TA", 800.0, 2.0, 1.0, 5.0, 1.0),
    ]
    drawn = {
        "phonons": phonon_convergence(studies(), USED),
        "dynamics": dynamics_convergence(steps, lengths, 1.0),
        "shifts": anharmonic_shifts(shifts),
        "coverage": coverage({"bare": np.random.default_rng(0).normal(size=50)}),
    }
    for name, figure in drawn.items():
        assert save(figure, tmp_path / name)[1].stat().st_size > 5000
