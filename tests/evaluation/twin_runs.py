"""Run directories on a small analytic twin, as train.py leaves them, and spectra without a potential behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.spectra import BandPath, LabelledPoint, Spectra
from mlffx.potentials.base import Potential
from mlffx.potentials.build import build_potential, save_potential
from mlffx.potentials.sum import SumPotential

TWIN = {
    "kind": "twin",
    "name": "diamond_twin",
    "crystal": {"prototype": "diamond", "species": ["C"], "a": 3.56074511},
    "repetitions": [2, 1, 1],
    "n_frames": 24,
    "max_temperature": 800,
    "drift": 0.1,
    "sampling_seed": 0,
    "low": "low",
    "levels": {"low": {"labels": ["energy", "forces"]}, "high": {"labels": ["energy"]}},
    "potentials": {
        "low": {"depth": 3.54, "steepness": 1.74, "bond": 1.541, "angle": 1.75, "stretch": 1.19},
        "high": {"depth": 3.54, "steepness": 1.765, "bond": 1.543, "angle": 1.95, "stretch": 1.44, "energy": -11.0},
    },
    "noise": {},
    "rounding": {},
    "train_size": None,
    "validation_size": 4,
    "test_size": 6,
}
QUICK = PhononSettings(supercell=[[2, 0, 0], [0, 2, 0], [0, 0, 2]], mesh=9, pitch=8.0, points_per_segment=11)


STRENGTHS = ("depth", "angle", "stretch", "energy")  # energies are linear in these


def difference(scale: float) -> Potential:
    """high - low of the twin, scaled: 1 gives the exact high level."""
    levels = TWIN["potentials"]
    plus = {k: v * (scale if k in STRENGTHS else 1) for k, v in levels["high"].items()}  # type: ignore[index]
    minus = {k: v * (-scale if k in STRENGTHS else 1) for k, v in levels["low"].items()}  # type: ignore[index]
    return SumPotential({"plus": analytic(plus), "minus": analytic(minus)})


def analytic(parameters: dict) -> Potential:
    return build_potential({"kind": "analytic"} | parameters)


def write_run(path: Path, members: list[Potential], kind: str = "delta", level: str = "high", **data: object) -> Path:
    """A run directory as train.py leaves it, with the given potentials as its trained members."""
    config = {
        "data": TWIN | data,
        "level": {"name": level},
        "potential": {"kind": kind},
        "delta": {"fit": "network"},
        "model": {"name": "painn"},
        "ensemble": len(members),
    }
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "environment.json").write_text('{"command": "python train.py data=diamond_twin", "data": {}}')
    (path / "metrics.json").write_text('{"train_seconds": 1.0}')
    for k, member in enumerate(members):
        folder = path / "members" / str(k) if len(members) > 1 else path
        save_potential(member, folder / "checkpoints" / "best.ckpt")
    return path


def made_up_spectra(name: str = "model", n_members: int = 4, scale: float = 1.0, seed: int = 0) -> Spectra:
    """Smooth bands without a potential behind them, for tests of what is drawn and written."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.linspace(0, 1, 21), np.linspace(1, 1.5, 11)])
    path = BandPath(
        np.stack([x / 2, 0 * x, x / 2], axis=1), x, ((0, 21), (21, 32)), ((0.0, "GAMMA"), (1.0, "X|K"), (1.5, "GAMMA"))
    )
    shape = np.stack([800 * np.sin(1.5 * x), 900 * np.sin(1.5 * x), 1300 - 200 * x], axis=1)
    factors = scale * (1 + 0.01 * rng.normal(size=n_members))
    points = {
        "GAMMA": LabelledPoint("GAMMA", np.zeros(3), ("LTO",), 1300 * factors[:, None]),
        "X": LabelledPoint(
            "X", np.array([0.5, 0, 0.5]), ("TA", "TO", "LA"), np.outer(factors, [800.0, 1070.0, 1190.0])
        ),
    }
    grid = np.arange(0, 1500, 10.0)
    dos = np.exp(-(((grid - 1200) / 100) ** 2))[None] * factors[:, None]
    return Spectra(name, points, path, shape[None] * factors[:, None, None], grid, dos, {"C": dos})
