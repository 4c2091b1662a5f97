"""The noise of labels is found in labels of which it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.inspect import effective_temperature
from mlffx.data.noise import estimate_noise, noise_floor, robust_residuals, rounding_step

TWIN: dict[str, Any] = {
    "kind": "twin",
    "name": "tiny",
    "crystal": {"prototype": "diamond", "species": ["C"], "a": 3.56074511},
    "repetitions": [2, 1, 1],
    "n_frames": 110,
    "max_temperature": 900,
    "drift": 0.3,
    "sampling_seed": 1,
    "low": "low",
    "levels": {"low": {"labels": ["energy", "forces"]}, "high": {"labels": ["energy"]}},
    "potentials": {
        "low": {"depth": 2.68, "steepness": 1.673, "bond": 1.593, "angle": 1.62},
        "high": {"depth": 2.68, "steepness": 1.673, "bond": 1.593, "angle": 1.80, "energy": -11.0},
    },
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFFX_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield lambda **changes: load_dataset(TWIN | changes)
    patch.undo()


@pytest.mark.parametrize("sigma", [0.002, 0.01])
def test_noise_is_recovered(make: Any, sigma: float) -> None:
    found = estimate_noise(make(noise={"high": sigma}), "high", "low")
    assert found is not None
    assert found.sigma == pytest.approx(sigma, rel=0.3)
    assert found.cold == pytest.approx(sigma, rel=0.4)
    assert found.floor == pytest.approx(sigma, rel=0.3)


def test_the_floor_is_the_part_that_does_not_grow() -> None:
    rng = np.random.default_rng(0)
    amplitudes = np.linspace(0.02, 0.2, 400)
    misfit = 4 * rng.normal(size=400) * (amplitudes / 0.2) ** 2
    scatter = rng.normal(size=400) + misfit
    assert noise_floor(scatter, amplitudes) == pytest.approx(1.0, rel=0.2)
    assert noise_floor(misfit, amplitudes) < 0.1
    assert noise_floor(rng.normal(size=400), amplitudes) == pytest.approx(1.0, rel=0.15)
    assert noise_floor(np.zeros(5), amplitudes[:5]) == 0.0


def test_smooth_differences_show_little_and_wrong_labels_stand_out(make: Any) -> None:
    dataset: LabelledSet = make()
    clean = estimate_noise(dataset, "high", "low")
    assert clean is not None and clean.sigma < 5e-4
    dataset.energies["high"][[17, 80]] += [0.05, -0.03]
    found = estimate_noise(dataset, "high", "low")
    assert found is not None and {17, 80} <= set(found.outliers().tolist())
    assert found.residuals[17] == pytest.approx(0.05, abs=0.01)


def test_missing_labels_and_too_few_of_them(make: Any) -> None:
    dataset = make(noise={"high": 0.002})
    dataset.energies["high"][:20] = np.nan
    found = estimate_noise(dataset, "high", "low")
    assert found is not None and np.isnan(found.residuals).sum() == 20
    dataset.energies["high"][20:60] = np.nan
    assert estimate_noise(dataset, "high", "low") is None
    dataset.crystal = None
    assert estimate_noise(dataset, "high", "low") is None


def test_robust_residuals_ignore_outliers() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 100)
    values = 3.0 + 2.0 * x + rng.normal(scale=0.01, size=100)
    values[::10] += 5.0
    residuals = robust_residuals(np.column_stack([np.ones(100), x]), values)
    np.testing.assert_allclose(residuals[::10], 5.0, atol=0.06)
    assert np.abs(np.delete(residuals, np.arange(0, 100, 10))).max() < 0.05


@pytest.mark.parametrize(
    ("energies", "step"),
    [([-634.99, -633.128, -634.5], 1e-3), ([-291.47710027, -290.1, -289.2], 1e-8), ([-1.5, -2.0, np.nan, -3.5], 0.1)],
)
def test_rounding_is_detected(energies: list[float], step: float) -> None:
    assert rounding_step(np.array(energies)) == pytest.approx(step)


def test_full_precision_is_no_rounding() -> None:
    assert rounding_step(-634 + np.random.default_rng(0).normal(size=50)) is None


def test_effective_temperature(make: Any) -> None:
    dataset = make()
    by_forces = effective_temperature(dataset)
    assert by_forces is not None and "equipartition" in by_forces.method
    assert by_forces.hot == pytest.approx(855, rel=0.25)  # the hottest tenth of a ramp to 900 K
    assert by_forces.middle == pytest.approx(450, rel=0.3)
    dataset.forces = {}
    by_energy = effective_temperature(dataset)
    assert by_energy is not None and "energies" in by_energy.method
    assert by_energy.hot == pytest.approx(by_forces.hot, rel=0.2)
