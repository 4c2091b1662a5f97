"""A whole evaluation on a real run directory of the analytic twin, whose phonons are known exactly."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from twin_runs import QUICK, TWIN, difference, write_run

from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.members import fingerprint, gather
from mlffx.evaluation.overlay import Run, learning_points, overlay
from mlffx.evaluation.run import Evaluation, evaluate, show
from mlffx.evaluation.spectra import load_spectra
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.sum import SumPotential
from mlffx.training.run_directory import load_members


@pytest.fixture(scope="module")
def evaluation(delta_run: Path) -> Evaluation:
    return evaluate(delta_run, QUICK, command="python evaluate.py run=delta")


def test_the_contract_of_the_run_directory_is_kept(evaluation: Evaluation) -> None:
    names = {p.name for p in evaluation.directory.iterdir()}
    assert {
        "phonons.json",
        "comparison.csv",
        "phonopy_params.yaml",
        "report.html",
        "dispersion.pdf",
        "dispersion.png",
    } <= names
    stored = json.loads((evaluation.directory / "phonons.json").read_text())
    assert list(stored["frequencies_cm1"]) == ["GAMMA", "X", "L", "W", "K"]
    assert set(stored["frequencies_cm1"]["GAMMA"]) == {"LTO"} and set(stored["frequencies_cm1"]["X"]) == {
        "TA",
        "TO",
        "LA",
    }
    assert all(set(b) == {"mean", "sigma"} for p in stored["frequencies_cm1"].values() for b in p.values())
    keys = (
        "displacement",
        "supercell",
        "symmetrisation",
        "nac",
        "mesh",
        "masses",
        "lattice_constant",
        "package_versions",
    )
    assert all(key in stored["protocol"] for key in keys)
    assert stored["protocol"]["displacement"] == 0.01 and stored["protocol"]["lattice_constant"] == pytest.approx(
        3.56074511
    )
    with (evaluation.directory / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["q_label"] for r in rows} == {"GAMMA", "X", "L", "W", "K"}
    assert all(r["experiment_cm1"] == "" and r["source"] == "" for r in rows)  # a twin has no experiment
    assert all(float(r["model_cm1"]) > float(r["low_level_cm1"]) > 0 for r in rows if r["branch"] == "LTO")


def test_frequencies_are_those_of_the_potentials(evaluation: Evaluation, diamond: Crystal) -> None:
    exact = Phonons.load(evaluation.directory / "phonopy_params.yaml").frequencies([0.0, 0.0, 0.0])[0].max()
    model = evaluation.model.points["GAMMA"].estimate()
    assert model.mean[-1] == pytest.approx(exact, abs=0.05)  # mean of frequencies and frequency of the mean
    assert evaluation.truth is not None
    truth = evaluation.truth.points["GAMMA"].frequencies[0, -1]
    assert abs(model.mean[-1] - truth) < model.sigma[-1]  # the members scatter about the truth
    assert next(v for v in evaluation.verdicts if v.name == "truth").word == "pass"


def test_energies_of_the_differences_are_judged_not_those_of_the_base(evaluation: Evaluation) -> None:
    found = evaluation.residuals
    assert found is not None and found.held_out.sum() == 6 and len(found.label) == 24
    assert found.mae(True) < 0.05 * np.ptp(found.label)  # members scaled by 0.95 ... 1.05, their mean is exact


def test_spectra_can_be_read_back_without_the_potentials(evaluation: Evaluation) -> None:
    stored = load_spectra(evaluation.directory / "spectra.npz")
    assert set(stored) == {"model", "low_level", "exact"}
    assert np.array_equal(stored["model"].bands, evaluation.model.bands)
    assert stored["model"].points["X"].branches == evaluation.model.points["X"].branches
    assert stored["model"].path.ticks == evaluation.model.path.ticks
    integral = np.trapezoid(stored["model"].dos_estimate().mean, stored["model"].grid)
    assert integral == pytest.approx(6, rel=0.03)


def test_console_table_names_everything(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    show(evaluation, Console(width=100))
    text = capsys.readouterr().out
    for word in ("GAMMA", "LTO", "LOW", "model", "sigma", "exact", "report:"):
        assert word in text


def test_imaginary_modes_are_reported_everywhere(tmp_path: Path) -> None:
    low = twin_potentials(TWIN)["low"]
    soft = SumPotential({"base": low, "delta": difference(-15.0)})  # many times the shift, downwards
    result = evaluate(write_run(tmp_path / "soft", [soft]), QUICK)
    stored = json.loads((result.directory / "phonons.json").read_text())
    assert stored["imaginary_modes"] and any("imaginary" in w for w in stored["warnings"])
    assert "imaginary" in (result.directory / "report.html").read_text()
    assert any("no sigma" in w for w in stored["warnings"])
    assert stored["frequencies_cm1"]["X"]["TA"]["sigma"] is None


def test_a_direct_run_has_no_low_level(tmp_path: Path) -> None:
    run = write_run(tmp_path / "direct", [twin_potentials(TWIN)["low"]], kind="direct", level="low")
    result = evaluate(run, QUICK)
    assert result.low_level is None
    assert all(r.low_level_cm1 is None for r in result.rows)
    assert json.loads((result.directory / "phonons.json").read_text())["shift_cm1"] is None


def test_paths_that_are_no_runs_are_refused_in_one_line(tmp_path: Path, delta_run: Path) -> None:
    with pytest.raises(UserError, match="no such run directory"):
        load_members(tmp_path / "nothing")
    with pytest.raises(UserError, match="no run directory"):
        evaluate(tmp_path, QUICK)
    (tmp_path / "members" / "0").mkdir(parents=True)
    with pytest.raises(UserError, match="no member"):
        load_members(tmp_path)


def test_members_are_read_in_order_and_unfinished_ones_left_out(delta_run: Path, tmp_path: Path) -> None:
    assert len(load_members(delta_run)) == 4
    found = gather(delta_run)
    assert found.kind == "ensemble" and len({fingerprint(p) for p in found.potentials}) == 4
    low = found.low_level()
    assert low is not None and len(low.potentials) == 1  # one base for all, evaluated once


def test_runs_are_laid_over_each_other(evaluation: Evaluation, delta_run: Path, tmp_path: Path) -> None:
    other = write_run(
        tmp_path / "other", [SumPotential({"base": twin_potentials(TWIN)["low"], "delta": difference(0.9)})]
    )
    evaluate(other, QUICK)
    found = overlay([delta_run, other], tmp_path / "out", names=["four members", "one"])
    assert [run.spectra.name for run in found] == ["four members", "one"]
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert lines[0].startswith("run,name,level,q_label,branch,cm1,sigma_cm1") and len(lines) > 20
    page = (tmp_path / "out" / "report.html").read_text()
    assert "high, all models" in page and "four members" in page
    for k, run in enumerate((delta_run, other)):
        errors = {"train_frames": 10 + 4 * k, "test_difference_energy_mae_meV_per_atom": 0.2 - 0.1 * k}
        (run / "metrics.json").write_text(json.dumps(errors))
    (points,) = learning_points(found).values()
    assert [(p.n_train, p.energy_mae) for p in points] == [(10, 0.2), (14, 0.1)]
    overlay([delta_run, other], tmp_path / "out")
    assert (tmp_path / "out" / "learning_curves.png").is_file()
    with pytest.raises(UserError, match="two runs"):
        overlay([delta_run], tmp_path / "out")
    assert Run.read(delta_run).mode("GAMMA", "LTO") is not None


def test_dynamics_stand_beside_the_harmonic_density(tmp_path: Path) -> None:
    short = {"supercell": 1, "replicas": 3, "production_ps": 0.45, "equilibration_ps": 0.1, "resolution_cm1": 120}
    settings = short | {"n_bootstrap": 20, "effective": False, "snapshot_step_fs": 50, "progress": False}
    run = write_run(tmp_path / "direct", [twin_potentials(TWIN)["low"]], kind="direct", level="low")
    result = evaluate(run, QUICK, dynamics=settings)
    assert result.dynamics is not None
    assert np.trapezoid(result.dynamics.full.total, result.dynamics.full.grid) == pytest.approx(6, rel=0.15)
    assert (result.directory / "figures" / "anharmonic_dos.png").stat().st_size > 5000
    assert "molecular dynamics" in (result.directory / "report.html").read_text()
    assert json.loads((result.directory / "phonons.json").read_text())["dynamics"]["sigma_a"]["total"][0] > 0
    shifted = {(r.q_label, r.branch): r.anharmonic_shift_cm1 for r in result.rows if r.anharmonic_cm1 is not None}
    assert shifted and shifted == {(s.label, s.branch): s.shift for s in result.anharmonic_shifts}
    assert "<th>+anharmonic</th>" in (result.directory / "report.html").read_text()
    assert evaluate(run, QUICK, dynamics={"enabled": False}).dynamics is None
