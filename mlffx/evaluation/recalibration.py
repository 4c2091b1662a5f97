"""Factors that make error bars honest, for each kind of fit, as found on an analytic twin (docs/evaluation.md).

Derived by `python -m mlffx.evaluation.calibration` on `diamond_twin`, and checked on `diamond_twin_b`, which they do
not come from: there the bars are on the safe side.
"""

from __future__ import annotations

from mlffx.training.closed_form import is_closed_form, is_linear
from mlffx.training.settings import TrainSettings

LEAST_SQUARES = 1.6  # force constants, with or without charges
READOUT = 1.1  # heads on the features of an ensemble of bases
UNTESTED = 1.6  # networks: their repetitions take hours


def honest_scale(settings: TrainSettings) -> float:
    """What every sigma of a run is multiplied by where `sigma_scale` is not given."""
    if is_linear(settings):
        return LEAST_SQUARES
    # A single base has no spread of its own for what the features get wrong: it is treated like a network.
    return READOUT if is_closed_form(settings) and settings.ensemble > 1 else UNTESTED
