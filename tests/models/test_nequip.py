"""NequIP: the shared suite without and with unnatural parity, and equality with nequip on dumped models."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from suite import ModelSuite

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.errors import UserError
from mlffx.models.irreps import Irrep, natural
from mlffx.models.nequip import layer_irreps
from mlffx.models.nequip_import import import_nequip
from mlffx.potentials.base import evaluate

FIXTURES = Path(__file__).parent / "fixtures"


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


@pytest.mark.parametrize("special", [{"l_max": 0}, {"l_max": 3}, {"n_interactions": 1}], ids=str)
def test_other_sizes(special: dict[str, Any]) -> None:
    class Other(TestNequIP):
        options: ClassVar[dict[str, Any]] = TestNequIP.options | special

    suite = Other()
    case = suite.make("diamond")
    suite.test_rotation_and_reflection(case)
    suite.test_every_parameter_gets_a_gradient(case)


@pytest.mark.parametrize("name", ["nequip_lih", "nequip_diamond"])
def test_equals_nequip(name: str) -> None:
    """Energy and forces that nequip 0.19.1 gave for the same weights: four layers with parity, and l_max 2 without."""
    potential = import_nequip(FIXTURES / f"{name}.npz")
    with np.load(FIXTURES / f"{name}.npz") as stored:
        numbers, positions, cell, energy, forces = (
            stored[f"frames/0/{part}"] for part in ("numbers", "positions", "cell", "energy", "forces")
        )
    atoms = Atoms(numbers, positions=positions, cell=cell, pbc=True)
    out = evaluate(potential, batch_graphs([build_graph(atoms, potential.cutoff)]))
    interaction = abs(energy - potential.offsets[potential.model.species_index(build_graph(atoms, 1.0))].sum().item())
    assert abs(out[keys.ENERGY].item() - energy) < 1e-10 * interaction
    assert (out[keys.FORCES] - torch.as_tensor(forces)).abs().max() < 1e-10 * np.abs(forces).max()


def test_import_refuses_what_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dump_nequip\.py"):
        import_nequip(tmp_path / "missing.npz")
    with pytest.raises(UserError, match=r"dump_nequip\.py"):
        import_nequip(FIXTURES / "mace_lih.npz")
