"""From a specification to an architecture and back: what is said counts, what is not said comes from the data."""

from __future__ import annotations

import pytest

from mlffx.errors import UserError
from mlffx.models import MODELS, build_model
from mlffx.models.base import complete_spec


def test_every_architecture_is_registered() -> None:
    assert {"bpnn", "force_constants", "mace", "nequip", "painn", "schnet"} <= set(MODELS)


def test_statistics_fill_only_what_is_missing() -> None:
    said = {"name": "painn", "n_hidden": 8, "mean_neighbours": 10.0, "cutoff": None}
    spec = complete_spec(said, species=[6], mean_neighbours=46.0, crystal="unused")
    assert spec == {"name": "painn", "n_hidden": 8, "mean_neighbours": 10.0, "species": [6]}
    model = build_model(spec)
    assert model.norm == pytest.approx(10.0**0.5) and model.cutoff == 4.0
    assert build_model({"name": "painn"}, species=[6], mean_neighbours=46.0).norm == pytest.approx(46.0**0.5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "pain", "species": [6]}, "did you mean 'painn'"),
        ({"name": "painn", "species": [6], "n_hiden": 8}, "did you mean 'n_hidden'"),
        ({"name": "painn"}, "needs species"),
        ({"name": "painn", "species": [6], "cutoff": -1.0}, "not positive"),
    ],
)
def test_mistakes_are_named(spec: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(spec)
