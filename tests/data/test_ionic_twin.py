"""The ionic twin: labels that are those of its potentials, and a splitting that follows from its charges."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mlffx.data import keys
from mlffx.data.dataset import load_dataset
from mlffx.data.graph import batch_graphs, build_graph, edges_of
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.lattice import Nac, Phonons, autodiff, conventional_matrix, labelled_frequencies, masses_of
from mlffx.lattice.nac import plasma_frequency
from mlffx.potentials.base import evaluate
from mlffx.potentials.born import model_born_charges
from mlffx.potentials.ionic_twin import IonicTwin

CONFIG = Path(__file__).parents[2] / "conf" / "data" / "ionic_twin.yaml"


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load(CONFIG.read_text()) | {"n_frames": 4}


@pytest.fixture
def data(config, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFFX_CACHE", str(tmp_path))
    return load_dataset(config)


def test_labels_are_those_of_the_potentials(config, data):
    assert [len(a) for a in data.atoms] == [64] * 4
    assert set(data.forces) == {"low"}  # the high level has energies only
    for level, potential in twin_potentials(config).items():
        graph = batch_graphs([build_graph(atoms, potential.cutoff) for atoms in data.atoms])
        out = evaluate(potential, graph)
        np.testing.assert_allclose(data.energies[level], out[keys.ENERGY].detach(), atol=1e-8)
    assert np.abs(data.energies["high"] - data.energies["low"]).min() > 0.1


@pytest.mark.parametrize("level", ["low", "high"])
def test_splitting_follows_from_the_charges(config, data, level):
    """Stable, and LO^2 - TO^2 = 4 pi f Z^2 / (V mu)."""
    potential, crystal = twin_potentials(config)[level], data.crystal
    born, dielectric, _ = model_born_charges(potential, crystal)
    nac = Nac(born, dielectric, "twin")
    phonons = Phonons(autodiff(potential, crystal, conventional_matrix(crystal, 2)), nac=nac)
    named = labelled_frequencies(phonons)
    assert min(value for branches in named.values() for value in branches.values()) > 100
    splitting = named["GAMMA"]["LO"] ** 2 - named["GAMMA"]["TO"] ** 2
    assert splitting == pytest.approx(plasma_frequency(crystal, nac, masses_of(crystal.numbers)) ** 2, rel=1e-6)
    assert 400 < named["GAMMA"]["TO"] < 700 < 1000 < named["GAMMA"]["LO"] < 1300


@pytest.mark.parametrize("level", ["low", "high"])
def test_charges_are_neutral_and_forces_the_gradient(config, data, level):
    potential = twin_potentials(config)[level]
    atoms = data.atoms[-1]
    graph = batch_graphs([build_graph(atoms, potential.cutoff)])
    out = evaluate(potential, graph)
    charges = out[keys.CHARGES].detach()
    assert charges.sum().abs() < 1e-12
    spread = charges[graph[keys.NUMBERS] == 3].std()
    assert (spread > 1e-3) == (level == "high")
    values = []
    for step in (1e-3, -1e-3):
        moved = atoms.copy()
        moved.positions[10, 1] += step
        trial = batch_graphs([build_graph(moved, potential.cutoff)])
        values.append(potential(trial, edges_of(trial))[keys.ENERGY].item())
    assert out[keys.FORCES][10, 1].item() == pytest.approx(-(values[0] - values[1]) / 2e-3, abs=1e-5)


def test_other_elements_are_refused():
    twin = IonicTwin(cation=11)
    atoms = batch_graphs([build_graph(load_rocksalt(), twin.cutoff)])
    with pytest.raises(UserError, match="two elements"):
        twin(atoms, edges_of(atoms))
    with pytest.raises(UserError, match="same element"):
        IonicTwin(cation=1)


def test_born_charge_without_flow_is_the_charge():
    vectors = torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])
    np.testing.assert_allclose(IonicTwin(charge=0.52).born_charge(vectors), 0.52 * np.eye(3))


def load_rocksalt():
    from ase.build import bulk

    return bulk("LiH", "rocksalt", a=4.02, cubic=True)
