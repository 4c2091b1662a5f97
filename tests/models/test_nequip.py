"""NequIP: the shared suite without and with unnatural parity."""

from typing import Any, ClassVar

import pytest
from suite import ModelSuite

from mlffx.models.irreps import Irrep, natural
from mlffx.models.nequip import layer_irreps


class TestNequIP(ModelSuite):
    options: ClassVar[dict[str, Any]] = {
        "name": "nequip",
        "cutoff": 3.5,
        "n_channels": 6,
        "l_max": 2,
        "parity": False,
        "n_interactions": 2,
        "n_radial": 6,
        "radial_hidden": [12],
    }
    learning_rate: ClassVar[float] = 2e-2  # weights of unit variance, scaled in use: steps are relative to one


class TestNequIPParity(ModelSuite):
    options: ClassVar[dict[str, Any]] = TestNequIP.options | {
        "l_max": 1,
        "parity": True,
        "n_channels": 4,
        "n_interactions": 4,
    }
    materials: ClassVar[tuple[str, ...]] = ("rocksalt",)
    learning_rate: ClassVar[float] = 2e-2


def test_irreps_of_the_layers() -> None:
    """Unnatural parity appears after two layers, and is of use up to two layers before the end."""
    assert layer_irreps(1, True, 3) == [natural(1), natural(1), natural(0)]
    *_, third, fourth = layer_irreps(2, True, 4)
    assert fourth == natural(0) and third == natural(2)
    assert Irrep(1, 1) in layer_irreps(2, True, 4)[1]
    assert all(state == natural(2) for state in layer_irreps(2, False, 5)[:-1])


@pytest.mark.parametrize("l_max", [0, 3])
def test_other_orders(l_max: int) -> None:
    class Other(TestNequIP):
        options: ClassVar[dict[str, Any]] = TestNequIP.options | {"l_max": l_max}

    suite = Other()
    case = suite.make("diamond")
    suite.test_rotation_and_reflection(case)
    suite.test_every_parameter_gets_a_gradient(case)
