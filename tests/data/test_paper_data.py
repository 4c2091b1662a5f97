"""The traps of the paper's released labels are met. Needs a copy of them (MLFFX_DATA_ROOT, or beside the checkout)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlffx.data.__main__ import read_settings
from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.inspect import effective_temperature
from mlffx.data.noise import estimate_noise
from mlffx.data.paper import FILES
from mlffx.data.splits import split

ROOT = Path(os.environ.get("MLFFX_DATA_ROOT") or Path(__file__).parents[2] / ".." / "shared/data/MLphononsdata")
pytestmark = [
    pytest.mark.paper_data,
    pytest.mark.skipif(not (ROOT / "c/200221forcc.xyz").is_file(), reason=f"no copy of the paper's data at {ROOT}"),
]


@pytest.fixture(scope="module")
def diamond() -> LabelledSet:
    return load_dataset(read_settings(["data=diamond", f"data.root={ROOT}"]))


@pytest.fixture(scope="module")
def lih() -> LabelledSet:
    return load_dataset(read_settings(["data=lih", f"data.root={ROOT}"]))


def have(dataset: LabelledSet, *levels: str) -> None:
    missing = [level for level in levels if level not in dataset.energies]
    if missing:
        pytest.skip(f"the copy has no file of {', '.join(missing)}")


def test_everything_is_the_published_file(diamond: LabelledSet, lih: LabelledSet) -> None:
    for dataset in (diamond, lih):
        assert dataset.hashes and all(FILES[file] == blob for file, blob in dataset.hashes.items())
        assert "no licence is stated" in dataset.source


def test_two_frames_with_empty_energies_are_dropped_and_told(lih: LabelledSet) -> None:
    have(lih, "mp2", "ccsd", "ccsdt")
    assert len(lih) == 200
    for level in ("mp2", "ccsd", "ccsdt"):
        assert np.isfinite(lih.energies[level]).all()
        dropped = [note for note in lih.notes if note.level == level and note.dropped]
        assert [(note.frame, note.line) for note in dropped] == [(200, 13202), (201, 13268)]
        assert all("'energy=' is empty" in note.reason for note in dropped)


def test_forces_repeated_in_the_other_files_are_not_read(diamond: LabelledSet) -> None:
    assert list(diamond.forces) == ["dft"]
    told = [note.level for note in diamond.notes if "not a label of this level: not read" in note.reason]
    assert set(told) == set(diamond.energies) - {"dft"}


def test_drift_is_removed(diamond: LabelledSet) -> None:
    displacements = np.array(diamond.displacements())
    assert np.abs(displacements.mean(axis=1)).max() < 1e-12
    assert np.abs(displacements).max() < 0.3
    assert any("drifts as a whole" in note.reason for note in diamond.notes)
    amplitudes = diamond.amplitudes()
    assert amplitudes[0] < 1e-3 and 0.12 < amplitudes.max() < 0.15


def test_rounding_is_told(diamond: LabelledSet) -> None:
    rounded = {note.level for note in diamond.notes if "rounded to 1 meV per cell" in note.reason}
    assert rounded == {"mp2", "ccsd", "ccsdt"} & set(diamond.energies)


@pytest.mark.parametrize(
    ("name", "level", "std"),
    [
        ("diamond", "hf", 17.5),
        ("diamond", "ccsd", 7.0),
        ("diamond", "ccsdt", 3.9),
        ("lih", "mp2", 1.86),
        ("lih", "ccsdt", 1.82),
    ],
)
def test_differences(name: str, level: str, std: float, diamond: LabelledSet, lih: LabelledSet) -> None:
    dataset = diamond if name == "diamond" else lih
    have(dataset, level)
    assert np.std(dataset.difference(level, "dft") / dataset.n_atoms) * 1e3 == pytest.approx(std, abs=0.06)


@pytest.mark.parametrize(
    ("name", "level", "lowest", "highest"),  # meV per cell
    [
        ("diamond", "hf", 0.5, 2),
        ("diamond", "ccsdt", 2, 5),
        ("lih", "mp2", 1, 4),
        ("lih", "ccsd", 6, 20),
        ("lih", "ccsdt", 8, 20),
    ],
)
def test_noise(name: str, level: str, lowest: float, highest: float, diamond: LabelledSet, lih: LabelledSet) -> None:
    dataset = diamond if name == "diamond" else lih
    have(dataset, level)
    noise = estimate_noise(dataset, level, "dft")
    assert noise is not None
    assert lowest < noise.sigma * 1e3 < highest


def test_temperatures(diamond: LabelledSet, lih: LabelledSet) -> None:
    hot = effective_temperature(diamond)
    mild = effective_temperature(lih)
    assert hot is not None and 1500 < hot.hot < 2200 and hot.cold < 100
    assert mild is not None and 350 < mild.hot < 550


def test_shuffled_files_give_the_same_labels(diamond: LabelledSet, tmp_path: Path) -> None:
    have(diamond, "ccsdt")
    for file in ("c/200221forcc.xyz", "c/200221forcc_ccsdt.xyz"):
        (tmp_path / "c").mkdir(exist_ok=True)
        lines = (ROOT / file).read_text().splitlines()
        frames = [lines[i : i + 34] for i in range(0, len(lines), 34)]
        if "ccsdt" in file:
            frames = frames[::-1][:150]
        (tmp_path / file).write_text("\n".join(line for frame in frames for line in frame) + "\n")
    changed = load_dataset(read_settings(["data=diamond", f"data.root={tmp_path}"]))
    np.testing.assert_array_equal(changed.energies["ccsdt"][50:], diamond.energies["ccsdt"][50:])
    assert np.isnan(changed.energies["ccsdt"][:50]).all()
    assert any("is not the published file" in note.reason for note in changed.notes)


def test_split(diamond: LabelledSet) -> None:
    have(diamond, "ccsdt")
    labelled = diamond.indices(["dft", "ccsdt"])
    parts: Any = split(diamond.amplitudes(), labelled, 160, 20, 20, seed=0)
    amplitudes = diamond.amplitudes()
    for chosen in (parts.train, parts.validation, parts.test):
        assert amplitudes[chosen].mean() == pytest.approx(amplitudes.mean(), rel=0.05)
