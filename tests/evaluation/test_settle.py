"""The settling test on a twin, where the true difference is known: right potentials pass, wrong ones do not."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms

from mlffx.data.crystal import Crystal
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.currency import ingredients, outdated
from mlffx.evaluation.figures.settle import settle_figure
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.members import Members, gather
from mlffx.evaluation.recalibration import LEAST_SQUARES
from mlffx.evaluation.run import evaluate
from mlffx.evaluation.settle import settle
from mlffx.evaluation.settle_control import report_table, twin_labels, write_csv
from mlffx.evaluation.settle_labels import SettleLabels, read_settle
from mlffx.evaluation.settle_structures import Plan, settle_structures
from mlffx.evaluation.settle_verdict import verdict
from mlffx.lattice import Phonons, autodiff, conventional_matrix, labelled_frequencies, masses_of
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.build import save_potential
from mlffx.potentials.sum import SumPotential
from mlffx.training.closed_form import fit_in_closed_form
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

CONF = Path(__file__).resolve().parents[2] / "conf"
NOISE = 2e-5  # eV a cell
PLAN = Plan(projected=(0.06, 0.10, 0.14, 0.18))


@pytest.fixture(scope="module")
def settings() -> TrainSettings:
    """Force constants on the difference of the levels of a rocksalt twin of 8 atoms."""
    data = yaml.safe_load((CONF / "data" / "ionic_twin.yaml").read_text())
    data |= {"repetitions": [1, 1, 1], "n_frames": 80, "max_temperature": 300}
    data |= {"validation_size": 5, "test_size": 5, "noise": {"high": NOISE}}
    model = {"name": "force_constants", "cutoff": 4.2}
    return TrainSettings.read({"data": data, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": model})


@pytest.fixture(scope="module")
def task(settings: TrainSettings) -> Task:
    return prepare(settings)


@pytest.fixture(scope="module")
def crystal(task: Task) -> Crystal:
    assert task.dataset.crystal is not None
    return task.dataset.crystal


@pytest.fixture(scope="module")
def frames(crystal: Crystal) -> list[Atoms]:
    return settle_structures(crystal, crystal.supercell(conventional_matrix(crystal, 1)), PLAN)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, settings: TrainSettings, frames: list[Atoms]) -> Path:
    """The structures with the twin's energies, the high level with noise."""
    path, rng = tmp_path_factory.mktemp("settle") / "labels.xyz", np.random.default_rng(3)
    for level, potential in twin_potentials(settings.data).items():
        values = evaluate_atoms(potential, frames, forces=False).energies
        values = values + (NOISE * rng.normal(size=len(values)) if level == "high" else 0)
        for frame, energy in zip(frames, values, strict=True):
            frame.info[f"{level}_energy"] = energy
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.fixture(scope="module")
def labels(file: Path, crystal: Crystal) -> SettleLabels:
    return read_settle(file, crystal, masses_of(crystal.numbers))


def fitted(settings: TrainSettings, task: Task, folder: Path) -> tuple[Members, Members]:
    base = twin_potentials(settings.data)["low"]
    folder.mkdir()
    fit_in_closed_form(settings, task, 0, RunDirectory(folder), base)
    members = gather(folder, n_samples=12)
    return members, Members([base], "single")


def test_structures_cover_every_mode(frames: list[Atoms]) -> None:
    kinds = [f.info["settle"] for f in frames]
    assert kinds.count("reference") == 1
    assert kinds.count("force") == 2 * (24 + 4 * 2)
    assert kinds.count("mode") == 7 * 2 + 3  # 7 rays, two amplitudes, and one opposite sign a block
    assert {f.info["settle_block"] for f in frames if "settle_block" in f.info} == {"GAMMA TO", "X LA LO", "X TA TO"}
    pair = [f for f in frames if f.info.get("settle_direction") == "random 1"][:2]
    assert np.linalg.norm(pair[0].positions - pair[1].positions) == pytest.approx(2 * PLAN.random_step)


def test_modes_of_one_kind_that_symmetry_keeps_apart_have_names_of_their_own() -> None:
    crystal = Crystal.from_prototype("zincblende", ["B", "N"], 3.6157)
    frames = settle_structures(crystal, crystal.supercell(conventional_matrix(crystal, 1)), PLAN)
    found = list(dict.fromkeys(str(f.info["settle_block"]) for f in frames if f.info["settle"] == "mode"))
    assert found == ["GAMMA TO", "X L(B)", "X L(N)", "X TA TO"]


def test_configurations_may_be_like_the_labels(crystal: Crystal) -> None:
    supercell = crystal.supercell(conventional_matrix(crystal, 1))
    labelled = np.random.default_rng(0).normal(size=(200, 8, 3)) * [0.1, 0.02, 0.001]  # A along x, y, z
    plan = replace(PLAN, projected=(1.0,) * 40, full=(), directions=1, random_step=1e-6)
    frames = settle_structures(crystal, supercell, plan, labelled)
    u = np.array([f.positions for f in frames if f.info["settle"] == "force"]) - supercell.positions
    np.testing.assert_allclose(u.std(axis=(0, 1)), [0.1, 0.02, 0.001], rtol=0.2)
    assert np.abs(u.mean(axis=1)).max() < 1e-6


def test_a_plan_in_proportion() -> None:
    plan = Plan().scaled(0.105)
    assert max(plan.projected) == pytest.approx(0.105) and plan.amplitudes == pytest.approx((0.025, 0.05))
    assert plan.step == pytest.approx(0.025) and plan.full == pytest.approx((0.06,))


def test_frozen_phonons_are_the_phonons(settings: TrainSettings, labels: SettleLabels, crystal: Crystal) -> None:
    """Frequencies made of energies are those of the force constants, at every q-point of the cell."""
    low = twin_potentials(settings.data)["low"]
    truth = labelled_frequencies(Phonons(autodiff(low, crystal, conventional_matrix(crystal, 1))))
    for block in labels.blocks:
        for name, value in zip(block.branches, block.frequencies(labels.energies["low"]), strict=True):
            assert value == pytest.approx(truth[block.label][name], rel=2e-3)


def test_finite_differences_are_the_forces(settings: TrainSettings, labels: SettleLabels, frames: list[Atoms]) -> None:
    low = twin_potentials(settings.data)["low"]
    found = labels.forces(labels.energies["low"])
    for p, value in zip(labels.projections, found, strict=True):
        middle = frames[p.plus].copy()
        middle.positions = 0.5 * (frames[p.plus].positions + frames[p.minus].positions)
        move = frames[p.plus].positions - frames[p.minus].positions
        force = evaluate_atoms(low, [middle]).forces
        assert force is not None
        assert value == pytest.approx((force[0] * move).sum() / np.linalg.norm(move), abs=5e-3)


def test_sensitivity_is_the_derivative(labels: SettleLabels) -> None:
    block, energies = labels.blocks[-1], labels.energies["low"]
    exact = block.sensitivity(energies)
    k = int(np.abs(exact[1]).argmax())
    step = np.zeros(len(energies))
    step[k] = 1e-5
    numeric = (block.frequencies(energies + step) - block.frequencies(energies - step)) / 2e-5
    assert numeric == pytest.approx(exact[:, k], rel=1e-4)


def test_a_right_delta_passes(settings: TrainSettings, task: Task, labels: SettleLabels, tmp_path: Path) -> None:
    """Fitted to energies of other structures with noise; the noise is found back in the labels of the test.

    Sigma is scaled as evaluate.py scales it: of nearly noiseless labels the truncated expansion is what is left.
    """
    matches = task.dataset.matches or []
    trained = [m.displacements[np.argsort(m.order)] for m in matches]
    found = settle(*fitted(settings, task, tmp_path / "run"), labels, "high", "low", trained, scale=LEAST_SQUARES)
    assert found.forces is not None and found.modes is not None
    result = verdict(found)
    assert result.word == "pass", result.statement
    assert found.forces.explained > 0.9 and found.modes.recovered == pytest.approx(1, abs=0.1)
    assert 0.3 * NOISE < found.noise < 3 * NOISE
    assert found.nearest is not None and found.nearest > 0.02


def test_shuffled_labels_fail(settings: TrainSettings, task: Task, labels: SettleLabels, tmp_path: Path) -> None:
    energies = task.energies.copy()
    train = task.split.train
    energies[train] = energies[np.random.default_rng(0).permutation(train)]
    wrong = replace(task, energies=energies)
    found = settle(*fitted(settings, wrong, tmp_path / "run"), labels, "high", "low")
    assert verdict(found).word == "fail", verdict(found).statement


def test_the_base_alone_fails(settings: TrainSettings, labels: SettleLabels) -> None:
    low = twin_potentials(settings.data)["low"]
    found = settle(Members([low], "single"), Members([low], "single"), labels, "high", "low")
    assert verdict(found).word == "fail"
    assert found.forces is not None and found.forces.recovered == 0


def test_the_exact_difference_needs_a_sigma_to_pass(settings: TrainSettings, labels: SettleLabels) -> None:
    exact = twin_potentials(settings.data)
    found = settle(Members([exact["high"]], "single"), Members([exact["low"]], "single"), labels, "high", "low")
    assert found.forces is not None and found.modes is not None
    assert found.forces.explained == pytest.approx(1, abs=0.02)
    assert np.sqrt(np.mean((found.forces.missed / found.forces.shift_noise) ** 2)) < 2  # nothing but label noise
    assert verdict(found).word == "inconclusive" and "no sigma" in verdict(found).statement


def test_a_file_cut_short_is_used_as_far_as_it_goes(file: Path, crystal: Crystal, tmp_path: Path) -> None:
    frames = ase.io.read(file, index=":")
    assert isinstance(frames, list)
    for frame in frames[12:15]:
        del frame.info["high_energy"]
    ase.io.write(tmp_path / "part.xyz", frames[:31], format="extxyz")
    part = read_settle(tmp_path / "part.xyz", crystal, masses_of(crystal.numbers)).labelled(["high"])
    assert [b.branches for b in part.blocks] == [("TO",), ("LA", "LO")] and len(part.projections) == 6


def test_mistakes_are_told(file: Path, crystal: Crystal, labels: SettleLabels, tmp_path: Path) -> None:
    masses = masses_of(crystal.numbers)
    with pytest.raises(UserError, match="no such file"):
        read_settle(tmp_path / "absent.xyz", crystal, masses)
    with pytest.raises(UserError, match="no energies of level 'ccsdt'"):
        labels.labelled(["ccsdt"])
    frames = ase.io.read(file, index=":")
    assert isinstance(frames, list)
    del frames[3].info["settle"]
    ase.io.write(tmp_path / "bad.xyz", frames, format="extxyz")
    with pytest.raises(UserError, match="frame 3 does not say what it is for"):
        read_settle(tmp_path / "bad.xyz", crystal, masses)
    with pytest.raises(UserError, match="frame 0"):
        read_settle(file, Crystal.from_prototype("rocksalt", ["Na", "Cl"], 5.6), masses)


def test_what_is_written(settings: TrainSettings, labels: SettleLabels, tmp_path: Path) -> None:
    exact = twin_potentials(settings.data)
    members = Members([exact["high"], exact["high"]], "ensemble")
    found = settle(members, Members([exact["low"]], "single"), labels, "high", "low")
    write_csv(found, tmp_path / "settle.csv")
    with (tmp_path / "settle.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [r["name"] for r in rows if r["kind"] == "frequency"][:2] == ["GAMMA TO", "X LA"]
    assert float(rows[0]["high"]) - float(rows[0]["low"]) == pytest.approx(float(rows[0]["shift"]), abs=2e-4)
    table = report_table(verdict(found))
    assert table is not None
    heads, lines = table
    assert heads[1:4] == ["HIGH, true", "predicted", "LOW, true"] and all(len(line) == len(heads) for line in lines)
    assert lines[0][0] == "Γ TO, cm⁻¹" and lines[5][0] == "configuration 0, 24 forces, rms, meV/Å"
    axes = settle_figure(found).axes
    assert len(axes) == 2 and [t.get_text() for t in axes[1].get_xticklabels()] == [
        "Γ TO",
        "X LA",
        "X LO",
        "X TA",
        "X TO",
    ]


def test_in_an_evaluation(settings: TrainSettings, task: Task, file: Path, tmp_path: Path) -> None:
    """`settle=FILE` adds the verdict, the files, table and figure of the report; new labels make it outdated."""
    run, exact = tmp_path / "run", twin_potentials(settings.data)
    run.mkdir()
    config = {"data": settings.data, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": settings.model}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    delta = SumPotential({"plus": exact["high"], "minus": exact["low"]})
    save_potential(SumPotential({"base": exact["low"], "delta": delta}), run / "checkpoints" / "best.ckpt")
    phonons = PhononSettings(supercell=1, mesh=9, pitch=8.0, points_per_segment=5, cross_check=False)
    result = evaluate(run, phonons, settle=file, progress=False, reference="none")
    (found,) = [v for v in result.verdicts if v.name == "settle"]
    assert found.word == "fail", found.statement  # the sum of both levels is no difference
    page = (run / "evaluation" / "report.html").read_text()
    assert "Against finite differences of the high level itself" in page and "X TO, cm⁻¹" in page
    assert (run / "evaluation" / "controls" / "settle.csv").is_file()
    now = ingredients(run, phonons, "none", 16, 1.0, file)
    assert outdated(run / "evaluation", now) is None
    changed = tmp_path / "changed.xyz"
    changed.write_text(file.read_text().replace("random 1", "random one"))
    assert "settle" in str(outdated(run / "evaluation", ingredients(run, phonons, "none", 16, 1.0, changed)))
    with pytest.raises(UserError, match="no such file"):
        evaluate(run, phonons, settle=tmp_path / "absent.xyz", progress=False)


def test_a_twin_labels_itself(settings: TrainSettings, task: Task, labels: SettleLabels, crystal: Crystal) -> None:
    own = twin_labels(settings.data, task.dataset.atoms[0], crystal, masses_of(crystal.numbers), 0.21).labelled(
        ["high"]
    )
    assert len(own.projections) == 12 and not any(p.component for p in own.projections)
    for block, other in zip(own.blocks, labels.blocks, strict=True):
        found = block.frequencies(own.energies["low"])
        assert found == pytest.approx(other.frequencies(labels.energies["low"]), rel=1e-9)
