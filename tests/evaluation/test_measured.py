"""Measured values: their q-points in the crystal's own coordinates, and their places on the path."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.data.crystal import Crystal
from mlffx.evaluation.comparison import Measured
from mlffx.evaluation.measured import experiment, known_material, masses_for, place
from mlffx.evaluation.spectra import BandPath
from mlffx.lattice.paths import band_path, labelled_points, to_primitive


@pytest.fixture(scope="module")
def path(diamond: Crystal) -> BandPath:
    found = band_path(diamond, 21)
    distance, ticks, spans, start = [], [], [], 0.0
    reciprocal = np.linalg.inv(diamond.cell).T
    for segment, ends in zip(found.segments, found.ends, strict=True):
        along = start + np.linalg.norm((segment - segment[0]) @ reciprocal, axis=1)
        spans.append((sum(map(len, distance)), sum(map(len, distance)) + len(along)))
        distance.append(along)
        ticks += [(start, ends[0]), (float(along[-1]), ends[1])]
        start = float(along[-1])
    return BandPath(np.concatenate(found.segments), np.concatenate(distance), tuple(spans), tuple(ticks))


def test_diamond_is_there_with_both_kinds_of_points(diamond: Crystal) -> None:
    found = experiment("diamond", diamond)
    raman = next(m for m in found.labelled if m.label == "GAMMA")
    assert (raman.cm1, raman.sigma_cm1, raman.neutron) == (1332.5, 0.5, False)
    assert {m.branch for m in found.labelled if m.label == "L" and m.neutron} == {"TA", "LA", "TO", "LO"}
    assert found.harmonic[0].cm1 == pytest.approx(1346.2) and found.isotopes() == ["natural"]
    assert any("lattice constant" in note for note in found.notes) and any("13.7" in note for note in found.notes)
    x = next(m for m in found.labelled if m.label == "X")
    assert np.allclose(x.q, labelled_points(diamond)["X"])


def test_lih_has_its_isotopes_natural_first() -> None:
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.017)
    found = experiment("lih", crystal)
    assert found.isotopes() == ["natural", "LiD", "7LiD"]
    assert all(m.isotope != "7LiH" for m in found.labelled + found.elsewhere)  # a prediction, not a measurement
    assert masses_for("7LiD") == {"Li": "7Li", "H": "D"}


def test_points_are_found_on_the_path_under_any_symmetry(diamond: Crystal, path: BandPath) -> None:
    def at(*q: float) -> tuple[float, ...]:
        primitive = tuple(to_primitive(diamond, q))
        return place([Measured("", "TA", 1.0, 1.0, "", q=primitive)], path, diamond)[0].places  # type: ignore[arg-type]

    x = next(position for position, label in path.ticks if label == "X")
    assert at(0.5, 0, 0)[0] == pytest.approx(x / 2, abs=1e-3)
    assert at(0, -0.5, 0) == pytest.approx(at(0.5, 0, 0))
    assert at(0, 0, 1.5) == pytest.approx(at(0.5, 0, 0))
    assert at(0.3, 0.11, 0.07) == ()  # a general point lies nowhere on it


def test_a_twin_has_no_measurements() -> None:
    assert known_material("diamond_twin") is None and known_material("diamond") == "diamond"
