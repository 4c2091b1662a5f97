"""Rows, scores and shifts against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from twin_runs import made_up_spectra

from mlffx.evaluation.comparison import (
    COLUMNS,
    LabelledPoint,
    Measured,
    Row,
    branch_index,
    compare,
    frequencies_json,
    read_csv,
    score,
    score_groups,
    shifts,
    unmatched,
    write_csv,
)

RAMAN = Measured("GAMMA", "LTO", 1332.5, 0.5, "Raman")
NEUTRON = Measured("X", "LA/LO", 1184.0, 18.0, "neutrons, 1967")
LIGHT = Measured("X", "LA", 1185.0, 24.0, "light, 1970")


def test_columns_are_those_other_programs_read(tmp_path: Path) -> None:
    write_csv(compare("diamond", made_up_spectra(), None, [RAMAN]), tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == (
        "material,isotope,q_label,qx,qy,qz,branch,experiment_cm1,experiment_sigma_cm1,source,"
        "low_level_cm1,model_cm1,model_sigma_cm1,volume_shift_cm1,anharmonic_shift_cm1"
    )
    assert len(COLUMNS) == 15


def test_every_branch_has_a_row_and_every_further_measurement_one_more() -> None:
    rows = compare("diamond", made_up_spectra(), made_up_spectra("low", 1, 0.95), [RAMAN, NEUTRON, LIGHT])
    assert [(r.q_label, r.branch, r.source) for r in rows] == [
        ("GAMMA", "LTO", "Raman"),
        ("X", "TA", None),
        ("X", "TO", None),
        ("X", "LA", "neutrons, 1967"),
        ("X", "LA", "light, 1970"),
    ]
    assert rows[0].low_level_cm1 == pytest.approx(0.95 * 1300, rel=0.02)
    assert rows[1].experiment_cm1 is None and rows[1].experiment_sigma_cm1 is None


def test_unknown_cells_are_empty_and_come_back_as_unknown(tmp_path: Path) -> None:
    rows = compare("diamond", made_up_spectra(n_members=1), None, [NEUTRON])
    write_csv(rows, tmp_path / "c.csv")
    first = (tmp_path / "c.csv").read_text().splitlines()[1].split(",")
    assert first[7:11] == ["", "", "", ""] and first[12:] == ["", "", ""]
    back = read_csv(tmp_path / "c.csv")
    assert back[-1].source == "neutrons, 1967" and back[-1].model_sigma_cm1 is None
    assert back[-1].model_cm1 == pytest.approx(rows[-1].model_cm1, abs=0.005)


def test_other_isotopes_do_not_enter() -> None:
    rows = compare("diamond", made_up_spectra(), None, [replace(RAMAN, isotope="13C")])
    assert all(r.experiment_cm1 is None for r in rows)
    heavy = compare("diamond", replace(made_up_spectra(), isotope="13C"), None, [replace(RAMAN, isotope="13C")])
    assert heavy[0].experiment_cm1 == 1332.5 and heavy[0].isotope == "13C"


def test_measured_branches_find_their_level_under_any_of_its_names() -> None:
    point = LabelledPoint("L", np.zeros(3), ("TA", "LA", "TO_1", "LO"), np.zeros((1, 4)))
    assert [branch_index(point, b) for b in ("TA", "LA", "LA/LO", "LO", "TO")] == [0, 1, 1, 3, 2]
    assert branch_index(point, "LTO") is None


def test_a_measurement_without_a_branch_is_told() -> None:
    assert unmatched(
        made_up_spectra(), [RAMAN, Measured("X", "mode_9", 1.0, 1.0, ""), Measured("L", "TA", 1, 1, "")]
    ) == [
        Measured("X", "mode_9", 1.0, 1.0, ""),
        Measured("L", "TA", 1, 1, ""),
    ]


def _row(
    branch: str, model: float, experiment: float | None, sigma: float = 2.0, model_sigma: float | None = 1.5
) -> Row:
    spread = None if experiment is None else sigma
    return Row("m", "natural", "X", 0, 0, 0, branch, experiment, spread, "s", 90.0, model, model_sigma)


def test_scores_are_those_of_the_measured_rows() -> None:
    found = score([_row("TA", 104.0, 100.0), _row("TO", 98.0, 100.0), _row("LO", 1.0, None)])
    assert found is not None
    assert (found.n, found.mae, found.bias) == (2, 3.0, 1.0)
    assert found.rmse == pytest.approx(np.sqrt(10))
    assert found.chi2 == pytest.approx((4 + 1) / 2)
    assert found.chi2_total == pytest.approx((16 + 4) / 2 / (4 + 2.25))
    assert score([_row("TA", 1.0, None)]) is None


def test_acoustic_and_optical_are_scored_apart_and_each_branch_too() -> None:
    groups = score_groups([_row("TA", 104.0, 100.0), _row("TO_1", 98.0, 100.0), _row("TO_2", 97.0, 100.0)])
    assert groups["acoustic"]["model"].mae == 4.0 and groups["optical"]["model"].mae == 2.5
    assert groups["TO"]["model"].n == 2 and groups["all"]["low_level"].bias == -10.0
    assert "LA" not in groups


def test_shifts_pair_members_so_that_what_they_share_cancels() -> None:
    model = made_up_spectra(seed=1)
    low = replace(model, points={k: replace(p, frequencies=p.frequencies - 50) for k, p in model.points.items()})
    found = shifts(model, low)
    assert found["GAMMA"]["LTO"]["mean"] == pytest.approx(50) and found["GAMMA"]["LTO"]["sigma"] == pytest.approx(
        0, abs=1e-6
    )
    single = replace(
        low, points={k: replace(p, frequencies=p.frequencies[:1]) for k, p in low.points.items()}, bands=low.bands[:1]
    )
    assert shifts(model, single)["GAMMA"]["LTO"]["sigma"] > 1


def test_one_member_gives_null_for_sigma_in_json() -> None:
    assert frequencies_json(made_up_spectra(n_members=1))["X"]["TA"]["sigma"] is None
    assert frequencies_json(made_up_spectra())["X"]["TA"]["sigma"] > 0
