"""Force constants of members: draws, recalibration, names of branches over members."""

from __future__ import annotations

import numpy as np
import pytest
from twin_runs import QUICK, TWIN, analytic

from mlffx.data.crystal import Crystal
from mlffx.evaluation.frozen import frozen_modes
from mlffx.evaluation.harmonic import disagreement, force_constants, recalibrated, settled, spectra
from mlffx.evaluation.members import Members
from mlffx.evaluation.uncertainty import over_members


def track(items, name):  # type: ignore[no-untyped-def]
    return items


@pytest.mark.parametrize(("fits", "per_fit"), [(1, 16), (4, 4), (2, 8)])
def test_few_draws_about_few_fits_have_honest_bars(fits: int, per_fit: int) -> None:
    """Truth 0; fits share an error of sigma 2, which each claims as its posterior, and scatter by 1 about it.

    Several fits are on the safe side, because the spread between them is not divided by their number.
    """
    rng = np.random.default_rng(0)
    shape = (fits * per_fit, 8000)
    groups = list(np.repeat(range(fits), per_fit))
    own = rng.normal(size=(fits, 8000)) if fits > 1 else 0.0
    centre = own + 2 * rng.normal(size=(1, 8000))
    draws = centre[groups] + 2 * rng.normal(size=shape)
    estimate = over_members(settled(draws, centre[groups], groups))
    assert estimate.mean == pytest.approx(centre.mean(axis=0))
    inside = np.abs(estimate.mean) < estimate.sigma
    assert 0.66 < inside.mean() < (0.72 if fits == 1 else 0.83)


def test_recalibration_scales_every_sigma(diamond: Crystal) -> None:
    low = TWIN["potentials"]["low"]  # type: ignore[index]
    members = Members([analytic(low | {"depth": d}) for d in (3.50, 3.54, 3.58)], "ensemble")
    found = force_constants(members, diamond, QUICK, track)
    narrow = spectra("a", found, QUICK, track, density_of_states=False).points["X"].estimate()
    wide = spectra("a", recalibrated(found, 2.0), QUICK, track, density_of_states=False).points["X"].estimate()
    assert wide.sigma == pytest.approx(2 * narrow.sigma, rel=0.01)
    assert wide.mean == pytest.approx(narrow.mean, rel=1e-3)


def test_equal_potentials_are_computed_once_and_different_ones_are_not(diamond: Crystal) -> None:
    low, high = (analytic(TWIN["potentials"][name]) for name in ("low", "high"))  # type: ignore[index]
    found = force_constants(Members([low, low, high], "ensemble"), diamond, QUICK, track)
    assert found[0] is found[1] and np.abs(found[0].values - found[2].values).max() > 0.1


def test_displacements_and_autodiff_agree(diamond: Crystal) -> None:
    assert disagreement(analytic(TWIN["potentials"]["low"]), diamond, QUICK) < 1e-2  # type: ignore[index]


def test_frozen_phonons_have_the_curvature_of_the_force_constants(diamond: Crystal) -> None:
    modes = frozen_modes(analytic(TWIN["potentials"]["low"]), diamond, QUICK)  # type: ignore[index]
    assert len(modes) == 3
    for mode in modes:
        assert mode.curvature == pytest.approx(mode.frequency, rel=1e-3)
        assert mode.energy[len(mode.energy) // 2] == 0 and mode.energy.min() >= 0
        near = np.abs(mode.amplitude) < 0.025
        assert mode.energy[near] == pytest.approx(mode.harmonic[near], rel=0.05, abs=1e-6)
