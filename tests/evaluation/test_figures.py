"""Figures: what is drawn is what was given, and the files appear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from twin_runs import made_up_spectra

from mlffx.errors import UserError
from mlffx.evaluation.comparison import Measured, shifts
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.dispersion import aligned, dispersion
from mlffx.evaluation.figures.energies import EnergyResiduals, parity, residual_against_amplitude, running_rms
from mlffx.evaluation.figures.learning import LearningPoint, learning_curves
from mlffx.evaluation.figures.shifts import mode_shifts
from mlffx.units import THZ_TO_CM1

RAMAN = Measured("GAMMA", "LTO", 1332.5, 0.5, "Raman")
NEUTRON = Measured("X", "TA", 807.0, 12.0, "Warren", neutron=True)


def _legend(figure) -> list[str]:  # type: ignore[no-untyped-def]
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_dispersion_shows_every_mode_experiment_and_both_levels(tmp_path: Path) -> None:
    model, low = made_up_spectra("CCSD(T)"), made_up_spectra("DFT", 1, 0.95)
    figure = dispersion(model, low, [RAMAN, NEUTRON], "diamond")
    bands, dos = figure.axes[:2]
    drawn = [line for line in bands.lines if len(line.get_xdata()) > 5]
    assert len(drawn) == 2 * 2 * 3  # two spectra, two pieces of path, three modes
    assert np.allclose(drawn[6].get_ydata(), model.bands.mean(axis=0)[:21, 0])
    assert len(bands.collections) >= 6  # a shaded band for every mode and piece of the model
    assert _legend(figure) == ["DFT", "CCSD(T)", "experiment, light", "experiment, neutrons"]
    assert len([c for c in bands.containers]) == 2 + 1  # Raman at both places of GAMMA, neutrons at X
    assert [t.get_text() for t in bands.get_xticklabels()] == ["Γ", "X|K", "Γ"]
    assert bands.get_ylim() == dos.get_ylim()
    for path in style.save(figure, tmp_path / "dispersion"):
        assert path.stat().st_size > 5000


def test_second_axis_is_in_thz() -> None:
    figure = dispersion(made_up_spectra())
    figure.draw_without_rendering()
    low, high = figure.axes[1].get_ylim()
    assert figure.axes[1].child_axes[0].get_ylim() == pytest.approx((low / THZ_TO_CM1, high / THZ_TO_CM1))


def test_imaginary_modes_are_shown_below_zero() -> None:
    model = made_up_spectra()
    soft = replace(model, bands=model.bands - 200)
    axes = dispersion(soft).axes[0]
    assert axes.get_ylim()[0] < -150
    assert any("imaginary" in text.get_text() for text in axes.texts)


def test_runs_at_other_lattice_constants_share_the_axis() -> None:
    a = made_up_spectra().path
    b = replace(a, distance=a.distance * 0.9, ticks=tuple((0.9 * x, label) for x, label in a.ticks))
    assert aligned(b, a) == pytest.approx(a.distance)
    with pytest.raises(UserError, match="paths"):
        aligned(replace(a, ticks=((0.0, "GAMMA"), (1.0, "L"), (1.5, "GAMMA"))), a)


def test_residuals_tell_fitted_from_held_out() -> None:
    rng = np.random.default_rng(0)
    label, error = rng.normal(size=60), 0.1 * rng.normal(size=60)
    data = EnergyResiduals(label, label + error, np.linspace(0, 0.1, 60), np.arange(60) % 3 == 0, 0.1)
    assert data.mae(True) == pytest.approx(np.abs(error[::3]).mean())
    for figure, words in ((parity(data), ["fitted", "held out"]), (residual_against_amplitude(data), ["label noise"])):
        text = " ".join(
            _legend(figure) + [t.get_text() for a in figure.axes if a.get_legend() for t in a.get_legend().texts]
        )
        assert all(word in text for word in words)


def test_running_rms_follows_a_known_slope() -> None:
    x = np.linspace(0.01, 1, 4000)
    centres, rms = running_rms(x, x * np.where(np.arange(4000) % 2, 1, -1), 8)
    assert rms[2:] == pytest.approx(centres[2:], rel=0.02)  # within a bin the rms exceeds the median a little


def test_shift_bars_have_the_heights_they_were_given() -> None:
    model, low = made_up_spectra(seed=1), made_up_spectra("DFT", 1, 0.95)
    moved = shifts(model, low)
    axes = mode_shifts({"a": moved, "b": moved}, "DFT").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    given = [moved[p][b]["mean"] for p, b in (("GAMMA", "LTO"), ("X", "TA"), ("X", "TO"), ("X", "LA"))]
    assert heights == pytest.approx(given + given)


def test_learning_curves_average_seeds() -> None:
    points = [LearningPoint(n, 1.0 / n + 0.1 * s, 1360.0 + s, None, s) for n in (25, 50) for s in (0, 2)]
    figure = learning_curves({"painn": points}, noise=0.1, reference=("linear fit", 1368.0, 3.0))
    line = figure.axes[1].containers[0].lines[0]
    assert line.get_xdata().tolist() == [25, 50] and line.get_ydata().tolist() == [1361.0, 1361.0]
    assert _legend(figure) == ["label noise", "painn", "linear fit"]
