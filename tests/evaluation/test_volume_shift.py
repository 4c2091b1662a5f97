"""The columns +anharmonic and +volume, for an analytic potential at the labels' and the measured lattice constant."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from twin_runs import QUICK, TWIN, made_up_spectra, write_run

from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.dynamics.labelled import LabelledShift
from mlffx.evaluation.comparison import Measured, compare, read_csv, score_groups
from mlffx.evaluation.harmonic import constants
from mlffx.evaluation.members import Members
from mlffx.evaluation.progress import Tracker, frequency_table
from mlffx.evaluation.run import compute, evaluate
from mlffx.evaluation.stored import Run
from mlffx.evaluation.stored import show as show_stored
from mlffx.evaluation.volume import lattice_constant_of, shift_notes, volume_shifts, with_anharmonic
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.phonons import Phonons
from mlffx.models.force_constants import ForceConstantModel
from mlffx.potentials.network import NetworkPotential
from mlffx.references import reference

MEASURED = 3.5668  # A, diamond.yaml


def test_the_column_is_the_potential_at_the_measured_lattice_constant(tmp_path: Path) -> None:
    low = twin_potentials(TWIN)["low"]
    run = write_run(tmp_path / "direct", [low], kind="direct", level="low")
    result = evaluate(run, replace(QUICK, cross_check=False), reference="diamond")
    here, there = (
        labelled_frequencies(Phonons(constants(low, Crystal.from_prototype("diamond", ["C"], a), QUICK)))
        for a in (3.56074511, MEASURED)
    )
    with (result.directory / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        truth = there[row["q_label"]][row["branch"]] - here[row["q_label"]][row["branch"]]
        assert float(row["volume_shift_cm1"]) == pytest.approx(truth, abs=0.02)
        assert row["anharmonic_shift_cm1"] == ""
    gamma = next(r for r in result.rows if r.q_label == "GAMMA")
    assert gamma.volume_shift_cm1 is not None and gamma.volume_shift_cm1 < -1
    page = (result.directory / "report.html").read_text()
    assert "<th>harmonic</th>" in page and "<th>+volume</th>" in page and "+anharmonic" not in page
    assert f"<td>{gamma.volume_cm1:.1f}</td>" in page and "3.5607 Å" in page and "3.5668 Å (natural, 300 K)" in page
    stored = json.loads((result.directory / "phonons.json").read_text())
    assert stored["volume_shift_cm1"][0]["measured"] == MEASURED and "extrapolated" in stored["shift_notes"][0]
    console = Console(width=100, record=True, file=io.StringIO())
    show_stored(Run.read(run), console)
    text = console.export_text()
    assert "+volume" in text and f"{gamma.volume_cm1:.1f}" in text and "extrapolated" in text
    assert score_groups([replace(r, volume_shift_cm1=None) for r in result.rows]) == result.scores  # harmonic
    inputs = (result.members, result.phonons, {"natural": result.phonons}, result.experiment.lattice_constants)
    assert volume_shifts(*inputs, replace(QUICK, volume=False), Tracker(False)) == ([], [])
    model = ForceConstantModel([6], result.phonons.crystal, cutoff=1.7, orders=())
    harmonic = Members([NetworkPotential(model, torch.zeros(1), 1.0, {})], "single")
    found, (line,) = volume_shifts(harmonic, *inputs[1:], QUICK, Tracker(False))
    assert found == [] and "second order alone know no other volume" in line


def test_without_another_lattice_constant_there_is_no_column(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "there",
        [twin_potentials(TWIN)["low"]],
        kind="direct",
        level="low",
        crystal={"prototype": "diamond", "species": ["C"], "a": MEASURED},
    )
    result = compute(run, replace(QUICK, cross_check=False), "diamond", 4, Tracker(False))
    assert result.volume == [] and result.shift_notes == []
    heads = [c.header for c in frequency_table(result.rows, "t", None).columns]
    assert "+volume" not in heads and "model" in heads


def test_each_column_adds_to_the_one_on_its_left_and_the_table_stays_narrow() -> None:
    low = made_up_spectra("MP2", 1, 0.95)
    long = Measured("GAMMA", "LTO", 1332.5, 0.5, "Raman"), Measured("GAMMA", "LTO", 1332.7, 0.2, "Raman at 0 K")
    rows = compare("diamond", made_up_spectra(), low, long)
    rows = [replace(r, volume_shift_cm1=-6.0) for r in rows]
    rows = with_anharmonic(rows, [LabelledShift("GAMMA", "LTO", 1300.0, -5.0, 0.3, 2.0, 0.1)], "natural")
    assert rows[0].anharmonic_cm1 == pytest.approx(rows[0].model_cm1 - 5)
    assert rows[0].volume_cm1 == pytest.approx(rows[0].model_cm1 - 11)
    x = next(r for r in rows if r.q_label == "X")
    assert x.anharmonic_cm1 is None and x.volume_cm1 == pytest.approx(x.model_cm1 - 6)
    assert with_anharmonic(rows, [LabelledShift("X", "TA", 1.0, 1.0, 1.0, 1.0, 1.0)], "13C")[1].anharmonic_cm1 is None
    harmonic, form = [Measured("GAMMA", "LTO", 1346.2, 2.1, "")], {"GAMMA": {"LTO": 4.2}}
    table = frequency_table(rows, "t", "MP2", harmonic, None, form, ["L", "X"], shift_notes([], 300.0))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100 and any("+anharmonic   +volume" in line for line in lines)
    assert any(f"{rows[0].anharmonic_cm1:.1f}" in line and f"{rows[0].volume_cm1:.1f}" in line for line in lines)
    assert "300 K" in " ".join(lines)


def test_the_lattice_constant_of_the_nearest_composition_is_taken() -> None:
    lih = reference("lih").select(kind="experiment", quantity="lattice_constant")
    found = {name: lattice_constant_of(name, lih) for name in ("natural", "LiD", "7LiD", "7LiH")}
    assert {k: m.value for k, m in found.items() if m is not None} == {
        "natural": 4.0836,
        "LiD": 4.0692,
        "7LiD": 4.0692,
        "7LiH": 4.0836,
    }
    assert lattice_constant_of("natural", []) is None


def test_old_tables_without_the_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "material,isotope,q_label,qx,qy,qz,branch,experiment_cm1,experiment_sigma_cm1,source,low_level_cm1,"
        "model_cm1,model_sigma_cm1\nm,natural,X,0,0,0,TA,,,,,800.00,\n"
    )
    assert read_csv(tmp_path / "c.csv")[0].volume_cm1 is None
