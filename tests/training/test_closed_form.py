"""Which kind of prior a closed-form fit has."""

from __future__ import annotations

import pytest

from mlffx.compose import composed, plain
from mlffx.potentials.linear_fit import fit_linear
from mlffx.training import closed_form
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare

SMALL = ["data.n_frames=24", "data.validation_size=2", "data.test_size=2", "logger=csv"]


@pytest.mark.parametrize(("potential", "level", "by_order"), [("delta", "high", True), ("direct", "low", False)])
def test_a_difference_has_a_prior_for_each_order(monkeypatch, potential, level, by_order):
    """What a difference leaves over is noise; what a level leaves over is the truncated expansion."""
    seen = []

    def spy(*arguments, **options):
        seen.append(options.get("groups"))
        return fit_linear(*arguments, **options)

    monkeypatch.setattr(closed_form, "fit_linear", spy)
    overrides = ["data=diamond_twin", f"potential={potential}", f"level={level}", "model=force_constants", *SMALL]
    settings = TrainSettings.read(plain(composed("train", overrides)))
    task = prepare(settings)
    closed_form.fit_force_constants(settings, task, task.split.train, settings.model)
    (groups,) = seen
    assert (groups is not None and len(set(groups.tolist())) == 3) == by_order
