"""The twin is what it says: thermal, reproducible, and its truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlffx.data.dataset import load_dataset
from mlffx.data.twin import true_labels, twin_potentials
from mlffx.errors import UserError
from mlffx.potentials.batched import evaluate_atoms
from mlffx.units import KB_EV

SHIPPED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "conf/data/diamond_twin.yaml").read_text())
SMALL = SHIPPED | {"n_frames": 30, "repetitions": [1, 1, 1], "max_temperature": 600}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFFX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_labels_are_those_of_the_potentials() -> None:
    dataset = load_dataset(SMALL)
    for level, potential in twin_potentials(SMALL).items():
        energies, forces, _ = evaluate_atoms(potential, dataset.atoms)
        np.testing.assert_allclose(dataset.energies[level], energies, atol=1e-9)
        if level == "low":
            np.testing.assert_allclose(dataset.forces[level], forces, atol=1e-9)
    assert list(dataset.forces) == ["low"]
    energies, forces = true_labels(SMALL, "high", dataset.atoms)
    np.testing.assert_allclose(energies, dataset.energies["high"], atol=1e-9)
    assert np.abs(np.sum(forces, axis=1)).max() < 1e-9 and np.abs(forces).max() > 0.1


def test_the_cache_gives_the_same_and_survives_damage(cache: Path) -> None:
    first = load_dataset(SMALL)
    (stored,) = (cache / "twins").iterdir()
    before = stored.stat().st_mtime_ns
    second = load_dataset(SMALL)
    assert stored.stat().st_mtime_ns == before
    np.testing.assert_array_equal(first.energies["high"], second.energies["high"])
    np.testing.assert_array_equal(first.forces["low"], second.forces["low"])
    stored.write_bytes(stored.read_bytes()[:1000])
    third = load_dataset(SMALL)
    np.testing.assert_array_equal(first.energies["high"], third.energies["high"])


def test_what_generates_decides_the_cache_and_what_does_not_does_not(cache: Path) -> None:
    load_dataset(SMALL)
    load_dataset(SMALL | {"name": "other", "noise": {"high": 0.1}, "train_size": 3})
    assert len(list((cache / "twins").iterdir())) == 1
    load_dataset(SMALL | {"sampling_seed": 7})
    assert len(list((cache / "twins").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    assert len(load_dataset(SMALL)) == 30


def test_noise_and_rounding_are_added_to_one_level_only() -> None:
    clean = load_dataset(SMALL)
    noisy = load_dataset(SMALL | {"noise": {"high": 0.02}, "rounding": {"high": 0.001}})
    np.testing.assert_array_equal(clean.energies["low"], noisy.energies["low"])
    off = noisy.energies["high"] - clean.energies["high"]
    assert off.std() == pytest.approx(0.02, rel=0.4)
    np.testing.assert_allclose(noisy.energies["high"] * 1000, np.rint(noisy.energies["high"] * 1000), atol=1e-6)
    assert any("20 meV of noise" in str(note) for note in noisy.notes)


def test_frames_are_a_ramp_from_the_perfect_crystal() -> None:
    dataset = load_dataset(SMALL | {"n_frames": 80})
    amplitudes = dataset.amplitudes()
    assert amplitudes[0] < 1e-9
    assert np.corrcoef(amplitudes, np.arange(80))[0, 1] > 0.8
    displacements = dataset.displacements()
    assert displacements is not None
    work = -np.array([(u * f).sum() for u, f in zip(displacements, dataset.forces["low"], strict=True)])
    assert work[40:].mean() / (21 * KB_EV) == pytest.approx(450, rel=0.25)  # equipartition in the hotter half


def test_bad_twins_are_told() -> None:
    for change, message in (
        ({"n_frames": None}, r"data.n_frames: a twin needs 'n_frames'"),
        ({"n_frames": 0}, r"data.n_frames: 0 frames; give at least 1"),
        ({"low": "dft"}, r"data.potentials: level 'dft' has no potential; valid: high, low"),
        (
            {"potentials": SMALL["potentials"] | {"low": {"depht": 3}}},
            r"has no parameter 'depht'; did you mean 'depth'\?",
        ),
        ({"max_temperature": 500_000}, r"does not hold the crystal together at .* K; change its parameters"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(SMALL | change)
    with pytest.raises(UserError, match=r"level: the twin has no level 'higher'; did you mean 'high'\?"):
        true_labels(SMALL, "higher", [])
