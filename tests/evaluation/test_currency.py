"""A finished evaluation is taken as it is until something it depends on changes, and says what that is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from twin_runs import QUICK, TWIN, write_run

from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation import currency
from mlffx.evaluation.control_runs import CONTROLS
from mlffx.evaluation.entry import entry_point
from mlffx.evaluation.measured import experiment
from mlffx.evaluation.stored import Run, read_measured, write_measured
from mlffx.potentials.build import save_potential

ASKED = ["phonons=quick", "phonons.mesh=5", "phonons.points_per_segment=5", "samples=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_run(tmp_path_factory.mktemp("current") / "low", [twin_potentials(TWIN)["low"]], "direct", "low")
    entry_point([f"run={path}", *ASKED])
    return path


def now(path: Path) -> dict:
    return currency.ingredients(path, QUICK, "none", 4, 1.0)


def test_a_second_call_repeats_nothing_and_shows_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "evaluation" / "phonons.json").stat().st_mtime_ns
    entry_point([f"run={run}", *ASKED])
    told = capsys.readouterr().out
    assert (run / "evaluation" / "phonons.json").stat().st_mtime_ns == before
    assert "nothing has changed" in told and "GAMMA" in told and "The twin's true phonons" in told
    entry_point([f"run={run}", *ASKED, "force=true"])
    assert (run / "evaluation" / "phonons.json").stat().st_mtime_ns > before


def test_whatever_decides_makes_it_outdated(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "low"
    shutil.copytree(run, path)
    folder = path / "evaluation"
    currency.stamp(folder, now(path), ["shuffled"], {"enabled": False}, 1.0)
    assert currency.outdated(folder, now(path)) is None
    assert currency.outdated(folder, now(path), ["shuffled"], {"enabled": False}) is None
    other = currency.ingredients(path, replace(QUICK, mesh=7), "none", 4, 1.0)
    assert currency.outdated(folder, other) == "phonons.mesh was 9, is 7"
    missing = [name for name in CONTROLS if name != "shuffled"]
    assert currency.outdated(folder, now(path), "all") == f"without the controls {', '.join(missing)}"
    assert currency.outdated(folder, now(path), (), {"temperature": 300}) == "without dynamics"
    save_potential(twin_potentials(TWIN)["high"], path / "checkpoints" / "best.ckpt")
    assert currency.outdated(folder, now(path)) == "checkpoints.checkpoints/best.ckpt changed"


def test_a_lost_file_or_an_interrupted_evaluation_is_made_again(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "low" / "evaluation"
    shutil.copytree(run / "evaluation", folder)
    currency.stamp(folder, {}, [], {}, 1.0)
    assert currency.outdated(folder, {}) is None
    (folder / "report.html").unlink()
    assert currency.outdated(folder, {}) == "it was not made yet"


def test_dynamics_are_asked_for_by_what_decides_about_them(tmp_path: Path) -> None:
    for name in currency.PRODUCTS:
        (tmp_path / name).touch()
    currency.stamp(tmp_path, {}, [], {"temperature": 300, "progress": True}, 1.0)
    assert currency.outdated(tmp_path, {}, (), {"temperature": 300, "progress": False}) is None
    assert currency.outdated(tmp_path, {}) is None  # more than is asked for
    assert currency.outdated(tmp_path, {}, (), {"temperature": 20}) == "dynamics.temperature was 300, is 20"


def test_everything_shown_can_be_read_back(run: Path) -> None:
    again = Run.read(run)
    content = json.loads((run / "evaluation" / "phonons.json").read_text())
    point = again.spectra.points["X"]
    assert float(again.mode("X", "TA").mean) == pytest.approx(content["frequencies_cm1"]["X"]["TA"]["mean"], abs=1e-3)  # type: ignore[union-attr]
    assert point.branches == tuple(content["frequencies_cm1"]["X"])
    assert [v.name for v in again.verdicts] == [v["name"] for v in content["verdicts"]]
    assert again.truth is not None and again.low_level is None


def test_measured_values_come_back_with_their_places(tmp_path: Path) -> None:
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
    measured = experiment("lih", crystal)
    placed = replace(measured, elsewhere=[replace(m, places=(0.5, 2.0)) for m in measured.elsewhere])
    write_measured(placed, tmp_path / "measured.json")
    assert placed.elsewhere and repr(read_measured(tmp_path / "measured.json")) == repr(placed)


def test_a_run_that_was_never_evaluated_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate the run first"):
        Run.read(tmp_path)
