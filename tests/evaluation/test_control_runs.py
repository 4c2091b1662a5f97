"""Controls of a real run: force constants above the exact low level of a twin, fitted in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from twin_runs import QUICK, TWIN, made_up_spectra

from mlffx.data.twin import twin_potentials
from mlffx.evaluation import control_context
from mlffx.evaluation.cheap_bases import cheap_base
from mlffx.evaluation.control_context import Context, fit_one
from mlffx.evaluation.control_form import model_form
from mlffx.evaluation.control_runs import CONTROLS, run_controls
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.harmonic import PhononSettings, force_constants, spectra
from mlffx.evaluation.members import gather
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import small_sample_factor
from mlffx.potentials.batched import evaluate_atoms
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare

PHONONS = replace(QUICK, mesh=3, points_per_segment=3)


def context(path: Path, phonons: PhononSettings = PHONONS) -> Context:
    """Of a run that has been trained, as an evaluation makes it."""
    run, track = RunDirectory(path), Tracker(False)
    settings = TrainSettings.read(run.read_config())
    task, members = prepare(settings), gather(path, 4)
    crystal = task.dataset.crystal
    assert crystal is not None
    model = spectra("run", force_constants(members, crystal, phonons, track), phonons, track, density_of_states=False)
    return Context(run, settings, task, members, model, crystal, phonons, track)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("controls") / "run"
    config = {
        "data": TWIN | {"n_frames": 70},
        "level": {"name": "high"},
        "potential": {"kind": "delta"},
        "model": {"name": "force_constants", "cutoff": 3.0},
    }
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    settings = TrainSettings.read(config)
    fit_one(settings, prepare(settings), RunDirectory(path), twin_potentials(TWIN)["low"])
    return path


def verdict(run: Path, name: str) -> Verdict:
    return run_controls([name], context(run))[0]


def test_a_cheap_base_is_judged_by_forces_never_trained_on(run: Path) -> None:
    found = verdict(run, "cheap_base")
    assert found.name == "cheap_base" and "Tersoff alone is off by" in found.statement
    numbers = found.numbers
    assert numbers["composed_rms_error_meV_per_A"] < 0.5 * numbers["base_rms_error_meV_per_A"]
    assert numbers["alone_rms_error_meV_per_A"] < numbers["base_rms_error_meV_per_A"]


def test_the_composed_potential_is_base_and_difference(run: Path) -> None:
    verdict(run, "cheap_base")
    fitted = gather(run / "evaluation" / "controls" / "cheap-base").fitted[0]
    atoms = [prepare(TrainSettings.read(RunDirectory(run).read_config())).dataset.atoms[5]]
    base = cheap_base(context(run).crystal)
    assert base is not None
    found, below = (evaluate_atoms(p, atoms) for p in (fitted, base[1]))
    assert found.forces is not None and below.forces is not None
    assert below.energies[0] / len(atoms[0]) == pytest.approx(-7.37, abs=0.02)  # Tersoff's cohesive energy of diamond
    assert np.abs(found.forces[0] - below.forces[0]).max() > 1e-3
    step = atoms[0].copy()
    step.positions[0, 0] += 1e-4
    back = atoms[0].copy()
    back.positions[0, 0] -= 1e-4
    energies = evaluate_atoms(fitted, [step, back], forces=False).energies
    assert found.forces[0][0, 0] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-5)


def test_range_and_form_are_varied_and_make_the_model_form(run: Path) -> None:
    c = context(run)
    cutoff, architecture = run_controls(["cutoff", "architecture"], c)
    assert cutoff.name == "cutoff" and set(cutoff.numbers["variants"]) == {"2.40 Å", "3.60 Å"}
    assert set(architecture.numbers["variants"]) == {"without angles", "to sixth order"}
    form = model_form(c.model, [cutoff, architecture])
    assert set(form) == {"GAMMA", "X", "L"} and all(f > 0 for branches in form.values() for f in branches.values())
    assert model_form(c.model, []) == {}


def test_uncertain_variants_weigh_little_in_the_model_form() -> None:
    model = made_up_spectra()
    modes = [f"{p} {b}" for p, point in model.points.items() for b in point.branches]
    own = {mode: float(v) for mode, v in zip(modes, _means(model), strict=True)}

    def variant(change: float, sigma: float | None) -> Verdict:
        return Verdict(
            "v", "v", "pass", "", {"variants": {"v": {mode: [m + change, sigma] for mode, m in own.items()}}}
        )

    same, sure, unsure = (model_form(model, [variant(*v)])["X"]["TA"] for v in ((0.0, 1.0), (50.0, 1.0), (50.0, 1e3)))
    assert same == pytest.approx(0, abs=1e-6)
    assert sure == pytest.approx(np.std([0, 50], ddof=1) * small_sample_factor(2))
    assert unsure < 0.1 * sure
    assert model_form(model, [variant(50.0, None)])["X"]["TA"] == pytest.approx(sure)


def _means(model: Spectra) -> list[float]:
    return [float(f) for point in model.points.values() for f in point.estimate().mean]


def test_what_is_finished_is_not_repeated(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = verdict(run, "cutoff")
    monkeypatch.setattr(control_context, "fit_one", lambda *a: pytest.fail("fitted again"))
    monkeypatch.setitem(CONTROLS, "cutoff", lambda c: pytest.fail("judged again"))
    assert verdict(run, "cutoff").statement == first.statement
    other = context(run, replace(PHONONS, displacement=0.02))  # another way to compute phonons: fits stay, verdict not
    monkeypatch.undo()
    monkeypatch.setattr(control_context, "fit_one", lambda *a: pytest.fail("fitted again"))
    assert run_controls(["cutoff"], other)[0].word in ("pass", "fail", "inconclusive")
